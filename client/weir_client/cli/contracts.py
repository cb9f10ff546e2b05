# SPDX-License-Identifier: Apache-2.0
"""`weir contracts`: read, sign, move on and export contracts, and attest their duties."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from weir.amounts import format_epsilon, format_price, format_rho
from weir.odrl import agreement
from weir_client import _contracts
from weir_client._signing import SigningKey
from weir_client._terms import Contract, ContractSignature, Duty
from weir_client.cli.encrypted import PASSPHRASE
from weir_client.cli.new_files import demand_new_file
from weir_client.cli.output import Session, connected, print_value, table

_CONTRACT = click.argument("contract")
_CONTRACTS = click.argument("contracts", nargs=-1, required=True)
_REASON = click.option("--reason", required=True, help="Why; it is logged.")
_KEY_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


def register(group: click.Group) -> None:
    """Adds the command."""
    group.add_command(contracts)


@click.group(invoke_without_command=True)
@connected
def contracts(session: Session) -> None:
    """Read, sign, activate, suspend, terminate and export contracts."""
    if click.get_current_context().invoked_subcommand is None:
        _list(session)


@contracts.command("list")
@connected
def list_contracts(session: Session) -> None:
    """List contracts with their states."""
    _list(session)


@contracts.command("show")
@_CONTRACT
@connected
def show(session: Session, contract: str) -> None:
    """Show a contract: terms, state, signatures and duties."""
    with session.client() as client:
        found = client.contract(contract)
    session.show(found, lambda: contract_text(found))


@contracts.command("key")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@PASSPHRASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new_key(output: Path, passphrase: str | None, as_json: bool) -> None:
    """Make a key that signs contracts, readable by its owner only; prints the line for the party document."""
    demand_new_file(output, rule="key.exists", sentence="a key is never overwritten")
    key = SigningKey.generate()
    key.save(output, passphrase)
    print_value({"file": str(output), "signing_key": key.line}, key.line, as_json=as_json)


@contracts.command("sign")
@_CONTRACTS
@click.option("--key", "key_file", required=True, type=_KEY_FILE, help="File that `weir contracts key` wrote.")
@click.option("--digest", help="Sign only if these are the terms, by digest; for one contract.")
@click.option("--yes", is_flag=True, help="Do not ask; the terms are shown all the same.")
@PASSPHRASE
@connected
def sign(
    session: Session,
    contracts: tuple[str, ...],
    key_file: Path,
    digest: str | None,
    yes: bool,
    passphrase: str | None,
) -> None:
    """Sign offered contracts after reading their terms. The private key stays here."""
    if digest is not None and len(contracts) > 1:
        raise click.UsageError("--digest goes with one contract")
    key, signed = SigningKey.load(key_file, passphrase), []
    with session.client() as client:
        for name in contracts:
            shown = client.contract(name)
            click.echo(terms_text(shown), err=session.as_json)
            if not yes:
                click.confirm(f"Sign {name} with {key.line}?", abort=True, err=True)
            # What was shown is what is signed, whatever the service offers meanwhile.
            signed.append(client.sign_contract(shown, key, digest=digest))
    session.show(signed, lambda: "\n".join(f"signed {item.id}: {item.state}" for item in signed))


def _move(name: str, state: str, sentence: str) -> Callable[..., Any]:
    """The command that brings contracts to a state."""

    @contracts.command(name, help=sentence)
    @_CONTRACTS
    @_REASON
    @connected
    def command(session: Session, contracts: tuple[str, ...], reason: str) -> None:
        with session.client() as client:
            moved = [client.set_contract_state(contract, state, reason=reason) for contract in contracts]
        session.show(moved, lambda: "\n".join(f"{item.id}: {item.state}" for item in moved))

    return command


_move("activate", "active", "Activate accepted contracts. Operators.")
_move("suspend", "suspended", "Stop contracts for now. Operators, and providers their own.")
_move("resume", "active", "Resume suspended contracts. Operators.")
_move("terminate", "terminated", "End contracts for good. Operators, and parties their own.")


@contracts.command("attest")
@_CONTRACT
@click.argument("duty")
@click.option("--statement", required=True, help="How it was met; it is logged.")
@connected
def attest(session: Session, contract: str, duty: str, statement: str) -> None:
    """Say that a duty of a contract was met."""
    with session.client() as client:
        found = client.attest_duty(contract, duty, statement=statement)
    session.show(found, lambda: "\n".join(_duty(item) for item in found.duties))


@contracts.command("export")
@_CONTRACT
@click.option("--format", "format", type=click.Choice(["odrl", "terms"]), default="odrl", show_default=True)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@connected
def export(session: Session, contract: str, format: str, output: Path | None) -> None:
    """Export a contract: `odrl` as an ODRL agreement (JSON-LD), `terms` as the very bytes that parties sign."""
    if output is not None:
        demand_new_file(output)
    with session.client() as client:
        found = client.contract(contract)
    terms = _contracts.terms(found)
    data = found.canonical if format == "terms" else _odrl(terms, session.identity().domain)
    if output is None:
        click.echo(data.decode())
        return
    output.write_bytes(data)
    session.show({"contract": found.id, "digest": found.digest, "file": str(output)}, f"wrote {output}")


def _odrl(terms: dict[str, Any], domain: str) -> bytes:
    return json.dumps(agreement(terms, domain=domain), ensure_ascii=False, indent=2).encode()


def terms_text(contract: Contract) -> str:
    """The canonical text for people to read before they sign: every term, and nothing that is not signed.

    Raises:
        InvalidReceipt: the text is not what its digest names.
    """
    lines = json.dumps(_contracts.terms(contract), ensure_ascii=False, indent=2, sort_keys=True)
    return f"{printable(lines)}\ndigest {contract.digest}"


def printable(text: str) -> str:
    """Text in which nothing can move the cursor, hide or reverse what a signer reads."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def contract_text(contract: Contract) -> str:
    """A contract for people."""
    rates = contract.rates
    regions = f" · regions {', '.join(contract.regions)}" if contract.regions else ""
    approval = f"{contract.approval} by {contract.approvers}" if contract.approval != "none" else "none"
    lines = (
        f"{contract.id}: {contract.title}",
        f"{contract.state} · {contract.provider} → {contract.requester}, dataset {contract.dataset}",
        f"purposes {', '.join(contract.purposes)} · modes {' '.join(contract.modes)}",
        f"approval {approval} · k {contract.k}{regions}",
        f"dimensions {', '.join(contract.dimensions)}",
        f"measures {', '.join(contract.measures)} · aggregates {' '.join(contract.aggregates)}",
        f"ε {format_epsilon(contract.epsilon_nano)} over its life,"
        f" {format_epsilon(contract.epsilon_per_query_nano)} a query",
        f"ρ {format_rho(contract.rho_micro)} over its life, {format_rho(contract.rho_per_query_micro)} a query",
        f"valid {contract.valid_from} to {contract.valid_until}",
        f"prices in {rates.currency}: query {format_price(rates.per_query_micro)},"
        f" cell {format_price(rates.per_cell_micro)}, ε {format_price(rates.per_epsilon_micro)},"
        f" encrypted operation {format_price(rates.per_encrypted_operation_micro)}",
        *(_duty(duty) for duty in contract.duties),
        *(_signature(contract, signature) for signature in contract.signatures),
        *(() if contract.signed else ("no signatures asked for",)),
        f"digest {contract.digest}",
    )
    # Titles and sentences are other people's: none makes a line that reads like a term.
    return "\n".join(printable(line.replace("\n", " ")) for line in lines)


def _duty(duty: Duty) -> str:
    done = f"attested {duty.attested}" if duty.attested is not None else "open"
    return f"duty {duty.id} by {duty.due}: {done} — {duty.sentence}"


def _signature(contract: Contract, signature: ContractSignature) -> str:
    mark = "verified" if _contracts.verifies(contract, signature) else "DOES NOT VERIFY"
    return f"signed by {signature.role} {signature.party} at {signature.signed}: {mark}"


def _list(session: Session) -> None:
    with session.client() as client:
        found = client.contracts()
    rows = [(c.id, c.state, c.requester, c.dataset, " ".join(c.modes), ", ".join(c.purposes), _day(c)) for c in found]
    names = ("contract", "state", "requester", "dataset", "modes", "purposes", "until")
    session.show(found, lambda: table(names, rows, empty="No contracts."))


def _day(contract: Contract) -> str | None:
    return contract.valid_until.date().isoformat() if contract.valid_until else None
