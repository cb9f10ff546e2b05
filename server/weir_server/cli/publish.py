# SPDX-License-Identifier: Apache-2.0
"""`weir publish`: a snapshot is built inside the domain and made answerable."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from weir.amounts import format_epsilon
from weir.errors import InvalidRequest
from weir_server.cli.output import DATA, JSON, show


@click.command()
@click.argument("card", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@DATA
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="Read this file, not the card's source.")
@click.option(
    "--register", type=click.Path(path_type=Path, exists=True), help="Read this consent register, not the card's."
)
@click.option("--accept-shrink", is_flag=True, help="Publish although fewer than half of the units are left.")
@click.option("--server", help="Admin address of the running server, host:port. Without: activate locally.")
@click.option(
    "--identity",
    "identity_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Operator's identity file; needed with --server.",
)
@JSON
def publish(
    card: Path, data_dir: Path, source: Path | None, register: Path | None, accept_shrink: bool, server: str | None,
    identity_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Publish a dataset: build its snapshot inside the domain, then make it answerable."""
    from weir_server import publication

    os.umask(0o077)
    if server is not None and identity_file is None:
        raise InvalidRequest("--server needs the identity of an operator", field="identity", rule="publish.identity")
    said = _progress(as_json)
    files: Any = {"source": source, "register": register, "accept_shrink": accept_shrink}
    if server is not None and identity_file is not None:
        published, leaf = publication.publish_to_server(
            card, data_dir=data_dir, server=server, identity_file=identity_file, progress=said, **files
        )
    else:
        published, leaf = asyncio.run(publication.publish_locally(card, data_dir=data_dir, progress=said, **files))
    result = {
        "dataset": published.directory.parent.name,
        "snapshot": published.version,
        "manifest_digest": published.manifest_digest,
        "leaf_index": leaf,
        "report": asdict(published.report),
    }
    show(result, as_json, _report_text(result))


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


def _progress(as_json: bool) -> Any:
    """Progress goes to standard error, so that standard output stays what was asked for."""
    return (lambda text: None) if as_json else (lambda text: click.echo(text, err=True))
