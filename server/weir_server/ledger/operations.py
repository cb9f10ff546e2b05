# SPDX-License-Identifier: Apache-2.0
"""What the ledger does, each as one function on an open transaction: reserve, post, void, expire, refuse, record.

Each reservation resolves exactly once:

    reserve ──► held ──► post     answer, meter and leaf become true together
                    ├──► void     the query failed; everything but privacy is given back
                    └──► expire   nobody resolved it in time, or the process died
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from weir.canonical import Encoded, canonical_json
from weir.errors import IdempotencyConflict, InternalError, InvalidRequest, Overloaded, Unavailable
from weir_server.clock import from_micros, to_micros
from weir_server.ledger.meter import count_answer, count_privacy
from weir_server.ledger.quotas import USE, binding, check_budget, check_limits, settle, take
from weir_server.ledger.values import (
    METRICS,
    Inputs,
    Metric,
    ReleasePending,
    Replay,
    Reservation,
    ReservationRequest,
    StoredRelease,
    Subject,
    Superseded,
    checked_charge,
)
from weir_server.ledger.windows import Names, advance, read_names, written
from weir_server.log import Appended as Posted
from weir_server.log import append, rfc3339
from weir_server.observe import event as note
from weir_server.store import Row, Transaction, blob, integer, text
from weir_server.store.pending import Table

Entropy = Callable[[int], bytes]
RESERVED, RELEASED, REFUSED = "weir.query.reserved", "weir.query.released", "weir.query.refused"
VOIDED, EXPIRED = "weir.query.voided", "weir.query.expired"
_COLUMNS = (
    "id",
    "state",
    "requester",
    "contract",
    "dataset",
    "lineage",
    "reserved_at",
    "held_until",
    "windows",
    *METRICS,
)
_RESERVATIONS = Table("reservations", _COLUMNS, "ON CONFLICT (id) DO UPDATE SET state = excluded.state")
_KEYS = Table(
    "idempotency",
    ("requester", "idempotency_key", "request_digest", "reservation"),
    "ON CONFLICT (requester, idempotency_key) DO UPDATE SET reservation = excluded.reservation",
)
_ANSWERS = Table("answers", ("reservation", "leaf_index", "answer"))
_RELEASES = Table("releases", ("release_key", "leaf_index", "release_bytes"))
_HOLDS = Table("holds", ("reservation", "owner", "release_key"))
_DECISIONS = Table("decisions", ("leaf_index", "contract_digest", "facts"))


def reserve(
    tx: Transaction, request: ReservationRequest, *, now: datetime, hold_seconds: int, entropy: Entropy
) -> Reservation | Replay:
    """Charges before touch: after the group is durable, data MAY be read. A used key gives the old answer instead.

    Privacy loss is spent from here on, whatever happens; the rest is held until the reservation resolves. A key whose
    earlier attempt failed starts a new attempt, which is charged anew: its first loss may have been observed.

    Raises:
        IdempotencyConflict: the key was used with another request.
        Overloaded: the same request is still running.
        ReleasePending: another process is drawing the same release, or has drawn it.
        BudgetExhausted, QuotaExceeded: limits that cannot take the charge; all of them are named.
        InvalidRequest: the charge is malformed.
    """
    moment = advance(tx, now)
    # 1. The key first: a repeated request must not depend on what is left of any limit.
    replay = _look_up(tx, request, moment, entropy)
    if replay is not None:
        return replay
    _wait_for_release(tx, request)
    # 2. Every limit that binds, before anything changes.
    amounts = checked_charge(request.charge)
    quotas = binding(tx, request.subject)
    if request.budget is not None:
        check_budget(quotas, request.budget)
    check_limits(tx, quotas, amounts, moment)
    # 3. One leaf, whose index names the reservation; then the books.
    held_until = moment + timedelta(seconds=hold_seconds)
    leaf = _append_reserved(tx, request, amounts, moment=moment, held_until=held_until, entropy=entropy)
    _keep(tx, leaf, request.inputs)
    reservation = Reservation(leaf.leaf_index, request, moment, held_until)
    _insert(tx, reservation, amounts, take(tx, quotas, amounts, moment))
    count_privacy(tx, request.subject, amounts)
    return reservation


def post(
    tx: Transaction,
    reservation: Reservation,
    *,
    answer: bytes,
    release_key: str | None = None,
    release: bytes | None = None,
    event: Mapping[str, object],
    now: datetime,
    entropy: Entropy,
) -> Posted | Superseded:
    """COMMIT POINT of a query: spend, meter, stored answer, sticky release and leaf, in one transaction.

    `answer`: the bytes the requester gets, now and on every replay. `release_key` and `release`: how the release is
    found again; the first writer wins, and a later one with other bytes gets `Superseded`, changes nothing, and MUST
    answer from that release. `event`: the meter record, whole.

    Raises:
        Unavailable: the reservation resolved before, for instance by expiry; the answer MUST NOT leave.
    """
    moment = advance(tx, now)
    winner = None if release_key is None else find_release(tx, release_key)
    if winner is not None and winner.release != release:
        return Superseded(winner.release, winner.leaf_index)
    row = _resolve(tx, reservation.id, "posted", moment)
    request = reservation.request
    amounts, names = checked_charge(request.charge), read_names(text(row[8]))
    settle(tx, binding(tx, request.subject), amounts, reserved_at=reservation.reserved_at, names=names, keep=True)
    count_answer(tx, request.subject, amounts)
    leaf = append(
        tx,
        RELEASED,
        _data(request.subject, event, amounts, reservation=reservation.id, policy_digest=request.policy_digest),
        now=moment,
        entropy=entropy,
        subject=_about(request.subject),
        requester=request.subject.requester,
        commitments=_commitments(request, answer=answer, release=release),
    )
    tx.put(_ANSWERS, reservation.id, (reservation.id, leaf.leaf_index, answer))
    if release_key is not None and release is not None and winner is None:
        tx.put(_RELEASES, release_key, (release_key, leaf.leaf_index, release))
    return leaf


def charge_and_post(
    tx: Transaction,
    request: ReservationRequest,
    *,
    answer: bytes,
    release_key: str | None = None,
    release: bytes | None = None,
    event: Mapping[str, object],
    now: datetime,
    entropy: Entropy,
) -> Posted | Superseded | Replay:
    """Reserve and post at once, where no data is touched because the release already exists.

    Raises: as `reserve`.
    """
    reservation = reserve(tx, request, now=now, hold_seconds=0, entropy=entropy)
    if isinstance(reservation, Replay):
        return reservation
    posted = post(
        tx,
        reservation,
        answer=answer,
        release_key=release_key,
        release=release,
        event=event,
        now=now,
        entropy=entropy,
    )
    if isinstance(posted, Superseded):  # The release it answers from is the stored one, by construction.
        raise InternalError("a sticky answer was made from another release", rule="release.sticky")
    return posted


def void(tx: Transaction, reservation: Reservation, *, reason_code: str, now: datetime, entropy: Entropy) -> Posted:
    """Gives back all but privacy, since no answer was made; one `weir.query.voided` leaf.

    `reason_code`: a stable code such as `engine.failed`; never an engine's words.

    Raises:
        Unavailable: the reservation resolved before.
    """
    moment = advance(tx, now)
    return _give_back(tx, reservation.id, VOIDED, reason_code, moment, entropy)


def expire_holds(tx: Transaction, *, now: datetime, entropy: Entropy) -> int:
    """Expires every hold whose time is up; gives how many. Call it every few seconds."""
    moment = advance(tx, now)
    rows = tx.execute(
        "SELECT id FROM reservations WHERE state = 'held' AND held_until <= ? ORDER BY id", (to_micros(moment),)
    )
    expired = _give_back_each(tx, [integer(row[0]) for row in rows], "hold.expired", moment, entropy)
    if tx.owner:
        tx.execute("DELETE FROM holds WHERE reservation NOT IN (SELECT id FROM reservations WHERE state = 'held')")
    return expired


def recover(tx: Transaction, *, now: datetime, entropy: Entropy) -> int:
    """Expires every hold whose process is gone. The same code as the sweeper; gives how many.

    Where one process owns the books: at its start, and at its end once nothing runs that could still post.
    """
    rows = tx.execute(
        "SELECT reservations.id, COALESCE(owner, '') FROM reservations "
        "LEFT JOIN holds ON holds.reservation = reservations.id WHERE state = 'held' ORDER BY reservations.id"
    )
    owners = {text(owner) for _, owner in rows}
    gone = {owner for owner in owners if tx.is_gone(owner)}
    return _give_back_all(tx, [integer(number) for number, owner in rows if owner in gone], now, entropy)


def others_hold(tx: Transaction) -> bool:
    """Whether any process of those that share the books holds anything: a look before `recover`, which takes a turn."""
    return bool(
        tx.look_up(
            "SELECT 1 FROM holds JOIN reservations ON reservations.id = holds.reservation WHERE state = 'held' LIMIT 1"
        )
    )


def give_up(tx: Transaction, *, now: datetime, entropy: Entropy) -> int:
    """Expires this process's own holds, at its end, once nothing runs that could still post; gives how many."""
    if not tx.owner:
        return recover(tx, now=now, entropy=entropy)
    rows = tx.execute(
        "SELECT reservations.id FROM reservations JOIN holds ON holds.reservation = reservations.id "
        "WHERE state = 'held' AND owner = ? ORDER BY reservations.id",
        (tx.owner,),
    )
    return _give_back_all(tx, [integer(row[0]) for row in rows], now, entropy)


def _give_back_all(tx: Transaction, numbers: Sequence[int], now: datetime, entropy: Entropy) -> int:
    return _give_back_each(tx, numbers, "process.restarted", advance(tx, now), entropy)


def _give_back_each(
    tx: Transaction, numbers: Sequence[int], reason_code: str, moment: datetime, entropy: Entropy
) -> int:
    """Expires these; gives how many. One that its limits do not hold is passed over and named in the operator log: it
    must keep neither the others from their end nor the books from opening. It stays held, which gives nothing back."""
    expired = 0
    for number in numbers:
        try:
            _give_back(tx, number, EXPIRED, reason_code, moment, entropy)
            expired += 1
        except InternalError as error:
            if error.rule != USE:
                raise
            note("hold_stuck", level=logging.ERROR, rule=USE, entry=number, exception=type(error).__name__)
    return expired


def refuse(
    tx: Transaction,
    subject: Subject,
    *,
    event: Mapping[str, object],
    now: datetime,
    entropy: Entropy,
    commitments: Mapping[str, bytes] | None = None,
    inputs: Inputs | None = None,
) -> Posted:
    """Logs a refusal, at no charge; one `weir.query.refused` leaf, whose receipt the requester gets.

    `inputs`: what was decided from, where it is the decision that refuses.
    """
    moment = advance(tx, now)
    leaf = append(
        tx,
        REFUSED,
        _data(subject, event, dict.fromkeys(METRICS, 0)),
        now=moment,
        entropy=entropy,
        subject=_about(subject),
        requester=subject.requester,
        commitments={**(commitments or {}), **_committed(inputs)},
    )
    _keep(tx, leaf, inputs)
    return leaf


def record(
    tx: Transaction,
    type: str,
    event: Mapping[str, object],
    *,
    subject: str,
    now: datetime,
    entropy: Entropy,
    commitments: Mapping[str, bytes] | None = None,
) -> Posted:
    """Logs anything that is not a query: publications, policy changes, approvals, suspensions.

    `type`: such as `weir.dataset.published`. `subject`: such as `dataset/census`.

    Raises:
        InvalidRequest: a type the ledger writes itself.
    """
    if not type.startswith("weir.") or type.startswith(("weir.query.", "weir.quota.")):
        raise InvalidRequest("this type of entry is the ledger's own", field="type", rule="log.type")
    moment = advance(tx, now)
    return append(tx, type, event, now=moment, entropy=entropy, subject=subject, commitments=commitments)


def find_release(tx: Transaction, release_key: str) -> StoredRelease | None:
    """The sticky release of this key."""
    row = tx.pending(_RELEASES, release_key)
    if row is None:
        sql = "SELECT release_key, leaf_index, release_bytes FROM releases WHERE release_key = ?"
        row = next(iter(tx.look_up(sql, (release_key,))), None)
    if row is None:
        return None
    _, index, release = row
    return StoredRelease(blob(release), integer(index))


def find_answer(tx: Transaction, requester: str, key: str, *, request_digest: str) -> Replay | None:
    """The answer given under this idempotency key, or None where there is none (yet).

    Raises:
        IdempotencyConflict: the key was used with another request.
    """
    found = _by_key(tx, requester, key)
    if found is None:
        return None
    digest, state, _, reservation = found
    if digest != request_digest:
        raise _conflict()
    return _replay(tx, integer(reservation)) if state == "posted" else None


def is_answered(tx: Transaction, requester: str, key: str) -> bool:
    """Whether an answer was given under this idempotency key, to whatever request."""
    found = _by_key(tx, requester, key)
    return found is not None and found[1] == "posted"


def _look_up(tx: Transaction, request: ReservationRequest, moment: datetime, entropy: Entropy) -> Replay | None:
    found = _by_key(tx, request.subject.requester, request.idempotency_key)
    if found is None:
        return None
    digest, state, held_until, reservation = found
    if digest != request.request_digest:
        raise _conflict()
    if state == "posted":
        return _replay(tx, integer(reservation))
    if state == "held":
        if integer(held_until) > to_micros(moment):
            raise Overloaded("the same request is still running", rule="idempotency.running")
        # Its time is up but the sweeper has not come by.
        _give_back(tx, integer(reservation), EXPIRED, "hold.expired", moment, entropy)
    return None


def _by_key(tx: Transaction, requester: str, key: str) -> Row | None:
    """Digest, state, end of hold and reservation of the key's newest attempt."""
    asked = tx.pending(_KEYS, (requester, key))
    if asked is not None:
        _, _, digest, reservation = asked
        row = _reservation(tx, integer(reservation))
        return digest, row[1], row[7], reservation
    rows = tx.look_up(
        """SELECT request_digest, state, held_until, reservation FROM idempotency
           JOIN reservations ON reservations.id = idempotency.reservation
           WHERE idempotency.requester = ? AND idempotency_key = ?""",
        (requester, key),
    )
    if not rows:
        return None
    digest, _, held_until, reservation = rows[0]
    resolved = tx.pending(_RESERVATIONS, reservation)  # In this very group.
    return rows[0] if resolved is None else (digest, resolved[1], held_until, reservation)


def _reservation(tx: Transaction, reservation: int) -> Row:
    """Its row, by `_COLUMNS`."""
    row = tx.pending(_RESERVATIONS, reservation)
    if row is not None:
        return row
    rows = tx.look_up(f"SELECT {', '.join(_COLUMNS)} FROM reservations WHERE id = ?", (reservation,))  # noqa: S608
    if not rows:
        raise InternalError("no such reservation", rule="reservation.unknown")
    return rows[0]


def _replay(tx: Transaction, reservation: int) -> Replay:
    row = tx.pending(_ANSWERS, reservation)
    if row is None:
        sql = "SELECT reservation, leaf_index, answer FROM answers WHERE reservation = ?"
        row = next(iter(tx.look_up(sql, (reservation,))), None)
    if row is None:
        raise InternalError("a posted answer is missing: run fsck", rule="ledger.answer")
    return Replay(blob(row[2]), integer(row[1]))


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict(
        "the idempotency key was used with another request", field="idempotency_key", rule="idempotency.conflict"
    )


def _append_reserved(
    tx: Transaction,
    request: ReservationRequest,
    amounts: Mapping[Metric, int],
    *,
    moment: datetime,
    held_until: datetime,
    entropy: Entropy,
) -> Posted:
    data = _data(request.subject, request.event, amounts, policy_digest=request.policy_digest)
    return append(
        tx,
        RESERVED,
        {**data, "held_until": rfc3339(held_until)},
        now=moment,
        entropy=entropy,
        subject=_about(request.subject),
        requester=request.subject.requester,
        commitments={**_commitments(request), **_committed(request.inputs)},
    )


def _wait_for_release(tx: Transaction, request: ReservationRequest) -> None:
    """Noise is drawn once a release, also where two processes are asked for it at the same moment.

    Raises:
        ReleasePending: another process holds a reservation for it, or has made it since the caller looked. Holds of one
            that is gone end by `recover`.
    """
    if not (tx.owner and request.release_key):
        return
    # What this group has not written yet is this process's own and no hold of another: only releases are asked for. A
    # hold that this very group resolves still counts; the caller comes back in a moment.
    rows = tx.look_up(
        "SELECT 1 FROM holds JOIN reservations ON reservations.id = holds.reservation "
        "WHERE release_key = ? AND owner <> ? AND state = 'held' "
        "UNION ALL SELECT 1 FROM releases WHERE release_key = ?",
        (request.release_key, tx.owner, request.release_key),
    )
    if rows or tx.pending(_RELEASES, request.release_key) is not None:
        raise ReleasePending


def _insert(tx: Transaction, reservation: Reservation, amounts: Mapping[Metric, int], names: Names) -> None:
    request, subject, number = reservation.request, reservation.request.subject, reservation.id
    whose = (subject.requester, subject.contract, subject.dataset, subject.lineage)
    times = (to_micros(reservation.reserved_at), to_micros(reservation.held_until))
    charged = (amounts[metric] for metric in METRICS)
    tx.put(_RESERVATIONS, number, (number, "held", *whose, *times, written(names), *charged))
    key = (subject.requester, request.idempotency_key)
    tx.put(_KEYS, key, (*key, request.request_digest, number))
    if tx.owner:
        tx.put(_HOLDS, number, (number, tx.owner, request.release_key))


def _resolve(tx: Transaction, reservation: int, state: str, moment: datetime) -> Row:
    """Moves a reservation out of `held`, once; late posts of what has expired are refused here. Gives its row."""
    row = _held(tx, reservation, state, moment)
    tx.put(_RESERVATIONS, reservation, (row[0], state, *row[2:]))
    return row


def _held(tx: Transaction, reservation: int, state: str, moment: datetime) -> Row:
    row = _reservation(tx, reservation)
    late = state == "posted" and integer(row[7]) < to_micros(moment)
    if row[1] != "held" or late:
        raise Unavailable("the reservation has resolved before: send the request again", rule="reservation.resolved")
    return row


def _give_back(
    tx: Transaction, reservation: int, type: str, reason_code: str, moment: datetime, entropy: Entropy
) -> Posted:
    state = type.rpartition(".")[2]
    _, _, requester, contract, dataset, lineage, reserved_at, _, names, *spent = _held(tx, reservation, state, moment)
    subject = Subject(text(requester), text(contract), text(dataset), text(lineage))
    amounts = {metric: integer(amount) for metric, amount in zip(METRICS, spent, strict=True)}
    at, windows = from_micros(integer(reserved_at)), read_names(text(names))
    # First, since it can fail: then nothing has changed.
    settle(tx, binding(tx, subject), amounts, reserved_at=at, names=windows, keep=False)
    _resolve(tx, reservation, state, moment)
    data = {"reservation": str(reservation), "reason": reason_code, "subject": _scope(subject)}
    return append(tx, type, data, now=moment, entropy=entropy, subject=_about(subject), requester=subject.requester)


def _data(
    subject: Subject,
    event: Mapping[str, object],
    amounts: Mapping[Metric, int],
    *,
    reservation: int | None = None,
    policy_digest: str | None = None,
) -> dict[str, object]:
    """The body of a query's leaf: `record` is the pipeline's, everything beside it the ledger's."""
    data: dict[str, object] = {
        "subject": _scope(subject),
        "charge": _charged(tuple(amounts.values())),
        "record": {**event},
    }
    if reservation is not None:
        data["reservation"] = str(reservation)
    if policy_digest is not None:
        data["policy_digest"] = policy_digest
    return data


@lru_cache(maxsize=1024)
def _scope(subject: Subject) -> Encoded:
    names = {
        "requester": subject.requester,
        "contract": subject.contract,
        "dataset": subject.dataset,
        "lineage": subject.lineage,
    }
    return Encoded(canonical_json(names))


@lru_cache(maxsize=1024)
def _charged(amounts: tuple[int, ...]) -> Encoded:
    """`amounts`: of every metric, in the order of `METRICS`."""
    return Encoded(canonical_json({metric: str(amount) for metric, amount in zip(METRICS, amounts, strict=True)}))


def _commitments(
    request: ReservationRequest, *, answer: bytes | None = None, release: bytes | None = None
) -> dict[str, bytes]:
    made = {
        **request.commitments,
        "plan": request.plan_digest.encode(),
        "request": request.request_digest.encode(),
    }
    if answer is not None:
        made["answer"] = answer
    if release is not None:
        made["release"] = release
    return made


def _committed(inputs: Inputs | None) -> dict[str, bytes]:
    return {} if inputs is None else {"facts": inputs.facts}


def _keep(tx: Transaction, leaf: Posted, inputs: Inputs | None) -> None:
    if inputs is not None:
        tx.put(_DECISIONS, leaf.leaf_index, (leaf.leaf_index, inputs.contract_digest, inputs.facts))


def _about(subject: Subject) -> str:
    return f"contract/{subject.contract}" if subject.contract else "contract"
