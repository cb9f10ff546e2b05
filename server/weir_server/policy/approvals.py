# SPDX-License-Identifier: Apache-2.0
"""Approvals: a query that persons must allow first. Operations on one transaction of the store.

An approval is bound to the plan's digest (query, snapshot, mechanism, purpose, price) and to the contract's digest, so
it allows that very query under that very contract, once; a standing one is bound to a template instead (see
`template`). It is used in the transaction that reserves, so no two runs share one use; while it waits it shows the
requester its state and never any data. What persons do with it stands in `approving`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from weir.canonical import canonical_json
from weir.errors import ApprovalRequired, DenialReason, PolicyDenied, QuotaExceeded, UnknownName
from weir.query import query_json
from weir_server.catalog.card import Mode
from weir_server.clock import from_micros, to_micros
from weir_server.plan.values import Plan
from weir_server.policy.contract import Contract
from weir_server.policy.decide import purpose_of
from weir_server.policy.template import fits, fixed_of
from weir_server.store import Row, SqlValue, Transaction, integer, text

WAITS_FOR = timedelta(days=14)
"""How long a request waits, and how long an approval of one very query stays usable."""
MAX_WAITING = 20
"""Requests of one contract that wait at once: each is a row for a person to read, and a leaf."""
_COLUMNS = (
    "id, state, requester, contract, query, plan_digest, contract_digest, epsilon_nano, price_micro, "
    "requested, expires, decided_by, purpose, mode, snapshot, key_id, key_owners, weight_bits, "
    "approvers, uses_left, rho_micro, fixed, standing"
)
_GIVEN = "(SELECT count(*) FROM approval_acts WHERE approval_acts.approval = approvals.id AND act = 'approve')"


@dataclass(frozen=True, slots=True)
class Act:
    """What one person did with an approval."""

    person: str
    act: str
    """`approve`, `reject` or `revoke`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Approval:
    """One request for approval and what became of it."""

    id: str
    state: str
    """`waiting`, `approved`, `rejected`, `used` or `revoked`; a waiting or approved one past `expires` counts as
    expired."""
    requester: str
    contract: str
    query: str
    """Canonical query in JSON."""
    plan_digest: str
    contract_digest: str
    epsilon_nano: int
    price_micro: int
    requested: datetime
    expires: datetime
    decided_by: str
    purpose: str
    """The purpose that counts: stated, or the contract's only one."""
    mode: str
    """What would leave: `exact`, `dp`, `encrypted` or `sealed`."""
    snapshot: int
    key_id: str
    """Key of an encrypted or sealed reply; empty otherwise."""
    key_owners: tuple[str, ...]
    """Who had registered that key, ordered."""
    weight_bits: int
    """Bound on secret weights; 0 without."""
    approvers: int
    """Persons who must approve."""
    uses_left: int
    """Queries that it still allows, once approved."""
    rho_micro: int
    """Loss in the concentrated account."""
    fixed: str
    """Digest of all that a template keeps beside its query; empty where it was asked before there were templates."""
    standing: str
    """Terms of a standing approval as stored, from the first person who states them on; empty for this very query."""
    acts: tuple[Act, ...] = ()
    """In order."""

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Who has approved so far, in order."""
        return tuple(act.person for act in self.acts if act.act == "approve")


def usable(tx: Transaction, plan: Plan, contract: Contract, *, persons: int, now: datetime) -> Approval | None:
    """An approval that the plan may run on, given by at least `persons`: of this very plan, or a standing one.

    A rejection of this very plan outweighs a template that it fits.
    """
    exact = _of_plan(tx, plan, contract, persons=persons, now=now)
    if exact is not None and exact.state != "waiting":
        return exact if exact.state == "approved" else None
    return _of_template(tx, plan, contract, persons=persons, now=now)


def find(tx: Transaction, plan: Plan, contract: Contract, *, persons: int, now: datetime) -> Approval | None:
    """The approval to run on, else the newest unexpired one of this very plan, waiting or rejected; None without any.

    What waits for fewer persons than are asked for now waits for as many from here on.
    """
    found = usable(tx, plan, contract, persons=persons, now=now)
    if found is not None:
        return found
    exact = _of_plan(tx, plan, contract, persons=persons, now=now)
    if exact is not None and exact.state == "waiting" and exact.approvers < persons:
        tx.execute("UPDATE approvals SET approvers = ? WHERE id = ?", (persons, exact.id))
    return exact


def request(
    tx: Transaction,
    plan: Plan,
    contract: Contract,
    *,
    persons: int,
    now: datetime,
    entropy: Callable[[int], bytes],
) -> Approval:
    """A new waiting approval for the plan: all that the plan's digest binds, in words.

    Raises:
        QuotaExceeded: as many requests of the contract wait as may.
    """
    _check_waiting(tx, contract, now=now)
    terms, submission = plan.bound.submission.encrypted, plan.bound.submission
    values: dict[str, SqlValue] = {
        "id": "ap-" + entropy(8).hex(),
        "state": "waiting",
        "requester": submission.principal.name,
        "contract": contract.id,
        "query": canonical_json(query_json(plan.bound.query)).decode(),
        "plan_digest": plan.digest,
        "contract_digest": contract.digest,
        "epsilon_nano": plan.analysis.loss.epsilon_nano,
        "price_micro": plan.charge["price_micro"],
        "requested": to_micros(now),
        "expires": to_micros(now + WAITS_FOR),
        "decided_by": "",
        "purpose": purpose_of(submission.purpose, contract),
        "mode": _mode(plan),
        "snapshot": plan.bound.snapshot.version,
        "key_id": terms.key_id if terms is not None else "",
        "key_owners": json.dumps(sorted(terms.key_owners) if terms is not None else []),
        "weight_bits": terms.weight_bits if terms is not None else 0,
        "approvers": persons,
        "uses_left": 0,
        "rho_micro": plan.analysis.loss.rho_micro,
        "fixed": fixed_of(plan, contract),
        "standing": "",
    }
    row = tuple(values[name] for name in _COLUMNS.split(", "))
    tx.execute(f"INSERT INTO approvals ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    return _approval(row, ())


def use(tx: Transaction, approval: str, *, persons: int, now: datetime) -> None:
    """Spend one use of an approval, in the transaction that reserves. `persons`: as many as must have approved.

    Raises:
        ApprovalRequired: it was used up, taken back or lapsed in the meantime, or too few have approved.
    """
    used = tx.execute(
        "UPDATE approvals SET uses_left = uses_left - 1, state = CASE WHEN uses_left = 1 THEN 'used' ELSE state END "  # noqa: S608
        f"WHERE id = ? AND state = 'approved' AND expires > ? AND uses_left > 0 AND {_GIVEN} >= ? RETURNING id",
        (approval, to_micros(now), persons),
    )
    if not used:
        raise ApprovalRequired(
            "the approval can no longer be used", rule="approval.use", metadata={"approval": approval}
        )


def check_not_revoked(tx: Transaction, approval: str) -> None:
    """Stop what runs on an approval that was taken back.

    Raises:
        PolicyDenied: it was.
    """
    rows = tx.execute("SELECT state FROM approvals WHERE id = ?", (approval,))
    if not rows or rows[0][0] == "revoked":
        reason = DenialReason("approval.revoked", "the approval was taken back")
        raise PolicyDenied(reason.sentence, reasons=(reason,), rule=reason.code, metadata={"approval": approval})


def lapse(tx: Transaction, contract: Contract, *, now: datetime) -> None:
    """End what waits or was approved under terms that are offered again: nothing carries over."""
    moment = to_micros(now)
    tx.execute(
        "UPDATE approvals SET expires = ? WHERE contract_digest = ? AND state IN ('waiting', 'approved') "
        "AND expires > ?",
        (moment, contract.digest, moment),
    )


def get(tx: Transaction, approval: str) -> Approval:
    """One approval.

    Raises:
        UnknownName: no such approval.
    """
    found = _select(tx, "id = ?", (approval,))
    if not found:
        raise UnknownName("no approval of this id", field="approval", rule="name.approval")
    return found[0]


def page(tx: Transaction, *, requester: str | None, before: str, limit: int) -> list[Approval]:
    """Approvals newest first, at most `limit`, from behind the page token `before`; of one requester, or of all."""
    bound_time, _, bound_id = before.partition(":")
    instant, own = int(bound_time or 0), requester or ""
    return _select(
        tx,
        "(? = '' OR requester = ?) AND (? = '' OR requested < ? OR (requested = ? AND id < ?)) "
        "ORDER BY requested DESC, id DESC LIMIT ?",
        (own, own, before, instant, instant, bound_id, limit),
    )


def page_token(approval: Approval) -> str:
    """Token of the page that follows this approval."""
    return f"{to_micros(approval.requested)}:{approval.id}"


def _of_plan(tx: Transaction, plan: Plan, contract: Contract, *, persons: int, now: datetime) -> Approval | None:
    """The newest that was rejected, or approved by enough for this very plan; else one that waits."""
    found = _select(
        tx,
        "plan_digest = ? AND contract_digest = ? AND requester = ? AND expires > ? AND (state IN "
        f"('waiting', 'rejected') OR (state = 'approved' AND standing = '' AND {_GIVEN} >= ?)) "
        "ORDER BY CASE state WHEN 'waiting' THEN 1 ELSE 0 END, requested DESC, id DESC LIMIT 1",
        (plan.digest, contract.digest, plan.bound.submission.principal.name, to_micros(now), persons),
    )
    return found[0] if found else None


def _of_template(tx: Transaction, plan: Plan, contract: Contract, *, persons: int, now: datetime) -> Approval | None:
    """The standing approval that lapses first of those whose template the plan fits."""
    known = _select(
        tx,
        "fixed = ? AND state = 'approved' AND expires > ? AND standing <> '' AND uses_left > 0 "
        f"AND {_GIVEN} >= ? ORDER BY expires, id",
        (fixed_of(plan, contract), to_micros(now), persons),
    )
    asked = query_json(plan.bound.query)
    return next(
        (
            item
            for item in known
            if fits(
                plan,
                asked,
                template=item.query,
                snapshot=item.snapshot,
                rho_micro=item.rho_micro,
                terms=item.standing,
            )
        ),
        None,
    )


def _check_waiting(tx: Transaction, contract: Contract, *, now: datetime) -> None:
    rows = tx.execute(
        "SELECT count(*) FROM approvals WHERE contract = ? AND state = 'waiting' AND expires > ?",
        (contract.id, to_micros(now)),
    )
    if integer(rows[0][0]) >= MAX_WAITING:
        raise QuotaExceeded(
            f"{MAX_WAITING} queries under this contract wait for a person already; ask again once one is decided",
            rule="approval.waiting_limit",
        )


def _mode(plan: Plan) -> str:
    terms = plan.bound.submission.encrypted
    if terms is None:
        return plan.bound.mode.value
    return "sealed" if terms.kind == "sealed" else Mode.ENCRYPTED.value


def _select(tx: Transaction, where: str, parameters: Sequence[SqlValue]) -> list[Approval]:
    """Approvals with what persons did with them. `where`: a condition of this module's own."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM approvals WHERE {where}", parameters)  # noqa: S608
    if not rows:
        return []
    names = [row[0] for row in rows]
    acts = tx.execute(
        "SELECT approval, person, act, reason FROM approval_acts "  # noqa: S608
        f"WHERE approval IN ({', '.join('?' * len(names))}) ORDER BY approval, position",
        names,
    )
    done: dict[SqlValue, list[Act]] = {}
    for approval, person, act, reason in acts:
        done.setdefault(approval, []).append(Act(text(person), text(act), text(reason)))
    return [_approval(row, done.get(row[0], ())) for row in rows]


def _approval(row: Row, acts: Iterable[Act]) -> Approval:
    named = dict(zip(_COLUMNS.split(", "), row, strict=True))

    def word(name: str) -> str:
        return text(named[name])

    def count(name: str) -> int:
        return integer(named[name])

    return Approval(
        id=word("id"),
        state=word("state"),
        requester=word("requester"),
        contract=word("contract"),
        query=word("query"),
        plan_digest=word("plan_digest"),
        contract_digest=word("contract_digest"),
        epsilon_nano=count("epsilon_nano"),
        price_micro=count("price_micro"),
        requested=from_micros(count("requested")),
        expires=from_micros(count("expires")),
        decided_by=word("decided_by"),
        purpose=word("purpose"),
        mode=word("mode"),
        snapshot=count("snapshot"),
        key_id=word("key_id"),
        key_owners=tuple(json.loads(word("key_owners"))),
        weight_bits=count("weight_bits"),
        approvers=count("approvers"),
        uses_left=count("uses_left"),
        rho_micro=count("rho_micro"),
        fixed=word("fixed"),
        standing=word("standing"),
        acts=tuple(acts),
    )
