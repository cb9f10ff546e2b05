# SPDX-License-Identifier: Apache-2.0
"""What reads the books beside a server: `weir fsck`, `weir audit trace | replay`, `weir backup`, `weir restore`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from weir.errors import InvalidRequest
from weir_server.cli.output import DATA, JSON, ledger_settings, show


@click.command("fsck")
@DATA
@JSON
def fsck_command(data_dir: Path, as_json: bool) -> None:
    """Rebuild balances, meter, answers and tree from the log and compare; exit 1 where anything differs.

    Safe while a server runs: it reads one snapshot and writes nothing.
    """
    from weir_server.books import check_books

    report = check_books(data_dir, settings=ledger_settings(data_dir))
    lines = [
        f"{'entry ' + str(item.index) if item.index is not None else 'books'}: {item.rule}: {item.what}"
        for item in report.findings
    ]
    show(
        {"entries": report.entries, "ok": report.ok, "findings": [asdict(item) for item in report.findings]},
        as_json,
        "\n".join([*lines, f"{report.entries} entries read; {len(lines) or 'no'} findings."]),
    )
    if not report.ok:
        raise SystemExit(1)


@click.command("trace")
@DATA
@click.argument("numbers", nargs=-1, required=True)
@click.option("--at-least", default=1, show_default=True, type=click.IntRange(min=1), help="Numbers that must match.")
@JSON
def trace_command(data_dir: Path, numbers: tuple[str, ...], at_least: int, as_json: bool) -> None:
    """Find the answers that hold NUMBERS seen outside, and who received them (put negative ones behind --).

    Needs the operator's data directory, since the log holds salted commitments only; safe while a server runs. The
    auditor checks a match with the receipt of its entry.
    """
    from weir_server.audit.trace import trace
    from weir_server.books import read_books

    with read_books(data_dir, settings=ledger_settings(data_dir)) as tx:
        found = trace(tx, numbers, at_least=at_least)
    lines = [
        f"entry {match.leaf_index}: {match.matched} of {len(numbers)} numbers, answer of {match.cells}, "
        f"{match.dataset} to {match.requester} under {match.contract}"
        for match in found
    ]
    show({"matches": [asdict(match) for match in found]}, as_json, "\n".join(lines or ["No answer holds them."]))


@click.command("replay")
@DATA
@click.option("--from", "start", default=0, show_default=True, type=click.IntRange(min=0), help="First index.")
@click.option("--to", "end", type=click.IntRange(min=0), help="Index behind the last; by default all of the log.")
@JSON
def replay_command(data_dir: Path, start: int, end: int | None, as_json: bool) -> None:
    """Make every logged decision again and compare verdict and reasons; exit 1 where any differs.

    Needs a data directory (a copy will do), since the log holds salted commitments of what was decided from; safe while
    a server runs. Decisions whose salts were erased are counted apart, and so are refusals that no decision made.
    """
    from weir_server.audit.replay_decisions import replay
    from weir_server.books import read_books

    with read_books(data_dir, settings=ledger_settings(data_dir)) as tx:
        found = replay(tx, start=start, end=end)
    lines = [f"entry {item.index}: {item.rule}: {item.what}" for item in found.differences]
    other = sum(found.others.values())
    lines.append(
        f"{found.decisions} decisions: {found.agreed} agree, {len(found.differences)} differ, "
        f"{found.unopenable} erased, {found.unkept} from before facts were kept; {other} refusals and "
        "reports of publications were no decisions."
    )
    show({"decisions": found.decisions, "ok": not found.differences, **asdict(found)}, as_json, "\n".join(lines))
    if found.differences:
        raise SystemExit(1)


@click.command("backup")
@DATA
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--with-secrets", is_flag=True, help="Keys of authority and log, too: keep the copy as you keep those.")
@JSON
def backup_command(data_dir: Path, target: Path, with_secrets: bool, as_json: bool) -> None:
    """Copy books, snapshots and settings into the new directory TARGET, while a server may be running."""
    from weir_server.backup import back_up

    if ledger_settings(data_dir).postgres:
        # What lies in DATA/ledger would be books of former times.
        raise InvalidRequest(
            "a PostgreSQL keeps these books: copy its database, and keep DATA/log", field="data", rule="backup.engine"
        )
    os.umask(0o077)
    size = back_up(data_dir, target, secrets=with_secrets)
    show({"target": str(target), "entries": size}, as_json, f"{target}: {size} entries of the log.")


@click.command("restore")
@click.argument("backup", type=click.Path(path_type=Path, exists=True, file_okay=False))
@DATA
@click.option("--log", "exported", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Exported log.")
@click.option("--checkpoint", "notes", multiple=True, type=click.File("r"), help="One kept elsewhere; repeatable.")
@click.option(
    "--secrets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The domain's secrets/, where BACKUP has none.",
)
@click.option("--newer", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has newer snapshots.")
@click.option("--close-budgets", is_flag=True, help="Go on although entries may be missing: no budget is left then.")
@JSON
def restore_command(
    backup: Path,
    data_dir: Path,
    exported: Path | None,
    notes: tuple[Any, ...],
    secrets: Path | None,
    newer: Path | None,
    close_budgets: bool,
    as_json: bool,
) -> None:
    """Make a new data directory from BACKUP, never giving budget back: brought forward from the log, and stopped."""
    from weir_server.backup import restore

    os.umask(0o077)
    checkpoints = [note.read() for note in notes]
    done = restore(
        backup,
        data_dir,
        exported=exported,
        checkpoints=checkpoints,
        secrets=secrets,
        newer=newer,
        close_budgets=close_budgets,
    )
    show(
        asdict(done),
        as_json,
        f"{data_dir}: {done.copied} entries copied, {done.appended} brought in from the exported log, "
        f"{len(done.closed)} budgets closed, {len(done.held)} datasets held.\n"
        'Everything is stopped: look, then `weir suspend all --resume --reason "…"`.',
    )
