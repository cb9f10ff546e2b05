# SPDX-License-Identifier: Apache-2.0
"""`weir keys` and `weir encrypted`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from weir.errors import InvalidRequest
from weir_client._keys import KeyPair, fingerprint, generate_keypair
from weir_client._sealed_file import public_key_to_json
from weir_client._weights import DEFAULT_WEIGHT_BITS, MAX_WEIGHT_BITS, Weights
from weir_client.cli.new_files import demand_new_file, demand_receipt_file, receipt_kept
from weir_client.cli.output import Session, connected, print_value, progress, table
from weir_client.cli.questions import WAIT, question_options

PASSPHRASE = click.option(
    "--passphrase", envvar="WEIR_KEY_PASSPHRASE", help="Of the key file; better given as WEIR_KEY_PASSPHRASE."
)


def register(group: click.Group) -> None:
    """Adds the commands."""
    group.add_command(keys)
    group.add_command(encrypted)


@click.group()
def keys() -> None:
    """Make and register Paillier keys for encrypted queries."""


@keys.command("new")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--bits", type=click.Choice(["2048", "3072"]), default="3072", show_default=True)
@PASSPHRASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new_key(file: Path, bits: str, passphrase: str | None, as_json: bool) -> None:
    """Make a key pair and write it to FILE, readable by its owner only."""
    demand_new_file(file, field="file", rule="key.exists", sentence="a key is never overwritten")
    with progress("making the key") as update:
        keypair = generate_keypair(int(bits), progress=update)
    keypair.save(file, passphrase)
    _show_key(keypair, file, as_json)


@keys.command("show")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@PASSPHRASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_key(file: Path, passphrase: str | None, as_json: bool) -> None:
    """Show id and fingerprint of a key."""
    _show_key(KeyPair.load(file, passphrase), file, as_json)


@keys.command("public")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@PASSPHRASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def public_key(file: Path, output: Path, passphrase: str | None, as_json: bool) -> None:
    """Write the public half of a key to a file, for whoever adds up tables sealed to it."""
    demand_new_file(output)
    keypair = KeyPair.load(file, passphrase)
    output.write_text(public_key_to_json(keypair.public), encoding="utf-8")
    _show_key(keypair, output, as_json)


@keys.command("register")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@PASSPHRASE
@connected
def register_key(session: Session, file: Path, passphrase: str | None) -> None:
    """Register the public key with the service, with a proof that it is well formed."""
    keypair = KeyPair.load(file, passphrase)
    with session.client() as client:
        key_id = client.register_key(keypair)
    session.show({"key_id": key_id}, f"registered {key_id}")


@click.command()
@question_options
@click.option(
    "--weights",
    "weights_file",
    required=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help='JSON: [3, -1, …] by cell, {"north": 3} by a single key, or [{"key": ["north", 1], "weight": 3}, …].',
)
@click.option("--key", required=True, type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Key file.")
@PASSPHRASE
@click.option(
    "--weight-bits",
    type=click.IntRange(1, MAX_WEIGHT_BITS),
    default=DEFAULT_WEIGHT_BITS,
    show_default=True,
    help="Public bound: every |weight| < 2^bits.",
)
@click.option("--max-price", help="Refuse rather than pay more.")
@WAIT
@click.option("--save-receipt", type=click.Path(dir_okay=False), help="Write the receipt to this file.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the receipt against the log.")
@connected
def encrypted(
    session: Session,
    sql: str,
    weights_file: Path,
    key: Path,
    passphrase: str | None,
    save_receipt: str | None,
    verify: bool,
    **terms: Any,
) -> None:
    """Ask for weighted sums of a query's cells, with weights that the service never sees."""
    demand_receipt_file(save_receipt)
    weights = read_weights(weights_file)
    keypair = KeyPair.load(key, passphrase)
    with session.client() as client:
        with progress("encrypting and sending") as update:
            job = client.encrypted_query(sql, weights=weights, keypair=keypair, progress=update, **terms)
            answer = job.result()
        with receipt_kept(answer.receipt, save_receipt):
            if verify:
                answer.verify()
            totals = answer.decrypt(keypair)
            session.show(
                {"totals": totals, "log_index": answer.receipt.index, "key_id": answer.key_id, "verified": verify},
                lambda: table(("column", "weighted sum"), list(totals.items()), empty="No columns."),
            )


def read_weights(path: Path) -> Weights:
    """Weights of a JSON file.

    Raises:
        InvalidRequest: it is not one of the three forms.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_float=_no_float)
    except ValueError:
        raise _bad(f"{path} is not JSON with whole-number weights") from None
    if isinstance(document, dict):
        return document
    if not isinstance(document, list):
        raise _bad(f"{path} holds neither a list nor an object")
    if all(isinstance(item, int) and not isinstance(item, bool) for item in document):
        return document
    try:
        return {tuple(item["key"]): item["weight"] for item in document}
    except (TypeError, KeyError):
        raise _bad(f'{path}: each item is {{"key": [...], "weight": n}}') from None


def _no_float(text: str) -> int:
    raise ValueError(text)


def _bad(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="weights", rule="weights.file")


def _show_key(keypair: KeyPair, file: Path, as_json: bool) -> None:
    found = {"file": str(file), "key_id": keypair.public.key_id, "bits": keypair.public.bits}
    text = f"{file}: {keypair.public.bits} bits\n{keypair.public.key_id}\nfingerprint {fingerprint(keypair)}"
    print_value(found, text, as_json=as_json)
