# SPDX-License-Identifier: Apache-2.0
"""`weir audit`: checks that need no trust in the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from weir.checkpoint import parse
from weir.errors import InvalidRequest, VerificationError
from weir.receipts import VerifiedReceipt
from weir_client._audit import AuditReport, Entry
from weir_client._client import Client
from weir_client._receipts import Receipt, receipt_from_json
from weir_client.cli.output import Session, connected, progress, table, to_json

_POLL_SECONDS = 1.0


def register(group: click.Group) -> None:
    """Adds the commands."""
    group.add_command(audit)


@click.group()
def audit() -> None:
    """Check log, receipts and meter without trusting the service."""


@audit.command("verify")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--receipts",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Receipt file, or folder of them, to check as well.",
)
@click.option("--offline", is_flag=True, help="Check receipt files only, without any service.")
@click.option("--log-key", help="vkey of the log; by default the identity's.")
@connected
def verify(
    session: Session, files: tuple[Path, ...], receipts: tuple[Path, ...], offline: bool, log_key: str | None
) -> None:
    """Verify receipt FILES, and online the whole log: head, progress, every leaf, and the meter against the leaves."""
    found = [(path, read_receipt(path)) for path in _receipt_files((*files, *receipts))]
    if offline:
        if not found:
            raise click.UsageError("--offline needs receipt files")
        key = log_key or session.identity().log_key
        checked = [(path, receipt.check(key)) for path, receipt in found]
        session.show(
            {"receipts": [_receipt_json(*item) for item in checked]},
            lambda: "\n".join(_receipt_line(*item) for item in checked),
        )
        return
    if log_key is not None:
        raise click.UsageError("--log-key is for --offline; online the identity's key counts")
    with session.client() as client:
        with progress("reading the log") as update:
            report = client.audit(update)
        checked = [(path, _in_log(client, path, receipt)) for path, receipt in found]
    session.show(
        {**_report_json(report), "receipts": [_receipt_json(*item) for item in checked]},
        lambda: "\n".join((_report_text(report), *(_receipt_line(*item) for item in checked))),
    )


@audit.command("tail")
@click.option("-n", "--lines", default=10, show_default=True, type=click.IntRange(min=0), help="Entries from the end.")
@click.option("--type", "kind", help="Only this CloudEvents type, such as weir.query.released.")
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@connected
def tail(session: Session, lines: int, kind: str | None, follow: bool) -> None:
    """Show the newest entries of the log; with --json one event a line."""
    with session.client() as client:
        size = parse(client.checkpoint())[0].size
        shown = list(client.entries(0 if kind else max(0, size - lines), size, kind))[-lines:] if lines else []
        for entry in shown:
            _show_entry(session, entry)
        for entry in _later(client, size, kind) if follow else ():
            _show_entry(session, entry)


def read_receipt(path: Path) -> Receipt:
    """The receipt in a file.

    Raises:
        InvalidReceipt: it is not one.
    """
    try:
        return receipt_from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a receipt file", field="files", rule="receipt.file") from None


def _receipt_files(paths: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.json")) if path.is_dir() else [path]
    return found


def _in_log(client: Client, path: Path, receipt: Receipt) -> VerifiedReceipt:
    """A receipt that verifies, and whose leaf is the one the log shows to everybody."""
    try:
        verified = client.verify(receipt)
        for entry in client.entries(receipt.index, receipt.index + 1):
            if entry.leaf == receipt.message.leaf:
                return verified
    except VerificationError as error:
        error.message = f"{path}: {error.message}"
        raise
    raise VerificationError(f"{path}: the log shows another entry {receipt.index}", rule="receipt.leaf")


def _later(client: Client, size: int, kind: str | None) -> Iterator[Entry]:
    while True:
        newer = parse(client.checkpoint())[0].size
        yield from client.entries(size, newer, kind)
        size = newer
        time.sleep(_POLL_SECONDS)


def _show_entry(session: Session, entry: Entry) -> None:
    if session.as_json:
        click.echo(entry.leaf.decode())
        return
    event = entry.event
    who = event.get("requester") or ""
    click.echo(
        f"{entry.index:>8}  {event.get('time')}  {event.get('type')}  {event.get('subject', '')}  {who}".rstrip()
    )


def _report_json(report: AuditReport) -> dict[str, object]:
    return {
        "origin": report.checkpoint.origin,
        "size": report.checkpoint.size,
        "root": report.checkpoint.root.hex(),
        "entries": report.entries,
        "by_type": report.by_type,
        "extends": report.extends,
        "meter": [
            {"contract": key[0], "requester": key[1], "dataset": key[2], "metric": key[3], "used": used}
            for key, used in sorted(report.totals.items())
        ],
    }


def _report_text(report: AuditReport) -> str:
    head = report.checkpoint
    since = "first contact" if report.extends is None else f"extends the {report.extends} entries seen before"
    rows = [(*key, used) for key, used in sorted(report.totals.items())]
    return "\n".join(
        (
            f"✓ {head.origin}: signed checkpoint of {head.size} entries, {since}",
            f"✓ {report.entries} entries read; they hash to the signed root {head.root.hex()[:16]}…",
            "✓ the meter agrees with the log:",
            table(("contract", "requester", "dataset", "metric", "used"), rows, empty="  nothing was used"),
        )
    )


def _receipt_line(path: Path, verified: VerifiedReceipt) -> str:
    return f"✓ {path.name}: entry {verified.index}, {verified.event['type']}, {verified.event.get('time')}"


def _receipt_json(path: Path, verified: VerifiedReceipt) -> object:
    return to_json({"file": str(path), "index": verified.index, "event": verified.event})
