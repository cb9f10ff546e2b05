# SPDX-License-Identifier: Apache-2.0
"""`weir suspend`, `weir blacklist`: what is stopped, and stopping it."""

from __future__ import annotations

import click

from weir_client._governance import Suspension
from weir_client.cli.output import Session, connected, table

_REASON = click.option("--reason", help="Why; it is logged.")
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
@_REASON
@connected
def suspend(session: Session, scope: str | None, name: str, resume: bool, listed: bool, reason: str | None) -> None:
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
    with session.client() as client:
        client.set_suspension(scope, name, suspended=not resume, reason=reason)
    done = "resumed" if resume else "stopped"
    session.show({"scope": scope, "name": name, "suspended": not resume}, f"{done}: {scope} {name}".rstrip())


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
@_NEEDED_REASON
@connected
def add_to_blacklist(session: Session, requester: str, reason: str) -> None:
    """Refuse every call of a requester, from its next one and the next stage of its running queries on."""
    _set_blacklisted(session, requester, reason, blacklisted=True)


@blacklist.command("lift")
@click.argument("requester")
@_NEEDED_REASON
@connected
def lift_from_blacklist(session: Session, requester: str, reason: str) -> None:
    """Answer a requester's calls again."""
    _set_blacklisted(session, requester, reason, blacklisted=False)


def _set_blacklisted(session: Session, requester: str, reason: str, *, blacklisted: bool) -> None:
    with session.client() as client:
        client.set_suspension("blacklist", requester, suspended=blacklisted, reason=reason)
    done = "on the blacklist" if blacklisted else "no longer on the blacklist"
    session.show({"requester": requester, "blacklisted": blacklisted}, f"{requester}: {done}")


def _show_stops(session: Session, *, blacklisted: bool | None) -> None:
    with session.client() as client:
        found = [s for s in client.suspensions() if blacklisted is None or (s.scope == "blacklist") == blacklisted]
    session.show(found, lambda: table(("scope", "name", "since"), [_row(stop) for stop in found], empty="Nothing."))


def _row(stop: Suspension) -> tuple[object, ...]:
    return stop.scope, stop.name, stop.since.isoformat(timespec="seconds")
