# SPDX-License-Identifier: Apache-2.0
"""`weir approvals`: queries that wait for persons, what these decide, and how a requester goes on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from weir.amounts import format_epsilon, format_price, parse_epsilon, parse_price
from weir.errors import AccessError, InvalidReceipt, InvalidRequest, UnknownName
from weir.query import IsNull, leaves
from weir_client._asked import asked_query
from weir_client._client import Client
from weir_client._limits import Balance
from weir_client._terms import Approval, StandingTerms
from weir_client.cli.new_files import demand_receipt_file
from weir_client.cli.output import Session, connected, table, to_json
from weir_client.cli.questions import WAIT, show_answer

_REASON = click.option("--reason", required=True, help="Why; it is logged.")
_BOUND = {"epsilon_nano": "epsilon_nano", "price_micro": "price_micro", "queries": None}
"""Metrics that a use of an approval takes from, with the approval's field that says how much; None for one."""


def register(group: click.Group) -> None:
    """Adds the command."""
    group.add_command(approvals)


@click.group(invoke_without_command=True)
@connected
def approvals(session: Session) -> None:
    """List, approve, reject or take back queries that wait for persons; go on with one's own."""
    if click.get_current_context().invoked_subcommand is None:
        _list(session)


@approvals.command("list")
@connected
def list_approvals(session: Session) -> None:
    """List approval requests, newest first."""
    _list(session)


@approvals.command("show")
@click.argument("approval")
@connected
def show(session: Session, approval: str) -> None:
    """Show one approval: the query in words and as SQL, its price, and to operators limits as they would be after."""
    with session.client() as client:
        item = _one(client, approval)
        left = _left(client, item)
    session.show({**_document(item), "after": left}, lambda: _page(item, left))


@approvals.command("approve")
@click.argument("approval")
@_REASON
@click.option("--standing", is_flag=True, help="As a template: for every query that differs in free literals only.")
@click.option(
    "--free", multiple=True, metavar="COLUMN", help="Its literals are free; repeatable. Default: all of them."
)
@click.option("--uses", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Queries it may allow.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="Days it stands.")
@click.option("--max-epsilon", help="Most that one query may spend. Default: what this one would.")
@click.option("--max-price", help="Most that one query may cost. Default: what this one would.")
@connected
def approve(session: Session, approval: str, reason: str, standing: bool, **terms: Any) -> None:
    """Approve a waiting query. Never one's own, and nobody counts twice.

    Without --standing or --free for this very query, once. Where two persons must approve, both state the same.
    """
    with session.client() as client:
        item = _one(client, approval)
        stated = _terms(item, **terms) if standing or terms["free"] else None
        left = _left(client, item)
        decided = client.decide_approval(approval, approve=True, reason=reason, standing=stated)
    session.show(
        {**_document(decided), "after": left}, lambda: f"{decided.id}: {_state(decided)}\n{_page(decided, left)}"
    )


@approvals.command("reject")
@click.argument("approval")
@_REASON
@connected
def reject(session: Session, approval: str, reason: str) -> None:
    """Reject a waiting query; one person is enough."""
    with session.client() as client:
        decided = client.decide_approval(approval, approve=False, reason=reason)
    session.show(_document(decided), f"{decided.id}: {_state(decided)}")


@approvals.command("revoke")
@click.argument("approval")
@_REASON
@connected
def revoke(session: Session, approval: str, reason: str) -> None:
    """Take an approved one back: nothing more is charged on it, and what runs on it stops at its next stage."""
    with session.client() as client:
        decided = client.revoke_approval(approval, reason=reason)
    session.show(_document(decided), f"{decided.id}: {_state(decided)}")


@approvals.command("resume")
@click.argument("approval")
@WAIT
@click.option("--idempotency-key", help="Of an earlier try: gives its answer again, charged once.")
@click.option("--save-receipt", type=click.Path(dir_okay=False), help="Write the receipt to this file.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check the receipt against the log.")
@connected
def resume(session: Session, approval: str, save_receipt: str | None, verify: bool, **terms: Any) -> None:
    """Ask the very question that an approval of yours shows."""
    demand_receipt_file(save_receipt)
    with session.client() as client:
        show_answer(session, client.resume(approval, **terms), save_receipt=save_receipt, verify=verify)


def _one(client: Client, approval: str) -> Approval:
    found = next((item for item in client.approvals() if item.id == approval), None)
    if found is None:
        raise UnknownName("no approval of this id", field="approval", rule="name.approval")
    return found


def _terms(
    item: Approval, *, free: tuple[str, ...], uses: int, days: int, max_epsilon: str | None, max_price: str | None
) -> StandingTerms:
    """Terms as stated; by default every literal is free, and one query spends and costs what this one would."""
    columns = free or tuple(sorted(_compared(item)))
    if not columns:
        raise InvalidRequest("the query has no literal that could be free", field="free", rule="approval.free")
    return StandingTerms(
        columns,
        uses,
        days,
        item.epsilon_nano if max_epsilon is None else parse_epsilon(max_epsilon),
        item.price_micro if max_price is None else parse_price(max_price, field="max_price"),
    )


def _compared(item: Approval) -> set[str]:
    where = asked_query(item.query).query.where
    return {leaf.column for leaf in leaves(where) if not isinstance(leaf, IsNull)}


def _left(client: Client, item: Approval) -> list[dict[str, object]] | None:
    """What is left of the limits that bind the query, now and after it; None for who may not see limits."""
    try:
        dataset = asked_query(item.query).query.dataset
        lineage, found = client.dataset(dataset).lineage, client.list_quotas()
    except (AccessError, InvalidReceipt, UnknownName):
        return None
    scope = {"requester": item.requester, "contract": item.contract, "dataset": dataset, "lineage": lineage}
    return [
        _after(balance, item)
        for balance in found
        if balance.quota.metric in _BOUND
        and all(getattr(balance.quota, name) in ("", value) for name, value in scope.items())
    ]


def _after(balance: Balance, item: Approval) -> dict[str, object]:
    quota, field = balance.quota, _BOUND[balance.quota.metric]
    takes = 1 if field is None else int(getattr(item, field))
    return {
        "quota": quota.id,
        "metric": quota.metric_name,
        "left": str(quota.amount(balance.remaining)),
        "after": str(quota.amount(max(0, balance.remaining - takes))),
        "enough": takes <= balance.remaining,
    }


def _document(item: Approval) -> dict[str, Any]:
    """The record, and the query as people read it where it can be read."""
    document = {**asdict(item)}
    try:
        document |= {"sql": item.sql, "words": item.words}
    except InvalidReceipt:
        document |= {"sql": None, "words": None}
    shown = to_json(document)
    return shown if isinstance(shown, dict) else {}


def _list(session: Session) -> None:
    with session.client() as client:
        found = client.approvals()
    names = (
        "approval",
        "state",
        "requester",
        "contract",
        "purpose",
        "mode",
        "terms",
        "snapshot",
        "ε",
        "price",
        "asked",
    )
    session.show(
        [_document(item) for item in found],
        lambda: table((*names, "query"), [_row(item) for item in found], empty="No approvals."),
    )


def _row(item: Approval) -> tuple[object, ...]:
    asked = item.requested.isoformat(timespec="seconds") if item.requested else None
    return (
        item.id,
        _state(item),
        item.requester,
        item.contract,
        item.purpose,
        item.mode,
        _key(item),
        item.snapshot,
        format_epsilon(item.epsilon_nano),
        format_price(item.price_micro),
        asked,
        _sql(item),
    )


def _page(item: Approval, left: list[dict[str, object]] | None) -> str:
    """One approval, for whoever decides on it."""
    facts = {
        "state": _state(item),
        "asked by": f"{item.requester}, under {item.contract}, for {item.purpose}",
        "query": _words(item),
        "SQL": _sql(item),
        "would leave": " ".join(filter(None, (item.mode, _key(item)))),
        "spends": f"ε {format_epsilon(item.epsilon_nano)}, price {format_price(item.price_micro)}",
        "stands for": _stands(item),
        "approved by": ", ".join(item.approved_by),
        "reasons": "; ".join(item.reasons),
    }
    lines = [f"{name:<12}{value}" for name, value in facts.items() if value]
    if left is None:  # Silence would read as no limit at all.
        lines.append(f"{'limits':<12}not shown to you; operators see them")
    for limit in left or ():
        lack = "" if limit["enough"] else "  NOT ENOUGH"
        lines.append(
            f"{'limit':<12}{limit['quota']}: {limit['metric']} {limit['left']} left, {limit['after']} after{lack}"
        )
    return "\n".join(lines)


def _state(item: Approval) -> str:
    """The state, with how many of the persons have approved while it waits, and uses while it stands."""
    if item.state == "waiting" and item.approvers > 1:
        return f"waiting, {len(item.approved_by)} of {item.approvers} persons"
    if item.state == "approved" and item.standing is not None:
        return f"approved, {item.uses_left} of {item.standing.uses} uses left"
    return item.state


def _stands(item: Approval) -> str:
    terms = item.standing
    if terms is None:
        return ""
    ceilings = f"at most ε {format_epsilon(terms.epsilon_nano)} and price {format_price(terms.price_micro)} each"
    return f"any literals of {', '.join(terms.free_columns)}; {terms.uses} uses in {terms.days} days, {ceilings}"


def _sql(item: Approval) -> str:
    try:
        return item.sql
    except InvalidReceipt:  # A newer service may know more of the language: show what it sent.
        return item.query


def _words(item: Approval) -> str:
    try:
        return item.words
    except InvalidReceipt:
        return ""


def _key(item: Approval) -> str:
    """Under whose key the reply would be, and how large hidden weights may be; empty where all is in the clear."""
    if not item.key_id:
        return ""
    weights = f", weights of {item.weight_bits} bits" if item.weight_bits else ""
    return f"key {item.key_id[:19]}… of {', '.join(item.key_owners)}{weights}"
