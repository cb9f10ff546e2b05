# SPDX-License-Identifier: Apache-2.0
"""What the server's commands share: options, output, where the books are, and files that only their owner may read."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from weir.errors import InvalidRequest
from weir_server.config import LedgerSettings, load_config

DATA = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="WEIR_DATA",
    required=True,
    help="Data directory of the domain (or WEIR_DATA).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """The result as one line of JSON, or its text."""
    click.echo(json.dumps(result) if as_json else text)
    sys.stdout.flush()


def ledger_settings(data_dir: Path) -> LedgerSettings:
    """Where `weir.toml` of the data directory says that the books are."""
    return load_config(None, data_dir=data_dir).ledger


def person() -> str:
    """Who runs this, as the operating system knows; not as the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


@contextmanager
def new_private_file(path: Path) -> Iterator[Callable[[str], None]]:
    """Makes a new file that only its owner may read, closed from the first moment on; gives the block what writes it.
    The file is there before the block's work is done, so that nothing is issued or recorded that cannot be written
    down; where the block fails, it goes again.

    Raises:
        InvalidRequest: the file exists.
        OSError: it cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidRequest(f"{path} exists; give a new file", field="output", rule="output.exists") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:

            def write(content: str) -> None:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

            yield write
    except BaseException:
        path.unlink(missing_ok=True)
        raise
