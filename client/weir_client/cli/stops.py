# SPDX-License-Identifier: Apache-2.0
"""`weir suspend`, `weir blacklist`: what is stopped, and stopping it."""

from __future__ import annotations

import click

from weir.errors import InvalidRequest, WeirError
from weir_client._client import Client
from weir_client._governance import Suspension
from weir_client.cli.output import Session, connected, table

_ISSUED = "weir.identity.issued"
_REASON = click.option("--reason", help="Why; it is logged.")
_UNKNOWN = click.option("--unknown", is_flag=True, help="Stop the name although nothing of it is known; no look-ups.")
_NEEDED_REASON = click.option("--reason", required=True, help="Why; it is logged.")


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (suspend, blacklist):
        group.add_command(command)


@click.command()
@click.argument("scope", type=click.Choice(["requester", "contract", "dataset", "all"]), required=False)
@click.argument("name", required=False, default="")
@click.option("--resume", is_flag=True, help="End the stop instead.")
@click.option("--list", "listed", is_flag=True, help="Show what is stopped, and stop nothing.")
@_UNKNOWN
@_REASON
@connected
def suspend(
    session: Session, scope: str | None, name: str, resume: bool, listed: bool, unknown: bool, reason: str | None
) -> None:
    """Stop a requester, contract or dataset, or everything; takes effect on the next stage of running queries."""
    if listed:
        if scope is not None or resume:
            raise click.UsageError("--list stops and resumes nothing")
        _show_stops(session, blacklisted=None)
        return
    if scope is None or (scope == "all") == bool(name):
        raise click.UsageError("name what to stop, and only leave the name out for all")
    if not reason:
        raise click.UsageError("say why: --reason")
    changed = _set(session, scope, name, suspended=not resume, reason=reason, unknown=unknown)
    done = ("resumed" if changed else "was not stopped") if resume else "stopped"
    session.show(
        {"scope": scope, "name": name, "suspended": not resume, "changed": changed}, f"{done}: {scope} {name}".rstrip()
    )


@click.group()
def blacklist() -> None:
    """Requesters none of whose calls is answered, of whatever service."""


@blacklist.command("list")
@connected
def list_blacklist(session: Session) -> None:
    """Show who is on the blacklist."""
    _show_stops(session, blacklisted=True)


@blacklist.command("add")
@click.argument("requester")
@_UNKNOWN
@_NEEDED_REASON
@connected
def add_to_blacklist(session: Session, requester: str, unknown: bool, reason: str) -> None:
    """Refuse every call of a requester, from its next one and the next stage of its running queries on."""
    _set_blacklisted(session, requester, reason, blacklisted=True, unknown=unknown)


@blacklist.command("lift")
@click.argument("requester")
@_NEEDED_REASON
@connected
def lift_from_blacklist(session: Session, requester: str, reason: str) -> None:
    """Answer a requester's calls again."""
    _set_blacklisted(session, requester, reason, blacklisted=False)


def _set_blacklisted(
    session: Session, requester: str, reason: str, *, blacklisted: bool, unknown: bool = False
) -> None:
    changed = _set(session, "blacklist", requester, suspended=blacklisted, reason=reason, unknown=unknown)
    lifted = "no longer on the blacklist" if changed else "was not on the blacklist"
    done = "on the blacklist" if blacklisted else lifted
    session.show({"requester": requester, "blacklisted": blacklisted, "changed": changed}, f"{requester}: {done}")


def _set(session: Session, scope: str, name: str, *, suspended: bool, reason: str, unknown: bool) -> bool:
    """Stops or resumes; gives whether anything was done. A stop is always sent, whatever is stopped already."""
    with session.client() as client:
        if suspended and not unknown and scope != "all":
            _demand_known(client, scope, name)
        if not suspended and not any((stop.scope, stop.name) == (scope, name) for stop in client.suspensions()):
            return False
        client.set_suspension(scope, name, suspended=suspended, reason=reason)
    return True


def _demand_known(client: Client, scope: str, name: str) -> None:
    """Refuses a name that nothing here has: a slip of the pen would report a stop, while whom it was meant for goes on.
    What cannot be looked up is stopped unseen, since a stop is for emergencies.

    Raises:
        InvalidRequest: rule `suspension.unknown`.
    """
    what = "requester" if scope == "blacklist" else scope
    try:
        found = _is_known(client, what, name)
    except WeirError as error:
        click.echo(f"weir: could not look for {what} {name} ({error.message}); stopping it unseen", err=True)
        return
    if not found:
        raise InvalidRequest(
            f"no {what} {name} is known here, and nothing was stopped; --unknown stops the name all the same",
            field="name",
            rule="suspension.unknown",
        )


def _is_known(client: Client, what: str, name: str) -> bool:
    """Whether policy, catalogue or log name it."""
    if what == "requester":
        return any(standing.requester == name for standing in client.standings()) or any(
            entry.event.get("subject") == f"requester/{name}" for entry in client.entries(type=_ISSUED)
        )
    contracts = client.contracts()
    if what == "contract":
        return any(contract.id == name for contract in contracts)
    return any(contract.dataset == name for contract in contracts) or any(
        card.name == name for card in client.datasets()
    )


def _show_stops(session: Session, *, blacklisted: bool | None) -> None:
    with session.client() as client:
        found = [s for s in client.suspensions() if blacklisted is None or (s.scope == "blacklist") == blacklisted]
    session.show(found, lambda: table(("scope", "name", "since"), [_row(stop) for stop in found], empty="Nothing."))


def _row(stop: Suspension) -> tuple[object, ...]:
    return stop.scope, stop.name, stop.since.isoformat(timespec="seconds")
