# SPDX-License-Identifier: Apache-2.0
"""`weir balance`, `weir receipts`: the caller's own books."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from weir_client._client import Client
from weir_client._limits import Balance
from weir_client._receipts import Receipt
from weir_client.cli.new_files import demand_folder
from weir_client.cli.output import Session, connected, table


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (balance, receipts):
        group.add_command(command)


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
    if save is not None:
        demand_folder(save, named=save, field="save")
    with session.client() as client:
        found = client.receipts()
    rows = [_receipt_row(receipt) for receipt in found]
    names = ("entry", "time", "type", "subject")
    session.show(
        [{"index": receipt.index, "event": receipt.event, "checkpoint": receipt.checkpoint} for receipt in found],
        lambda: table(names, rows, empty="No receipts."),
    )
    if save is not None:
        for receipt in found:
            receipt.save(save / f"receipt-{receipt.index}.json")


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
