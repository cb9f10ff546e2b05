# SPDX-License-Identifier: Apache-2.0
"""`weir serve`: one process, or several under a supervisor, until it is told to stop."""

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

from weir.errors import InvalidRequest
from weir_server.cli.output import DATA, JSON, ledger_settings, show
from weir_server.config import Config, load_config

if TYPE_CHECKING:
    from weir_server.app import Addresses


@click.command("serve")
@DATA
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
@JSON
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

    if settings.ledger != ledger_settings(data_dir):
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
        show(
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
