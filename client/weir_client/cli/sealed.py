# SPDX-License-Identifier: Apache-2.0
"""`weir sealed`: releases under somebody else's key, from one domain after the other to one total."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from weir_client._ciphertexts import SealedTable, add_sealed
from weir_client._keys import KeyPair
from weir_client._sealed_file import read_public_key, read_table, table_to_json
from weir_client.cli.encrypted import PASSPHRASE
from weir_client.cli.new_files import demand_new_file
from weir_client.cli.output import Session, connected, print_value, table
from weir_client.cli.questions import WAIT, question_options

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)
_OUTPUT = click.option(
    "--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write; a new one."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def register(group: click.Group) -> None:
    """Adds the commands."""
    group.add_command(sealed)


@click.group()
def sealed() -> None:
    """Sealed tables: ask domains for them, add them up, open the total. Only the key's holder can read one."""


@sealed.command("ask")
@question_options
@click.option("--to", required=True, metavar="KEY_ID", help="Registered key to seal to, sha256:….")
@click.option(
    "--max-addends",
    type=click.IntRange(1, 65_536),
    default=1,
    show_default=True,
    help="How many such tables may later be added up; alike for all of them.",
)
@click.option("--max-price", help="Refuse rather than pay more.")
@WAIT
@click.option("--idempotency-key", help="Of an earlier try: gives its table again, charged once.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the receipt against the log.")
@_OUTPUT
@connected
def ask(session: Session, sql: str, output: Path, verify: bool, **terms: Any) -> None:
    """Ask a question; the answer comes encrypted under another's key and is written to a file."""
    demand_new_file(output)  # A paid answer must not be lost, nor another one overwritten.
    with session.client() as client:
        found = client.sealed_query(sql, **terms).result()
        _write(output, found)
        if verify:
            for receipt in found.receipts:
                client.verify(receipt)
    shown = {**_summary(found), "log_index": found.receipts[0].index, "verified": verify}
    session.show({"file": str(output), **shown}, f"{output}: {_sentence(found)}")


@sealed.command("add")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--key", required=True, type=_FILE, help="Public-key file, from `weir keys public`.")
@_OUTPUT
@_JSON
def add(files: tuple[Path, ...], key: Path, output: Path, as_json: bool) -> None:
    """Add up sealed tables of equal questions, without opening any."""
    demand_new_file(output)
    found = add_sealed([read_table(file) for file in files], read_public_key(key))
    _write(output, found)
    print_value({"file": str(output), **_summary(found)}, f"{output}: {_sentence(found)}", as_json=as_json)


@sealed.command("open")
@click.argument("file", type=_FILE)
@click.option("--key", required=True, type=_FILE, help="Key file, from `weir keys new`.")
@PASSPHRASE
@_JSON
def open_table(file: Path, key: Path, passphrase: str | None, as_json: bool) -> None:
    """Decrypt a sealed table, or a total of several, with the key it is sealed to."""
    found = read_table(file)
    columns = found.decrypt(KeyPair.load(key, passphrase))
    rows = [(*cell, *values) for cell, values in zip(found.keys, zip(*columns.values(), strict=True), strict=True)]
    blanks = [""] * (len(found.keys[0]) if found.keys else 0)
    print_value(
        {"columns": list(columns), "keys": found.keys, "rows": rows, **_summary(found)},
        lambda: f"{table((*blanks, *columns), rows, empty='No cells.')}\n{_sentence(found)}",
        as_json=as_json,
    )


def _write(output: Path, found: SealedTable) -> None:
    output.touch(mode=0o600, exist_ok=False)
    output.write_text(table_to_json(found), encoding="utf-8")


def _summary(found: SealedTable) -> dict[str, object]:
    return {"key_id": found.key_id, "addends": found.addends, "max_addends": found.max_addends}


def _sentence(found: SealedTable) -> str:
    names, many = ", ".join(found.column_names), "s" if found.addends > 1 else ""
    return f"{found.addends} sealed table{many}, {len(found.keys)} cells, {names}; under {found.key_id[:23]}…"
