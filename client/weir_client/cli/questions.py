# SPDX-License-Identifier: Apache-2.0
"""`weir query`, `weir estimate`, `weir sandbox`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from weir.amounts import format_epsilon, format_price, format_rho
from weir.errors import ApprovalRequired, Unavailable
from weir_client._answer import Answer
from weir_client._client import Job
from weir_client._estimates import Estimate, Exposure, Noise
from weir_client._sql import parse
from weir_client.cli.new_files import demand_receipt_file, receipt_kept
from weir_client.cli.output import Session, connected


def register(group: click.Group) -> None:
    """Adds the commands."""
    for command in (query, estimate, sandbox):
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


_SQL = click.argument("sql")
_HOW = (
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
    click.option("--snapshot", type=click.IntRange(min=1), help="Version to ask; by default the latest."),
)


def _with(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


question_options = _with(
    _SQL,
    click.option("--contract", "-c", required=True, help="Contract to ask under."),
    *_HOW,
    click.option("--purpose", help="One of the contract's purposes."),
)
"""Options of everything that asks a question under a contract."""


WAIT = click.option(
    "--wait",
    "wait_for_approval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Where a person must approve: wait so long for it, then ask again.",
)


@click.command()
@question_options
@click.option("--max-price", help="Refuse rather than pay more.")
@WAIT
@click.option("--idempotency-key", help="Of an earlier try: gives its answer again, charged once.")
@click.option("--save-receipt", type=click.Path(dir_okay=False), help="Write the receipt to this file.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the receipt against the log.")
@connected
def query(session: Session, sql: str, save_receipt: str | None, verify: bool, **terms: Any) -> None:
    """Ask a question, such as "SELECT region, COUNT(*) FROM census GROUP BY region"."""
    demand_receipt_file(save_receipt)
    with session.client() as client:
        show_answer(session, client.query(sql, **terms), save_receipt=save_receipt, verify=verify)


def show_answer(session: Session, job: Job[Answer], *, save_receipt: str | None, verify: bool) -> None:
    """Wait for a job's answer, check it and print it."""
    try:
        answer = job.result()
    except ApprovalRequired as error:
        if (approval := error.metadata.get("approval")) is not None:
            error.add_note(f"once approved: weir approvals resume {approval} (again, if need be: it is charged once)")
        raise
    except Unavailable as error:
        error.add_note(f"it may have been answered: ask again with --idempotency-key {job.idempotency_key}")
        raise
    with receipt_kept(answer.receipt, save_receipt):
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


@click.command()
@_with(_SQL, *_HOW)
@connected
def sandbox(session: Session, sql: str, **terms: Any) -> None:
    """Try a question on synthetic rows drawn from the dataset's card: no contract, no charge, no receipt."""
    with session.client() as client:
        answer = client.sandbox(parse(sql).query.dataset).query(sql, **terms).result()
    session.show({"sandbox": True, **_released(answer)}, lambda: str(answer))


def _answer_text(answer: Answer, verified: bool) -> str:
    price = "" if answer.price_micro is None else f" · price {format_price(answer.price_micro)}"
    check = "verified" if verified else "not verified"
    return f"{answer}\nentry {answer.receipt.index} of the log, {check}{price}"


def _answer_json(answer: Answer, idempotency_key: str, *, verified: bool) -> dict[str, object]:
    return {
        **_released(answer),
        "price_micro": answer.price_micro,
        "log_index": answer.receipt.index,
        "verified": verified,
        "idempotency_key": idempotency_key,
    }


def _released(answer: Answer) -> dict[str, object]:
    """What an answer says, whoever proves it."""
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
        "noise": answer.noise,
        "coverage": answer.coverage,
    }


def _estimate_text(found: Estimate) -> str:
    verdict = {"allow": "would be answered", "needs_approval": "needs approval", "deny": "would be refused"}
    later = ", and would be refused even then" if found.lacking and found.verdict == "needs_approval" else ""
    lines = [
        verdict.get(found.verdict, found.verdict) + later,
        f"snapshot {found.snapshot} · {found.cells} cells · price {format_price(found.price_micro)}"
        f" · ε = {format_epsilon(found.epsilon_nano)}"
        + (f" (ρ = {format_rho(found.rho_micro)})" if found.rho_micro else "")
        + (" (released before)" if found.sticky else ""),
    ]
    lines += [f"{reason.code}: {reason.sentence}" for reason in found.reasons]
    lines += [f"noise of {noise.column}: {_noise_text(noise)}" for noise in found.noise]
    lines += [_exposure_line(exposure) for exposure in found.exposures]
    return "\n".join(lines)


def _noise_text(noise: Noise) -> str:
    if noise.interval95 is None:  # Of a ratio of noisy parts, or of a choice among edges.
        return f"{noise.distribution}, no interval that holds for every cell"
    return f"± {noise.interval95} {noise.unit}".rstrip() + f" (95 %), {noise.distribution}"


def _exposure_line(exposure: Exposure) -> str:
    """How far an account is used by everybody, and how far it would be."""
    name, form = ("ρ", format_rho) if exposure.metric == "rho_micro" else ("ε", format_epsilon)
    return (
        f"account of {exposure.scope} {exposure.name}: {name} {form(exposure.used)} of {form(exposure.limit)} used,"
        f" this adds {form(exposure.adds)}"
    )
