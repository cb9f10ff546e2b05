# SPDX-License-Identifier: Apache-2.0
"""What operators do from afar, on the admin listener: `weir quota`, `plan`, `apply`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from weir.errors import InvalidRequest, UnknownName
from weir_client._client import Client
from weir_client._limits import PolicyDifference, Quota
from weir_client.cli.books import balances, currencies
from weir_client.cli.documents import Document, located, read_policy
from weir_client.cli.output import Session, connected

_REASON = click.option("--reason", required=True, help="Why; it is logged.")
_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
_PLURALS = {"party": "parties", "gates": "gates"} | {
    kind: f"{kind}s" for kind in ("contract", "quota", "assessment", "certificate", "linkage")
}
_METRICS = ("queries", "cells", "epsilon_nano", "rho_micro", "encrypted_operations", "bytes", "price_micro")


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (quota, plan, apply):
        group.add_command(command)


@click.group()
def quota() -> None:
    """Show or set limits."""


@quota.command("show")
@connected
def show_quotas(session: Session) -> None:
    """Show every quota with what is used of it."""
    with session.client() as client:
        found = client.list_quotas()
        known = {} if session.as_json else currencies(client)
    session.show(found, lambda: balances(found, known))


@quota.command("set")
@click.argument("id")
@click.option("--limit", required=True, type=click.IntRange(min=0), help="Most that may be used in a window.")
@click.option("--metric", type=click.Choice(_METRICS), help="For a new quota: what is counted.")
@click.option("--requester", help="For a new quota: only this requester.")
@click.option("--contract", help="For a new quota: only this contract.")
@click.option("--dataset", help="For a new quota: only this dataset.")
@click.option("--lineage", help="For a new quota: only datasets of this lineage.")
@click.option("--window", type=click.Choice(["lifetime", "day", "month"]), help="For a new quota.")
@click.option("--zone", help="For a new quota: IANA zone of calendar windows.")
@_REASON
@connected
def set_quota(session: Session, id: str, limit: int, reason: str, **shape: str | None) -> None:
    """Set the limit of a quota, or make a new one. What is used is kept."""
    given = {name: value for name, value in shape.items() if value is not None}
    with session.client() as client:
        balance = client.set_quota(_quota(client, id, limit, given), reason=reason)
    session.show(balance, lambda: balances([balance]))


@click.command()
@_PATHS
@connected
def plan(session: Session, paths: tuple[Path, ...]) -> None:
    """Show what applying policy files (or folders of them) would change."""
    documents = read_policy(paths)
    with session.client() as client:
        difference = _compare(client, documents)
    _show_difference(session, difference, applied=False)


@click.command()
@_PATHS
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan-hash", help="Hash printed by `weir plan`: refuse if anything moved since.")
@connected
def apply(session: Session, paths: tuple[Path, ...], yes: bool, plan_hash: str | None) -> None:
    """Apply policy files (or folders of them): they become the whole policy."""
    documents = read_policy(paths)
    with session.client() as client:
        difference = _compare(client, documents)
        if plan_hash is not None and plan_hash != difference.plan_hash:
            raise InvalidRequest(
                "files or policy moved since that plan; look at `weir plan` again", field="plan_hash", rule="plan.moved"
            )
        # What is not among the files goes: one file given would remove all the rest, unasked where nobody looks.
        asks = not session.as_json or bool(removed(difference))
        if not yes and plan_hash is None and asks:
            click.echo(_difference_text(difference), err=session.as_json)
            click.confirm("Apply?", abort=True, err=True)
        # The hash that was looked at, so that nothing can come between this look and the act.
        applied = client.apply_policy([item.text for item in documents], plan_hash=difference.plan_hash)
    _show_difference(session, applied, applied=True)


def read_documents(paths: tuple[Path, ...]) -> list[str]:
    """Texts of the documents of files and folders. Raises: as `read_policy`."""
    return [document.text for document in read_policy(paths)]


def _compare(client: Client, documents: Sequence[Document]) -> PolicyDifference:
    """What applying them would change.

    Raises:
        InvalidRequest: the service refuses them; each fault names file and line.
    """
    try:
        return client.apply_policy([document.text for document in documents], dry_run=True)
    except InvalidRequest as error:
        raise (located(error, documents) if error.field == "documents" else error) from None


def _quota(client: Client, id: str, limit: int, given: dict[str, str]) -> Quota:
    """The existing quota with another limit, or a new one of the given shape."""
    for balance in client.list_quotas():
        if balance.quota.id == id:
            if any(getattr(balance.quota, name) != value for name, value in given.items()):
                raise InvalidRequest(
                    "metric, scope and window of a quota cannot change; make another one",
                    field="id",
                    rule="quota.shape",
                )
            return replace(balance.quota, limit=limit)
    if "metric" not in given:
        raise UnknownName(f"no quota {id}; give --metric to make it", field="id", rule="quota.unknown")
    return Quota(id=id, limit=limit, **given)


def _show_difference(session: Session, difference: PolicyDifference, *, applied: bool) -> None:
    document = {"applied": applied, "plan_hash": difference.plan_hash, "difference": difference}
    last = "applied" if applied else f"plan hash {difference.plan_hash}"
    session.show(document, lambda: f"{_difference_text(difference)}\n{last}")


def _difference_text(difference: PolicyDifference) -> str:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    lines = []
    for change in difference.changes:
        mark = "  LOOSENS" if change.loosens else ""
        lines.append(f"{signs.get(change.kind, '?')} {change.subject}{mark}")
        lines += [f"    {field}" for field in change.fields]
    if gone := removed(difference):
        lines.append(f"removes {gone}: what is not among these files is no part of the policy")
    return "\n".join(lines) or "nothing changes"


def removed(difference: PolicyDifference) -> str:
    """How much of each kind goes, such as `2 contracts, 1 party`. Empty
    where nothing goes."""
    gone = Counter(change.subject.partition("/")[0] for change in difference.changes if change.kind == "removed")
    return ", ".join(f"{count} {_PLURALS.get(kind, kind) if count > 1 else kind}" for kind, count in gone.items())
