# SPDX-License-Identifier: Apache-2.0
"""The server's commands; they join `weir` through the entry point `weir.commands`.

Engines are imported inside the commands that need them, since this module loads whenever anybody runs `weir query`. A
WeirError leaves a command as it is: `weir` prints its text and maps it to a documented exit code.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weir.amounts import format_epsilon
from weir.errors import InvalidRequest
from weir_server import clock, pki
from weir_server.cli_assess import assess_command
from weir_server.cli_clock import clock_command
from weir_server.cli_identity import identity
from weir_server.cli_output import DATA as _DATA
from weir_server.cli_output import JSON as _JSON
from weir_server.cli_output import show as _show
from weir_server.config import Config, LedgerSettings, load_config
from weir_server.demo.command import demo

if TYPE_CHECKING:
    from weir_server.app import Addresses


def register(group: click.Group) -> None:
    """Adds the server's commands to `weir`."""
    for command in (
        backup_command,
        restore_command,
        init,
        identity,
        serve_command,
        publish,
        assess_command,
        clock_command,
        fsck_command,
        doctor_command,
        demo,
    ):
        group.add_command(command)
    audit = group.get_command(click.Context(group), "audit")
    if isinstance(audit, click.Group):
        audit.add_command(trace_command)
        audit.add_command(replay_command)


@click.command()
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", default="weir.local", show_default=True, help="Name of the domain, in every identity.")
@click.option("--host", "hosts", multiple=True, help="Further DNS name or IP address of the server; repeatable.")
@click.option(
    "--renew",
    is_flag=True,
    help="Only make a new server certificate, of the same names, and sign the list of revoked ones anew.",
)
@click.option("--days", default=pki.SERVER_DAYS, show_default=True, help="Validity of the server's certificate.")
@_JSON
def init(data_dir: Path, domain: str, hosts: tuple[str, ...], renew: bool, days: int, as_json: bool) -> None:
    """Make a domain: authority, server certificate, log key and publication salt."""
    os.umask(0o077)
    if renew:
        from weir_server.revocation import sign_anew

        pki.renew_server(data_dir, now=clock.now(), days=days)
        sign_anew(data_dir, now=clock.now())
        _show({"data": str(data_dir), "renewed": True}, as_json, "Renewed; a running server shows it from now on.")
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    pki.init_domain(data_dir, domain=domain, hosts=hosts, now=clock.now(), days=days)
    result = {"data": str(data_dir), "domain": domain, "log_key": pki.log_key(data_dir)}
    _show(
        result,
        as_json,
        f"Domain {domain} in {data_dir}\n"
        f"Log key  {result['log_key']}\n"
        "Keep secrets/ to yourself: ca.key makes identities, log.key signs the log.",
    )


@click.command("serve")
@_DATA
@click.option("--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML settings.")
@click.option("--listen", help="Address for requesters, auditors and operators, host:port.")
@click.option("--admin", help="Address for operators' changes, host:port.")
@click.option("--metrics", help="Address of metrics, host:port; empty for none.")
@click.option("--console", help="Address of the console over HTTPS, host:port; empty for none.")
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help="File written once it serves.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes; needs ledger.postgres."
)
@click.option("--worker", type=click.IntRange(0, 63), hidden=True, help="Number among processes that share ports.")
@click.option("--kernels", type=click.IntRange(0, 64), hidden=True, help="In place of encrypted.workers.")
@_JSON
def serve_command(
    data_dir: Path,
    config_file: Path | None,
    listen: str | None,
    admin: str | None,
    metrics: str | None,
    console: str | None,
    ready_file: Path | None,
    workers: int,
    worker: int | None,
    kernels: int | None,
    as_json: bool,
) -> None:
    """Serve the domain until SIGTERM or Ctrl-C; running calls may finish first."""
    from weir_server import observe
    from weir_server.app import write_ready_file

    os.umask(0o077)
    # Queries in progress are thousands of objects, which the default would look through every few answers.
    gc.set_threshold(10_000)
    observe.configure(sys.stderr)
    settings = _with_addresses(
        load_config(config_file, data_dir=data_dir), public=listen, admin=admin, metrics=metrics, console=console
    )

    if settings.ledger != _ledger(data_dir):
        raise InvalidRequest(
            "state [ledger] in weir.toml of the data directory, where every other command finds the books, too",
            field="ledger",
            rule="ledger.place",
        )
    if kernels is not None:
        settings = replace(settings, encrypted=replace(settings.encrypted, workers=kernels))
    if worker:
        settings = replace(settings, listen=replace(settings.listen, log=""))  # Served once, by worker 0.

    def ready(addresses: Addresses) -> None:
        if ready_file is not None:
            write_ready_file(ready_file, addresses)
        _show(
            asdict(addresses),
            as_json,
            f"Serving {addresses.public}\nAdmin   {addresses.admin}\nMetrics {addresses.metrics or 'off'}\n"
            f"Log     {addresses.log or 'off'}\n"
            f"Console {f'https://{addresses.console}/' if addresses.console else 'off'}",
        )

    if workers > 1:
        ended = _supervise(data_dir, config_file, settings, workers, ready)
    else:
        from weir_server.app import serve

        def run(stop: asyncio.Event) -> Coroutine[Any, Any, bool]:
            return serve(data_dir, config=settings, stop=stop, ready=ready, share_ports=worker is not None)

        ended = asyncio.run(_until_signal(run))
    if not ended:
        raise SystemExit(70)  # EX_SOFTWARE: the books stopped taking writes.


def _supervise(data_dir: Path, config_file: Path | None, settings: Config, workers: int, ready: Any) -> bool:
    from weir_server.app import Addresses
    from weir_server.workers import Shared, reserve_ports, supervise

    with ExitStack() as held:
        listen = reserve_ports(settings, held).listen
        kernels = settings.encrypted.processes(servers=workers)
        settings = replace(settings, listen=listen, encrypted=replace(settings.encrypted, workers=kernels))
        shared = Shared(data_dir, config_file, settings)
        addresses = Addresses(listen.public, listen.admin, listen.metrics, listen.log, listen.console)
        return asyncio.run(
            _until_signal(lambda stop: supervise(shared, workers=workers, stop=stop, ready=lambda: ready(addresses)))
        )


async def _until_signal(run: Callable[[asyncio.Event], Coroutine[Any, Any, bool]]) -> bool:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await run(stop)


def _with_addresses(config: Config, **given: str | None) -> Config:
    return replace(
        config, listen=replace(config.listen, **{key: value for key, value in given.items() if value is not None})
    )


@click.command()
@click.argument("card", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_DATA
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="Read this file, not the card's source.")
@click.option(
    "--register", type=click.Path(path_type=Path, exists=True), help="Read this consent register, not the card's."
)
@click.option("--server", help="Admin address of the running server, host:port. Without: activate locally.")
@click.option(
    "--identity",
    "identity_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Operator's identity file; needed with --server.",
)
@_JSON
def publish(
    card: Path, data_dir: Path, source: Path | None, register: Path | None, server: str | None,
    identity_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Publish a dataset: build its snapshot inside the domain, then make it answerable."""
    from weir_server import publication

    os.umask(0o077)
    if server is not None and identity_file is None:
        raise InvalidRequest("--server needs the identity of an operator", field="identity", rule="publish.identity")
    said = _progress(as_json)
    if server is not None and identity_file is not None:
        published, leaf = publication.publish_to_server(
            card, data_dir=data_dir, source=source, register=register, server=server, identity_file=identity_file,
            progress=said,
        )  # fmt: skip
    else:
        published, leaf = asyncio.run(
            publication.publish_locally(card, data_dir=data_dir, source=source, register=register, progress=said)
        )
    result = {
        "dataset": published.directory.parent.name,
        "snapshot": published.version,
        "manifest_digest": published.manifest_digest,
        "leaf_index": leaf,
        "report": asdict(published.report),
    }
    _show(result, as_json, _report_text(result))


def _report_text(result: dict[str, Any]) -> str:
    """The report for people. Counts of the source are for the provider alone, and are not logged; what the bounds drop
    is a dp release, booked by now."""
    report = dict(result["report"])
    effects, epsilon = report.pop("effects"), report.pop("effects_epsilon_nano")
    lines = [f"{key.replace('_', ' '):<18}{value}" for key, value in report.items() if value]
    if epsilon:
        lines.append(f"what the bounds drop, at a loss of epsilon {format_epsilon(epsilon)} (noise within ± at 95 %):")
        lines += [f"  {item['sentence']}: {item['count']:,} ± {item['interval95']:,}" for item in effects]
    return "\n".join([
        *lines,
        f"{result['dataset']} version {result['snapshot']} is answerable; log entry {result['leaf_index']}.",
    ])  # fmt: skip


def _ledger(data_dir: Path) -> LedgerSettings:
    """Where `weir.toml` of the data directory says that the books are."""
    return load_config(None, data_dir=data_dir).ledger


@click.command("fsck")
@_DATA
@_JSON
def fsck_command(data_dir: Path, as_json: bool) -> None:
    """Rebuild balances, meter, answers and tree from the log and compare; exit 1 where anything differs.

    Safe while a server runs: it reads one snapshot and writes nothing.
    """
    from weir_server.books import check_books

    report = check_books(data_dir, settings=_ledger(data_dir))
    lines = [
        f"{'entry ' + str(item.index) if item.index is not None else 'books'}: {item.rule}: {item.what}"
        for item in report.findings
    ]
    _show(
        {"entries": report.entries, "ok": report.ok, "findings": [asdict(item) for item in report.findings]},
        as_json,
        "\n".join([*lines, f"{report.entries} entries read; {len(lines) or 'no'} findings."]),
    )
    if not report.ok:
        raise SystemExit(1)


@click.command("trace")
@_DATA
@click.argument("numbers", nargs=-1, required=True)
@click.option("--at-least", default=1, show_default=True, type=click.IntRange(min=1), help="Numbers that must match.")
@_JSON
def trace_command(data_dir: Path, numbers: tuple[str, ...], at_least: int, as_json: bool) -> None:
    """Find the answers that hold NUMBERS seen outside, and who received them (put negative ones behind --).

    Needs the operator's data directory, since the log holds salted commitments only; safe while a server runs. The
    auditor checks a match with the receipt of its entry.
    """
    from weir_server.audit.trace import trace
    from weir_server.books import read_books

    with read_books(data_dir, settings=_ledger(data_dir)) as tx:
        found = trace(tx, numbers, at_least=at_least)
    lines = [
        f"entry {match.leaf_index}: {match.matched} of {len(numbers)} numbers, answer of {match.cells}, "
        f"{match.dataset} to {match.requester} under {match.contract}"
        for match in found
    ]
    _show({"matches": [asdict(match) for match in found]}, as_json, "\n".join(lines or ["No answer holds them."]))


@click.command("replay")
@_DATA
@click.option("--from", "start", default=0, show_default=True, type=click.IntRange(min=0), help="First index.")
@click.option("--to", "end", type=click.IntRange(min=0), help="Index behind the last; by default all of the log.")
@_JSON
def replay_command(data_dir: Path, start: int, end: int | None, as_json: bool) -> None:
    """Make every logged decision again and compare verdict and reasons; exit 1 where any differs.

    Needs a data directory (a copy will do), since the log holds salted commitments of what was decided from; safe while
    a server runs. Decisions whose salts were erased are counted apart, and so are refusals that no decision made.
    """
    from weir_server.audit.replay_decisions import replay
    from weir_server.books import read_books

    with read_books(data_dir, settings=_ledger(data_dir)) as tx:
        found = replay(tx, start=start, end=end)
    lines = [f"entry {item.index}: {item.rule}: {item.what}" for item in found.differences]
    other = sum(found.others.values())
    lines.append(
        f"{found.decisions} decisions: {found.agreed} agree, {len(found.differences)} differ, "
        f"{found.unopenable} erased, {found.unkept} from before facts were kept; {other} refusals and "
        "reports of publications were no decisions."
    )
    _show({"decisions": found.decisions, "ok": not found.differences, **asdict(found)}, as_json, "\n".join(lines))
    if found.differences:
        raise SystemExit(1)


@click.command("doctor")
@_DATA
@click.option("--rows", is_flag=True, help="Read rows that a cluster keeps, and hold them against their fingerprints.")
@_JSON
def doctor_command(data_dir: Path, rows: bool, as_json: bool) -> None:
    """Check what a server needs: Python, extras, permissions, clock, lock, ports; exit 1 where anything fails."""
    from weir_server import doctor

    checks = doctor.diagnose(data_dir, rows=rows)
    lines = [f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}" for check in checks]
    _show({"checks": [asdict(check) for check in checks]}, as_json, "\n".join(lines))
    if not all(check.passed for check in checks):
        raise SystemExit(1)


@click.command("backup")
@_DATA
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--with-secrets", is_flag=True, help="Keys of authority and log, too: keep the copy as you keep those.")
@_JSON
def backup_command(data_dir: Path, target: Path, with_secrets: bool, as_json: bool) -> None:
    """Copy books and snapshots into the new directory TARGET, while a server may be running."""
    from weir_server.backup import back_up

    if _ledger(data_dir).postgres:
        # What lies in DATA/ledger would be books of former times.
        raise InvalidRequest(
            "a PostgreSQL keeps these books: copy its database, and keep DATA/log", field="data", rule="backup.engine"
        )
    os.umask(0o077)
    size = back_up(data_dir, target, secrets=with_secrets)
    _show({"target": str(target), "entries": size}, as_json, f"{target}: {size} entries of the log.")


@click.command("restore")
@click.argument("backup", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_DATA
@click.option("--log", "exported", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Exported log.")
@click.option("--checkpoint", "notes", multiple=True, type=click.File("r"), help="One kept elsewhere; repeatable.")
@click.option("--secrets", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The domain's secrets.")
@click.option("--newer", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has newer snapshots.")
@click.option("--close-budgets", is_flag=True, help="Go on although entries may be missing: no budget is left then.")
@_JSON
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
    _show(
        asdict(done),
        as_json,
        f"{data_dir}: {done.copied} entries copied, {done.appended} brought in from the exported log, "
        f"{len(done.closed)} budgets closed.\nEverything is stopped: look, then `weir suspend all --resume`.",
    )


def _progress(as_json: bool) -> Any:
    """Progress goes to standard error, so that standard output stays what was asked for."""
    return (lambda text: None) if as_json else (lambda text: click.echo(text, err=True))
