# SPDX-License-Identifier: Apache-2.0
"""`weir cases`: complaints, incidents and disputes, and the evidence that settles them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from weir_client._governance import KINDS, STATES, Case
from weir_client.cli.new_files import demand_new_file
from weir_client.cli.output import Session, connected, table


def register(group: click.Group) -> None:
    """Adds the command."""
    group.add_command(cases)


@click.group(invoke_without_command=True)
@connected
def cases(session: Session) -> None:
    """File complaints, incidents and disputes, take them on, and fetch their evidence."""
    if click.get_current_context().invoked_subcommand is None:
        _list(session)


@cases.command("list")
@connected
def list_cases(session: Session) -> None:
    """List cases, newest first."""
    _list(session)


@cases.command("show")
@click.argument("case")
@connected
def show_case(session: Session, case: str) -> None:
    """Show one case with every step."""
    with session.client() as client:
        found = next((item for item in client.cases() if item.id == case), None)
    if found is None:
        raise click.ClickException(f"no case {case} for this identity")
    session.show(found, lambda: _text(found))


@cases.command("open")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("-c", "--contract", default="", help="Contract concerned.")
@click.option("--dataset", default="", help="Dataset concerned, where no contract is.")
@click.option("--against", default="", help="Requester it is about (operators; providers under their own contract).")
@click.option("--entry", "entries", type=click.IntRange(min=0), multiple=True, help="Log entry concerned; repeatable.")
@click.option("-m", "--statement", required=True, help="What happened; - reads it from standard input.")
@connected
def open_case(
    session: Session,
    kind: str,
    contract: str,
    dataset: str,
    against: str,
    entries: tuple[int, ...],
    statement: str,
) -> None:
    """File a complaint, an incident or a dispute."""
    said = sys.stdin.read().strip() if statement == "-" else statement
    with session.client() as client:
        filed = client.open_case(kind, said, contract=contract, dataset=dataset, against=against, entries=entries)
    session.show(filed, lambda: f"{filed.id}: {filed.state}")


@cases.command("advance")
@click.argument("case")
@click.argument("state", type=click.Choice(STATES[1:]))
@click.option("--note", required=True, help="What was found or done; it is logged.")
@click.option("--freeze", is_flag=True, help="Hold the contract from here on; without it the case lets go of it.")
@connected
def advance(session: Session, case: str, state: str, note: str, freeze: bool) -> None:
    """Take a case to its next state, or close it."""
    with session.client() as client:
        found = client.advance_case(case, state, note=note, freeze=freeze)
    held = f", holds {found.contract}" if found.frozen else ""
    session.show(found, lambda: f"{found.id}: {found.state}{held}")


@cases.command("evidence")
@click.argument("case")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@connected
def evidence(session: Session, case: str, output: Path) -> None:
    """Write the evidence of a case into a file; `weir audit verify FILE` checks it with the log's key alone."""
    demand_new_file(output)
    with session.client() as client:
        found = client.evidence(case)
    output.write_bytes(found)
    session.show({"case": case, "file": str(output), "bytes": len(found)}, f"{output}: {len(found)} bytes")


def _list(session: Session) -> None:
    with session.client() as client:
        found = client.cases()
    names = ("case", "kind", "state", "opened", "by", "contract", "dataset", "against", "")
    session.show(found, lambda: table(names, [_row(case) for case in found], empty="No cases."))


def _row(case: Case) -> tuple[object, ...]:
    opened = case.opened.isoformat(timespec="seconds")
    held = "holds the contract" if case.frozen else ""
    by = f"{case.opened_role} {case.opened_by}"
    return case.id, case.kind, case.state, opened, by, case.contract, case.dataset, case.against, held


def _text(case: Case) -> str:
    about = [f"{word} {name}" for word, name in (("contract", case.contract), ("dataset", case.dataset)) if name]
    about += [f"against {case.against}"] if case.against else []
    about += [f"entries {', '.join(map(str, case.entries))}"] if case.entries else []
    steps = [
        f"{step.leaf_index:>8}  {step.at:%Y-%m-%d %H:%M:%SZ}  {step.state}  {step.actor}  {step.note}".rstrip()
        for step in case.steps
    ]
    head = f"{case.id}: {case.kind}, {case.state}{', holds the contract' if case.frozen else ''}"
    return "\n".join((head, " · ".join(about), _printable(case.statement), *steps))


def _printable(text: str) -> str:
    """What somebody wrote, without what could steer a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)
