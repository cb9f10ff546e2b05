# SPDX-License-Identifier: Apache-2.0
"""`weir audit`: checks that need no trust in the service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from weir.amounts import format_epsilon, format_price
from weir.checkpoint import parse, parse_vkey
from weir.errors import InvalidRequest, VerificationError
from weir.receipts import VerifiedReceipt
from weir.statement import Line, focus_csv, statement
from weir_client._audit import AuditReport, Entry
from weir_client._client import Client
from weir_client._log_files import VerifiedLog, check_leaves, check_receipt, read_log
from weir_client._receipts import Receipt, receipt_from_json
from weir_client._witness import Witness, open_key, witness_server
from weir_client.cli import evidence
from weir_client.cli.output import Session, connected, progress, table, to_json

_POLL_SECONDS = 1.0
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_LOG = click.option(
    "--log",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of an exported log (C2SP tlog-tiles), read instead of the service.",
)
_LOG_KEY = click.option(
    "--log-key",
    help="Verifier keys of the log, or a file with them (also domain.json, or an identity); by default the identity's.",
)


def register(group: click.Group) -> None:
    """Adds the commands."""
    group.add_command(audit)


class AuditGroup(click.Group):
    """Commands of its own, and those that an installed server adds (`trace`), which are loaded when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, the server's included."""
        _load_plugins(ctx)
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            _load_plugins(ctx)
            found = super().get_command(ctx, cmd_name)
        return found


def _load_plugins(ctx: click.Context) -> None:
    load = getattr(ctx.find_root().command, "load_plugins", None)
    if load is not None:  # The root group loads them; they add themselves to it and to this one.
        load()


@click.group(cls=AuditGroup)
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
@_LOG
@_LOG_KEY
@connected
def verify(
    session: Session,
    files: tuple[Path, ...],
    receipts: tuple[Path, ...],
    offline: bool,
    log: Path | None,
    log_key: str | None,
) -> None:
    """Verify receipt FILES, and online the whole log: head, progress, every leaf, and the meter against the leaves.

    With --log the log is read from files instead, and no service is needed: signature, every entry and tile, the books
    that follow from them, and that each receipt's entry is in this log. A file of evidence (`weir cases evidence`) is
    checked by itself, without any service.
    """
    paths = _receipt_files((*files, *receipts))
    bundles, paths = evidence.split(paths)
    if bundles:
        if paths or log is not None:
            raise click.UsageError("check files of evidence by themselves")
        proved = evidence.checked(bundles, log_key=_key(session, log_key))
        session.show(
            {"evidence": [evidence.evidence_json(*item) for item in proved]},
            lambda: "\n".join(evidence.evidence_text(*item) for item in proved),
        )
        return
    found = [(path, read_receipt(path)) for path in paths]
    if log is not None:
        key = _key(session, log_key)
        read = read_log(log, log_key=key)
        inside = [(path, _under(key, path, receipt, log=read)) for path, receipt in found]
        session.show(
            {**_log_json(read), "receipts": [_receipt_json(*item) for item in inside]},
            lambda: "\n".join((_log_text(read), *(_receipt_line(*item) for item in inside))),
        )
        return
    if offline:
        if not found:
            raise click.UsageError("--offline needs receipt files, or --log")
        key = _key(session, log_key)
        checked = [(path, _under(key, path, receipt)) for path, receipt in found]
        session.show(
            {"receipts": [_receipt_json(*item) for item in checked]},
            lambda: "\n".join(_receipt_line(*item) for item in checked),
        )
        return
    if log_key is not None:
        raise click.UsageError("--log-key is for --offline and --log; online the identity's key counts")
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


@audit.command("statement")
@click.option("--contract", default="", help="Only this contract.")
@click.option("--month", default="", metavar="YYYY-MM", help="Only this calendar month (UTC).")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with FOCUS columns.")
@_LOG
@_LOG_KEY
@connected
def statement_command(
    session: Session, contract: str, month: str, as_csv: bool, log: Path | None, log_key: str | None
) -> None:
    """Work out the bill from the verified log: per contract, requester, dataset, mode and month."""
    if month and not _MONTH.fullmatch(month):
        raise click.UsageError("--month is a year and a month, such as 2026-11")
    if log is not None:
        leaves: Sequence[bytes] = read_log(log, log_key=_key(session, log_key)).leaves
    else:
        leaves = _read_online(session)
    lines = statement(leaves, contract=contract, month=month)
    if as_csv:
        click.echo(focus_csv(lines), nl=False)
        return
    session.show(lines, lambda: _statement_text(lines))


@audit.command("witness")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Key and memory.")
@click.option("--name", required=True, help="Name of the witness's key, such as regulator.example/weir.")
@click.option(
    "--watch", "watched", multiple=True, required=True, help="Key of a log, or a file as for --log-key; repeatable."
)
@click.option("--listen", default="127.0.0.1:7442", show_default=True, help="Address for add-checkpoint over HTTP.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def witness_command(state: Path, name: str, watched: tuple[str, ...], listen: str, as_json: bool) -> None:
    """Cosign checkpoints of the watched logs (C2SP tlog-witness) until Ctrl-C.

    Prints the witness's verifier key, which the server needs as witness.key. Plain HTTP: put TLS in front of it where
    the network is open.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.UsageError("--listen is host:port")
    signer = open_key(state, name=name, entropy=os.urandom)
    logs: dict[str, list[str]] = {}
    for key in " ".join(_key_text(item) for item in watched).split():
        logs.setdefault(parse_vkey(key).name, []).append(key)
    witness = Witness(state, logs=logs, signer=signer, clock=lambda: int(time.time()))
    try:
        server = witness_server(witness, host=host, port=int(port))
    except OSError as error:
        raise click.ClickException(f"the address {listen} cannot be taken") from error
    with server:
        said = {"key": signer.verifier.vkey, "url": f"http://{host}:{server.server_address[1]}"}
        click.echo(json.dumps(said) if as_json else f"Key     {said['key']}\nServing {said['url']}")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _read_online(session: Session) -> Sequence[bytes]:
    """Every entry of the service's log, checked against its signed head."""
    with session.client() as client:
        head = parse(client.checkpoint())[0]
        leaves = [entry.leaf for entry in client.entries(0, head.size)]
    check_leaves(head, leaves)
    return leaves


def _key(session: Session, log_key: str | None) -> str:
    return session.identity().log_key if log_key is None else _key_text(log_key)


def _key_text(given: str) -> str:
    """Verifier keys given as text, or as a file that holds them: bare, or as `log_key` of a domain.json or an identity.

    Raises:
        InvalidRequest: neither; the text names what was given.
    """
    if _are_keys(given):  # First: a key of ML-DSA is longer than any file's name.
        return given
    try:
        text = Path(given).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise _no_key(given) from None
    if text.startswith("{"):
        text = _named_key(text)
    if not _are_keys(text):
        raise _no_key(given)
    return text


def _are_keys(text: str) -> bool:
    try:
        return bool([parse_vkey(word) for word in text.split()])
    except VerificationError:
        return False


def _named_key(text: str) -> str:
    try:
        return str(json.loads(text).get("log_key", ""))
    except ValueError:
        return ""


def _no_key(given: str) -> InvalidRequest:
    sentence = "is no verifier key, and no file with one: give a key, domain.json or an identity file"
    return InvalidRequest(f"{given[:200]} {sentence}", field="log-key", rule="note.vkey")


def _log_json(log: VerifiedLog) -> dict[str, object]:
    totals = sorted(log.books.totals.items())
    return {
        "origin": log.head.origin,
        "size": log.head.size,
        "root": log.head.root.hex(),
        "meter": [
            {"contract": key[0], "requester": key[1], "dataset": key[2], "metric": key[3], "used": used}
            for key, used in totals
            if used
        ],
    }


def _log_text(log: VerifiedLog) -> str:
    return "\n".join(
        (
            f"✓ {log.head.origin}: signed checkpoint of {log.head.size} entries",
            f"✓ every entry follows from those before it; they hash to the signed root {log.head.root.hex()[:16]}…",
            "✓ every tile is the one that the entries make",
        )
    )


def _statement_text(lines: Sequence[Line]) -> str:
    rows = [
        (
            line.month,
            line.contract,
            line.requester,
            line.dataset,
            line.mode,
            line.answers,
            format_epsilon(line.amounts.get("epsilon_nano", 0)),
            f"{format_price(line.price_micro)} {line.currency}".strip(),
        )
        for line in lines
    ]
    names = ("month", "contract", "requester", "dataset", "mode", "answers", "epsilon", "price")
    return table(names, rows, empty="Nothing was answered.")


def read_receipt(path: Path) -> Receipt:
    """The receipt in a file.

    Raises:
        InvalidReceipt: it is not one.
    """
    try:
        with _named(path):
            return receipt_from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a receipt file", field="files", rule="receipt.file") from None


def _receipt_files(paths: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.json")) if path.is_dir() else [path]
    return found


def _under(key: str, path: Path, receipt: Receipt, *, log: VerifiedLog | None = None) -> VerifiedReceipt:
    """A receipt that verifies without a service; and is of the log, where one is given."""
    with _named(path):
        return receipt.check(key) if log is None else check_receipt(log, receipt, log_key=key)


def _in_log(client: Client, path: Path, receipt: Receipt) -> VerifiedReceipt:
    """A receipt that verifies, and whose leaf is the one the log shows to everybody."""
    with _named(path):
        verified = client.verify(receipt)
        for entry in client.entries(receipt.index, receipt.index + 1):
            if entry.leaf == receipt.message.leaf:
                return verified
        raise VerificationError(f"the log shows another entry {receipt.index}", rule="receipt.leaf")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file before what is wrong with it: among a hundred receipts, which one?"""
    try:
        yield
    except VerificationError as error:
        error.message = f"{path}: {error.message}"
        raise


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
