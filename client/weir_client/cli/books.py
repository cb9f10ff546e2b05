# SPDX-License-Identifier: Apache-2.0
"""`weir contracts`, `weir balance`, `weir receipts`: the caller's own books."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from weir.amounts import format_epsilon, format_price, format_rho
from weir_client._client import Client
from weir_client._receipts import Receipt
from weir_client._records import Balance, Contract
from weir_client.cli.output import Session, connected, table


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (contracts, balance, receipts):
        group.add_command(command)


@click.command()
@click.argument("contract", required=False)
@connected
def contracts(session: Session, contract: str | None) -> None:
    """List contracts, or show one."""
    with session.client() as client:
        found = client.contracts()
    if contract is not None:
        found = [item for item in found if item.id == contract]
        if not found:
            raise click.ClickException(f"no contract {contract} for this identity")
        session.show(found[0], lambda: _contract(found[0]))
        return
    rows = [(c.id, c.requester, c.dataset, " ".join(c.modes), ", ".join(c.purposes), _day(c)) for c in found]
    names = ("contract", "requester", "dataset", "modes", "purposes", "until")
    session.show(found, lambda: table(names, rows, empty="No contracts."))


@click.command()
@click.argument("contract", required=False)
@connected
def balance(session: Session, contract: str | None) -> None:
    """Show the limits that bind you, and what is left of them."""
    with session.client() as client:
        found = client.balance(contract)
        known = {} if session.as_json else currencies(client)
    session.show(found, lambda: balances(found, known))


@click.command()
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Write each receipt into this folder.")
@connected
def receipts(session: Session, save: Path | None) -> None:
    """List receipts of your own queries, newest first."""
    with session.client() as client:
        found = client.receipts()
    if save is not None:
        for receipt in found:
            receipt.save(save / f"receipt-{receipt.index}.json")
    rows = [_receipt_row(receipt) for receipt in found]
    names = ("entry", "time", "type", "subject")
    session.show(
        [{"index": receipt.index, "event": receipt.event, "checkpoint": receipt.checkpoint} for receipt in found],
        lambda: table(names, rows, empty="No receipts."),
    )


def balances(found: list[Balance], currencies: Mapping[str, str] | None = None) -> str:
    """A table of limits, amounts as people write them. `currencies`: by contract, where known."""
    rows = [_balance_row(item, (currencies or {}).get(item.quota.contract, "")) for item in found]
    names = ("quota", "metric", "used", "held", "limit", "left", "window", "resets")
    return table(names, rows, empty="No limits.")


def currencies(client: Client) -> dict[str, str]:
    """Currency of each contract that the caller may see."""
    return {contract.id: contract.rates.currency for contract in client.contracts()}


def _balance_row(item: Balance, currency: str) -> tuple[object, ...]:
    quota = item.quota
    amounts = [quota.amount(amount) for amount in (item.used, item.held, quota.limit, item.remaining)]
    metric = quota.metric_name + (f" {currency}" if currency and quota.metric == "price_micro" else "")
    resets = item.resets.isoformat() if item.resets else None
    return quota.id, metric, *amounts, quota.window, resets


def _receipt_row(receipt: Receipt) -> tuple[object, ...]:
    event = receipt.event
    return receipt.index, event.get("time"), event.get("type"), event.get("subject")


def _day(contract: Contract) -> str | None:
    return contract.valid_until.date().isoformat() if contract.valid_until else None


def _contract(contract: Contract) -> str:
    rates = contract.rates
    return "\n".join(
        (
            f"{contract.id}: {contract.title}",
            f"{contract.provider} → {contract.requester}, dataset {contract.dataset}",
            f"purposes {', '.join(contract.purposes)} · modes {' '.join(contract.modes)}",
            f"approval {contract.approval}",
            f"dimensions {', '.join(contract.dimensions)}",
            f"measures {', '.join(contract.measures)} · aggregates {' '.join(contract.aggregates)}",
            f"ε {format_epsilon(contract.epsilon_nano)} over its life,"
            f" {format_epsilon(contract.epsilon_per_query_nano)} a query",
            f"ρ {format_rho(contract.rho_micro)} over its life, {format_rho(contract.rho_per_query_micro)} a query",
            f"valid {contract.valid_from} to {contract.valid_until}",
            f"prices in {rates.currency}: query {format_price(rates.per_query_micro)},"
            f" cell {format_price(rates.per_cell_micro)}, ε {format_price(rates.per_epsilon_micro)},"
            f" encrypted operation {format_price(rates.per_encrypted_operation_micro)}",
            f"digest {contract.digest}",
        )
    )
