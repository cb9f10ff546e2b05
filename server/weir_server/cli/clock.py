# SPDX-License-Identifier: Apache-2.0
"""`weir clock`: a person's word that the time is right, where no machine can know."""

from __future__ import annotations

import os
from pathlib import Path

import click

from weir_server.cli.output import DATA, JSON, person, show


@click.group("clock")
def clock_command() -> None:
    """Say that the time is right, after a pause or a wrong clock that the books do not go on from by themselves."""


@clock_command.command("accept")
@DATA
@click.option("--reason", required=True, help="Why the clock is right although it looks wrong; in the log for good.")
@JSON
def accept(data_dir: Path, reason: str, as_json: bool) -> None:
    """Let the books live on at the time that the clock shows now; one entry of the log.

    Look at the clock first: time that the books have seen does not come back. No server may run on the directory; where
    a PostgreSQL keeps the books, others may.
    """
    from weir_server.books import accept_time
    from weir_server.config import load_config
    from weir_server.identity.pki import load_domain
    from weir_server.policy.acting import checked_reason

    os.umask(0o077)
    config, said = load_config(None, data_dir=data_dir), checked_reason(reason)
    domain = load_domain(data_dir)
    moment, index = accept_time(
        data_dir, domain, settings=config.ledger, time=config.clock, reason=said, actor=person()
    )
    shown = moment.isoformat(timespec="seconds")
    show({"time": shown, "leaf_index": index}, as_json, f"The books live on at {shown}; log entry {index}.")
