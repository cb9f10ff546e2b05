# SPDX-License-Identifier: Apache-2.0
"""`weir datasets`, `weir query`, `weir estimate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from weir.amounts import format_epsilon, format_price, format_rho
from weir.errors import ApprovalRequired
from weir_client._answer import Answer
from weir_client._records import Dataset, Estimate
from weir_client.cli.output import Session, connected, table


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (datasets, query, estimate):
        group.add_command(command)


def _shares(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int] | None:
    """COLUMN=N, each column once."""
    shares: dict[str, int] = {}
    for text in given:
        name, found, number = text.rpartition("=")
        if not found or not name or not number.isascii() or not number.isdigit() or name in shares:
            raise click.BadParameter("each is COLUMN=N, such as usd=3, and each column comes once")
        shares[name] = int(number[:9])
    return shares or None


def question_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of everything that asks a question."""
    for option in reversed(
        (
            click.argument("sql"),
            click.option("--contract", "-c", required=True, help="Contract to ask under."),
            click.option("--mode", type=click.Choice(["exact", "dp"]), help="By default that of the measures."),
            click.option("--epsilon", help="dp: privacy loss to spend, such as 0.5."),
            click.option("--within", help="dp: wished half-width of the 95 % interval instead."),
            click.option(
                "--share",
                "shares",
                multiple=True,
                callback=_shares,
                metavar="COLUMN=N",
                help="dp: this column's part of the budget, such as usd=3; repeatable, 1 where not given.",
            ),
            click.option("--purpose", help="One of the contract's purposes."),
            click.option("--snapshot", type=click.IntRange(min=1), help="Version to ask; by default the latest."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name", required=False)
@click.option("--search", help="Only datasets whose name, title or keywords contain this.")
@connected
def datasets(session: Session, name: str | None, search: str | None) -> None:
    """List datasets, or show the card of one."""
    with session.client() as client:
        if name is not None:
            card = client.dataset(name)
            session.show(card, lambda: _card(card))
            return
        found = client.datasets(search)
    rows = [(card.name, card.title, card.grade, " ".join(card.modes), _newest(card)) for card in found]
    session.show(found, lambda: table(("name", "title", "grade", "modes", "snapshot"), rows, empty="No dataset fits."))


@click.command()
@question_options
@click.option("--max-price", help="Refuse rather than pay more.")
@click.option(
    "--wait",
    "wait_for_approval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Where a person must approve: wait so long for it, then ask again.",
)
@click.option("--idempotency-key", help="Of an earlier try: gives its answer again, charged once.")
@click.option("--save-receipt", type=click.Path(dir_okay=False), help="Write the receipt to this file.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the receipt against the log.")
@connected
def query(session: Session, sql: str, save_receipt: str | None, verify: bool, **terms: Any) -> None:
    """Ask a question, such as "SELECT region, COUNT(*) FROM census GROUP BY region"."""
    with session.client() as client:
        job = client.query(sql, **terms)
        try:
            answer = job.result()
        except ApprovalRequired:
            click.echo(f"once approved, ask again with --idempotency-key {job.idempotency_key}", err=True)
            raise
        if save_receipt is not None:
            answer.receipt.save(save_receipt)
        if verify:
            answer.verify()
    session.show(_answer_json(answer, job.idempotency_key, verified=verify), lambda: _answer_text(answer, verify))


@click.command()
@question_options
@connected
def estimate(session: Session, sql: str, **terms: Any) -> None:
    """Say what a query would cost and whether it would be answered. Charges nothing."""
    with session.client() as client:
        found = client.estimate(sql, **terms)
    session.show(found, lambda: _estimate_text(found))


def _newest(card: Dataset) -> object:
    return card.snapshots[0].version if card.snapshots else None


def _card(card: Dataset) -> str:
    lines = [
        f"{card.name}: {card.title}",
        card.description,
        f"grade {card.grade} ({card.grading_scheme}) · unit {card.unit} · modes {' '.join(card.modes) or 'none'}",
        f"personal information: {'yes, ' + card.legal_basis if card.personal_information else 'no'}",
        f"responsible {card.responsible} · from {card.provenance}",
        *_account(card),
        "",
        table(
            ("dimension", "type", "cells", "title"),
            [(d.name, d.type, _cells(d.cells), d.title) for d in card.dimensions],
            empty="No dimensions.",
        ),
        "",
        table(
            ("measure", "mode", "from", "to", "unit", "aggregates", "title"),
            [(m.name, m.mode, m.lower, m.upper, m.unit, " ".join(m.aggregates), m.title) for m in card.measures],
            empty="No measures.",
        ),
    ]
    return "\n".join(lines)


def _account(card: Dataset) -> list[str]:
    account = card.privacy_account
    if account is None:
        return []
    if account.accounting == "pure":
        return [f"privacy budget of lineage {card.lineage}: ε {format_epsilon(account.lifetime)} for life, pure"]
    return [
        f"privacy budget of lineage {card.lineage}: ρ {format_rho(account.lifetime)} for life (zCDP);"
        f" a query states ε at δ = 1e-{account.delta_digits}"
    ]


def _cells(cells: tuple[object, ...]) -> str:
    shown = ", ".join("null" if cell is None else str(cell) for cell in cells[:6])
    return shown if len(cells) <= 6 else f"{shown}, … ({len(cells)})"


def _answer_text(answer: Answer, verified: bool) -> str:
    price = "" if answer.price_micro is None else f" · price {format_price(answer.price_micro)}"
    check = "verified" if verified else "not verified"
    return f"{answer}\nentry {answer.receipt.index} of the log, {check}{price}"


def _answer_json(answer: Answer, idempotency_key: str, *, verified: bool) -> dict[str, object]:
    return {
        "columns": list(answer.column_names),
        "rows": answer.rows(),
        "dataset": answer.dataset,
        "snapshot": answer.snapshot,
        "mode": answer.mode,
        "epsilon": format_epsilon(answer.epsilon_nano),
        "rho": format_rho(answer.rho_micro),
        "delta": f"1e-{answer.delta_digits}" if answer.delta_digits else "0",
        "sticky": answer.sticky,
        "price_micro": answer.price_micro,
        "noise": answer.noise,
        "coverage": answer.coverage,
        "log_index": answer.receipt.index,
        "verified": verified,
        "idempotency_key": idempotency_key,
    }


def _estimate_text(found: Estimate) -> str:
    verdict = {"allow": "would be answered", "needs_approval": "needs approval", "deny": "would be refused"}
    lines = [
        verdict.get(found.verdict, found.verdict),
        f"snapshot {found.snapshot} · {found.cells} cells · price {format_price(found.price_micro)}"
        f" · ε = {format_epsilon(found.epsilon_nano)}"
        + (f" (ρ = {format_rho(found.rho_micro)})" if found.rho_micro else "")
        + (" (released before)" if found.sticky else ""),
    ]
    lines += [f"{reason.code}: {reason.sentence}" for reason in found.reasons]
    lines += [
        f"noise of column {noise.column}: {noise.distribution}, scale {noise.scale}"
        + (f", ± {noise.interval95} grid steps (95 %)" if noise.interval95 is not None else "")
        for noise in found.noise
    ]
    return "\n".join(lines)
