# SPDX-License-Identifier: Apache-2.0
"""What operators do from afar, on the admin listener: `weir quota`, `plan`, `apply`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from weir.errors import InvalidRequest, UnknownName
from weir_client._client import Client
from weir_client._limits import PolicyDifference, Quota
from weir_client.cli.books import balances, currencies
from weir_client.cli.output import Session, connected

_REASON = click.option("--reason", required=True, help="Why; it is logged.")
_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
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
    documents = read_documents(paths)
    with session.client() as client:
        difference = client.apply_policy(documents, dry_run=True)
    _show_difference(session, difference, applied=False)


@click.command()
@_PATHS
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan-hash", help="Hash printed by `weir plan`: refuse if anything moved since.")
@connected
def apply(session: Session, paths: tuple[Path, ...], yes: bool, plan_hash: str | None) -> None:
    """Apply policy files (or folders of them): they become the whole policy."""
    documents = read_documents(paths)
    with session.client() as client:
        difference = client.apply_policy(documents, dry_run=True)
        if plan_hash is not None and plan_hash != difference.plan_hash:
            raise InvalidRequest(
                "files or policy moved since that plan; look at `weir plan` again", field="plan_hash", rule="plan.moved"
            )
        if not yes and not session.as_json and plan_hash is None:
            click.echo(_difference_text(difference))
            click.confirm("Apply?", abort=True, err=True)
        # The hash that was looked at, so that nothing can come between this look and the act.
        applied = client.apply_policy(documents, plan_hash=difference.plan_hash)
    _show_difference(session, applied, applied=True)


def read_documents(paths: tuple[Path, ...]) -> list[str]:
    """YAML documents of files and folders, in the order of file names; a file may hold several.

    Raises:
        InvalidRequest: none was found, or a file is not text.
    """
    files: list[Path] = []
    for path in paths:
        found = path.rglob("*") if path.is_dir() else [path]
        files += sorted(item for item in found if item.suffix in (".yaml", ".yml") or item == path)
    documents = [document for file in files for document in _split(file)]
    if not documents:
        raise InvalidRequest("no policy documents found there", field="paths", rule="policy.empty")
    return documents


def _split(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is not a text file", field="paths", rule="policy.text") from None
    documents: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == "---":
            documents.append([])
        else:
            documents[-1].append(line)
    return ["\n".join(d) + "\n" for d in documents if any(s.strip() and not s.lstrip().startswith("#") for s in d)]


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
    return "\n".join(lines) or "nothing changes"
