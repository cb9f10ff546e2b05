# SPDX-License-Identifier: Apache-2.0
"""`weir demo`."""

from __future__ import annotations

from pathlib import Path

import click

from weir_server.demo.story import run_demo


@click.command("demo")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".weir-demo"),
    show_default=True,
    help="Where to play; made anew.",
)
@click.option("--keep", is_flag=True, help="Leave the server running and say how to use it.")
def demo(directory: Path, keep: bool) -> None:
    """Play the main job on public data, from publication to audit; exit 1 if any step is not as promised."""
    raise SystemExit(run_demo(directory.absolute(), keep=keep))
