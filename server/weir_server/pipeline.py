# SPDX-License-Identifier: Apache-2.0
"""One query, one direction. This module alone knows the order of the stages (DESIGN §6).

     0 decode    (services)  Submission
     1 bind                  BoundQuery
     2 analyse               Plan
     3 decide                Allow | NeedsApproval | Deny          ← estimates stop here
     4 reserve               Reservation                           one durable transaction
     ───────── data is touched only below this line ─────────
     5 execute               Raw
     6 release               Answer
     7 commit                Posted                                COMMIT POINT
     8 encode    (services)

From stage 4 on a query runs to its end even if the caller goes away: its loss is spent, so its answer is stored, and
the same idempotency key fetches it. Every refusal leaves a leaf before it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from weir.canonical import canonical_json
from weir.errors import (
    ApprovalRequired,
    BudgetExhausted,
    DenialReason,
    InternalError,
    PolicyDenied,
    QuotaExceeded,
    RefusalError,
    RequestError,
    Unavailable,
    UnknownName,
    WeirError,
)
from weir.query import query_json
from weir.v1 import answer_pb2, query_service_pb2, receipt_pb2
from weir_server import ledger
from weir_server.catalog.card import Mode
from weir_server.judged import Decided, Judged, decision_to_proto, denied, with_evidence
from weir_server.ledger import (
    Charge,
    Inputs,
    Posted,
    ReleasePending,
    Replay,
    Reservation,
    ReservationRequest,
    StoredRelease,
    Subject,
    Superseded,
)
from weir_server.ledger.windows import ledger_time
from weir_server.log.receipts import GroupedReceipts, Receipts
from weir_server.metering import (
    inputs_of,
    refusal,
    refused_event,
    refused_subject,
    reservation_request,
    sticky_answer,
    subject_of,
)
from weir_server.plan.analyse import analyse, without_loss
from weir_server.plan.bind import bind
from weir_server.plan.values import Plan, Principal, Raw, Submission, Technique
from weir_server.policy import approvals
from weir_server.policy.decide import (
    Allow,
    Deny,
    NeedsApproval,
    decide,
    red_lines,
)
from weir_server.policy.exposure import exposures
from weir_server.policy.facts import facts_before_analysis, facts_of
from weir_server.state import State
from weir_server.store import Store, Transaction
from weir_server.turns import OnError, Turns
from weir_server.world import World, WorldMoved

T = TypeVar("T")
_Reserved = Reservation | Replay
TURN_SECONDS = 0.05
"""Between looks at a release that another process is drawing."""
HOLD_SECONDS = 900
"""A reservation nobody resolves lapses after this long; longer than any deadline the service accepts."""
CLOCKS_DIFFER = timedelta(seconds=1)
"""How far behind the ledger's time a decision may be made; processes on several machines have several clocks."""
AT_ONCE = timedelta(milliseconds=250)
"""What was decided so recently, in a world that has not changed since, is not decided again before the charge."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What leaves: the bytes the receipt commits to, and the receipt."""

    answer: bytes
    receipt: receipt_pb2.Receipt


class Pipeline:
    """Runs submissions through the stages. Owns nothing but the tasks in flight."""

    def __init__(
        self,
        *,
        state: State,
        store: Store,
        techniques: Mapping[Mode, Technique],
        receipts: Receipts,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._state, self._store, self._techniques = state, store, techniques
        self._receipts, self._clock, self._entropy = GroupedReceipts(store, receipts), clock, entropy
        self.turns = Turns()
        # Apart from the threads that read the books: however many queries take long, stops and quotas are seen.
        self._touching = ThreadPoolExecutor(thread_name_prefix="weir-touch")
        self._latest = store.read(lambda tx: ledger_time(tx, clock()))

    def _now(self) -> datetime:
        """Present time, which never runs back: a clock set back must not revive what has ended."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    # ── stages 1 to 3: pure ────────────────────────────────────────────────────────────────────────────────────

    async def judge(self, submission: Submission) -> Judged:
        """Bind, analyse and decide, in a world in which no other process has allowed more than this one knows of.

        Raises: as `judge_here`.
        """
        while True:
            world = self._state.world
            try:
                judged = self.judge_here(submission)
                if not isinstance(judged.decision, Deny):
                    return judged  # What allows less is seen when it is charged.
            except (RequestError, RefusalError):
                await self._state.catch_up()
                if self._state.world is world:
                    raise
            else:
                await self._state.catch_up()
                if self._state.world is world:
                    return judged

    def judge_here(self, submission: Submission) -> Judged:
        """Bind, analyse and decide in the world as this process knows it.

        Raises:
            UnknownName, InvalidQuery: the query does not fit the catalogue.
            PolicyDenied: a red line.
            Suspended: an operator stopped requester, contract or dataset.
        """
        world = self._state.world
        contract = world.policy.contracts.get(submission.contract)
        # One answer for contracts of others and contracts that do not exist: their names are nobody else's business.
        if contract is None or contract.requester != submission.principal.name:
            raise UnknownName("you have no contract of this id", field="contract", rule="name.contract")
        bound = bind(submission, world.catalogue)
        self.check_running(submission)
        now = self._now()
        grade, offered = world.grade_of(bound.card, now=now), world.modes_of(bound.card, now=now)
        if reasons := red_lines(bound, grade=grade.name, offered=offered):
            facts = facts_before_analysis(bound, world, now=now)
            decision = decide(facts, contract, policy_digest=world.policy.digest)
            raise denied(reasons, Decided(contract, facts, decision))
        plan = analyse(bound, self._techniques[bound.mode], contract)
        facts = facts_of(plan, world, now=now)
        decision = decide(facts, contract, policy_digest=world.policy.digest)
        return Judged(contract, facts, decision, plan, world=world)

    def check_running(self, submission: Submission) -> None:
        """Refuse what an operator has stopped. Called at every stage.

        Raises:
            Suspended: requester, contract, dataset or everything.
        """
        self._state.world.check_running(
            requester=submission.principal.name, contract=submission.contract, dataset=submission.query.dataset
        )

    def check_caller(self, principal: Principal) -> None:
        """Refuse a caller whom an operator has stopped, for calls that ask no dataset.

        Raises:
            Suspended: the requester or everything.
        """
        self._state.world.check_running(requester=principal.name, contract="", dataset="")

    async def estimate(self, submission: Submission) -> query_service_pb2.EstimateQueryResponse:
        """What `run` would decide and charge now. Touches no data, reserves nothing, leaves no meter record."""
        judged = await self.judge(submission)
        # Whom the policy denies learns nothing of what others have asked.
        plan = judged.plan
        denies = isinstance(judged.decision, Deny)
        sticky = not denies and self.find_release(plan) is not None
        charge = without_loss(plan, judged.contract.rates) if sticky else plan.charge
        told = plan.bound.mode is Mode.DP and not denies
        return query_service_pb2.EstimateQueryResponse(
            decision=decision_to_proto(judged.decision, lacking=() if denies else self._lacking(judged, sticky)),
            epsilon_nano=charge["epsilon_nano"],
            rho_micro=charge["rho_micro"],
            cells=plan.bound.cells,
            price_micro=charge["price_micro"],
            sticky=sticky,
            noise=[column.noise for column in plan.analysis.columns if column.HasField("noise")],
            snapshot=plan.bound.snapshot.version,
            policy_digest=judged.decision.policy_digest,
            plan_digest=plan.digest,
            exposures=self._exposures(plan, charge) if told else (),
        )

    def _lacking(self, judged: Judged, sticky: bool) -> tuple[DenialReason, ...]:
        """Why a reservation would be refused now: an estimate that promised an answer for which nothing is left would
        send its requester into a refusal. The limits named are those that bind the caller, whose balances it may ask.
        """
        request, now = reservation_request(judged, sticky=sticky), self._now()
        try:
            self._store.read(
                lambda tx: ledger.check_charge(tx, request.subject, request.charge, budget=request.budget, now=now)
            )
        except (BudgetExhausted, QuotaExceeded) as error:
            return (DenialReason(error.rule or "quota.limit", error.message),)
        return ()

    def _exposures(self, plan: Plan, charge: Charge) -> list[query_service_pb2.Exposure]:
        """How far the accounts are used that the plan draws on, all datasets that share them taken together."""
        now = self._now()
        return self._store.read(lambda tx: exposures(tx, subject_of(plan), charge, now=now))

    # ── the whole way ──────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, submission: Submission) -> Answered:
        """Decide, charge, answer and log one plain query.

        Raises:
            RequestError, RefusalError: refused, metered, nothing charged.
            ServiceError: the service failed; money was given back, privacy loss was not.
        """
        async with self.metered_refusals(submission):
            found = await self._judge_or_find(submission)
            if isinstance(found, Replay):
                # A stop also holds back what was answered but perhaps never delivered.
                self.check_running(submission)
                return await self.answered(found)
            judged = await self.require_allowed(found)
        return await self.turns.to_the_end(self._charge_and_answer(submission, judged))

    async def _judge_or_find(self, submission: Submission) -> Judged | Replay:
        """The decision, or the answer already given under this key, where the query would now be refused or must wait.

        What is allowed is not looked for: the reservation finds the key, in the transaction that would charge.
        """
        try:
            judged = await self.judge(submission)
        except (RequestError, RefusalError):
            stored = self.stored_answer(submission)
            if stored is None:
                raise
            return stored
        return judged if isinstance(judged.decision, Allow) else self.stored_answer(submission) or judged

    async def _charge_and_answer(self, submission: Submission, judged: Judged) -> Answered:
        async with self.metered_refusals(submission):
            # A release never changes, so whoever finds one need not wait for the others that do.
            release = self.find_release(judged.plan)
            if release is not None:
                return await self._answer_again(self.judge_again(judged), release)
            return await self._release_once(judged)

    async def _release_once(self, judged: Judged) -> Answered:
        async with self.turns.one_release_at_a_time(judged.plan.release_key) as waited:
            judged = self.judge_again(judged)
            release = self.find_release(judged.plan) if waited else None
            if release is not None:
                return await self._answer_again(judged, release)
            judged, reserved, known = await self.reserve(judged)
            if isinstance(reserved, Replay):
                return await self.answered(reserved)
            async with self.voided_on_failure(reserved):
                self.check_not_revoked(judged)
                if known is not None:
                    return await self._post(judged, reserved, known.release, sticky_answer(known.release))
                answer = await self.execute_and_release(judged.plan)
                fresh = answer.SerializeToString(deterministic=True)
                return await self._post(judged, reserved, fresh, fresh)

    async def _answer_again(self, judged: Judged, release: StoredRelease) -> Answered:
        """A sticky release: nothing is touched, so charge and answer are one transaction."""
        answer = sticky_answer(release.release)

        def prepare(judged: Judged) -> Callable[[Transaction], Posted | Replay]:
            return partial(self._post_again, judged, reservation_request(judged, sticky=True), answer, release)

        _, posted = await self._write(judged, prepare)
        if isinstance(posted, Replay):
            return await self.answered(posted)
        return Answered(answer, await self.receipt_of(posted))

    def _post_again(
        self, judged: Judged, request: ReservationRequest, answer: bytes, release: StoredRelease, tx: Transaction
    ) -> Posted | Replay:
        posted = ledger.charge_and_post(
            tx,
            request,
            answer=answer,
            release_key=judged.plan.release_key,
            release=release.release,
            event=request.event,
            now=self._now(),
            entropy=self._entropy,
        )
        if isinstance(posted, Posted):
            self._use_approval(tx, judged)
        if isinstance(posted, Superseded):
            raise InternalError("a sticky release changed", rule="release.sticky")
        return posted

    async def _post(self, judged: Judged, reservation: Reservation, release: bytes, reply: bytes) -> Answered:
        """Stage 7. If another server released first under this key, answer from that release: noise is drawn once."""
        while True:
            posted = await self.post(judged, reservation, answer=reply, release=release)
            if isinstance(posted, Posted):
                return Answered(reply, await self.receipt_of(posted))
            release, reply = posted.release, sticky_answer(posted.release)

    # ── stages, shared with encrypted queries ──────────────────────────────────────────────────────────────────

    def stored_answer(self, submission: Submission) -> Replay | None:
        """The answer already given under this idempotency key.

        Raises:
            IdempotencyConflict: the key was used with another request.
        """
        # Two statements where there is one; what is posted never changes.
        return self._store.look(
            lambda tx: ledger.find_answer(
                tx,
                submission.principal.name,
                submission.idempotency_key,
                request_digest=submission.request_digest,
            )
        )

    def find_release(self, plan: Plan) -> StoredRelease | None:
        """The sticky release of the plan, if it was ever released."""
        return self._store.look(lambda tx: ledger.find_release(tx, plan.release_key))

    async def require_allowed(self, judged: Judged) -> Judged:
        """Pass what is allowed, with the approval to use where one was needed and given.

        Raises:
            PolicyDenied: with every reason.
            ApprovalRequired: a person must approve first; the request now waits for one.
        """
        match judged.decision:
            case Allow():
                return judged
            case Deny(_, reasons):
                raise denied(reasons, judged)
            case NeedsApproval(_, reasons, persons):
                found = await self._find_approval(judged, persons, rule=reasons[0].code)
                return replace(judged, approval=found)

    def judge_again(self, judged: Judged) -> Judged:
        """Decide anew before the charge: what was decided may have waited for an upload or for an equal query.

        Raises:
            Suspended, PolicyDenied: stopped, changed or lapsed in the meantime.
            ApprovalRequired: a person is asked for now, and was not before.
        """
        world, submission = self._state.world, judged.plan.bound.submission
        now = self._now()
        lasts = now - judged.facts.now <= AT_ONCE and now < judged.contract.valid_until
        if world is judged.world and lasts:
            return judged
        self.check_running(submission)
        if world.policy.contracts.get(submission.contract) != judged.contract:
            sentence = "the contract changed while the query waited; send it again"
            raise denied((DenialReason("contract.changed", sentence),))
        facts = facts_of(judged.plan, world, now=now)
        decision = decide(facts, judged.contract, policy_digest=world.policy.digest)
        again = replace(judged, facts=facts, decision=decision, world=world)
        if isinstance(decision, Deny):
            raise denied(decision.reasons, again)
        if isinstance(decision, Allow):
            return replace(again, approval=None)
        if again.approval is None:
            sentence = "a person must approve this query since a moment ago; send it again"
            raise with_evidence(ApprovalRequired(sentence, rule="approval.changed"), again)
        return again

    async def _find_approval(self, judged: Judged, persons: int, *, rule: str) -> str:
        plan, contract, now = judged.plan, judged.contract, self._now()
        usable = self._store.read(lambda tx: approvals.usable(tx, plan, contract, persons=persons, now=now))
        if usable is not None:
            return usable.id

        def operation(tx: Transaction) -> approvals.Approval:
            known = approvals.find(tx, plan, contract, persons=persons, now=now)
            if known is not None:
                return known
            asked = approvals.request(tx, plan, contract, persons=persons, now=now, entropy=self._entropy)
            ledger.record(
                tx,
                "weir.approval.requested",
                {"requester": asked.requester, "contract": asked.contract},
                subject=f"approval/{asked.id}",
                now=now,
                entropy=self._entropy,
                commitments={"plan": asked.plan_digest.encode()},  # A plan can be guessed; its bare digest would tell.
            )
            return asked

        approval = await self._store.write(operation)
        if approval.state == "approved":
            return approval.id
        if approval.state == "rejected":
            raise with_evidence(PolicyDenied("a person rejected this query", rule="approval.rejected"), judged)
        error = ApprovalRequired(
            f"{'a person' if persons == 1 else 'two persons'} must approve this query, which waits as {approval.id}",
            rule=rule,
            metadata={"approval": approval.id},
        )
        raise with_evidence(error, judged)

    def _use_approval(self, tx: Transaction, judged: Judged) -> None:
        """Spend one use of the approval that a query runs on, in the transaction that charges it."""
        if judged.approval is not None and isinstance(judged.decision, NeedsApproval):
            try:
                approvals.use(tx, judged.approval, persons=judged.decision.persons, now=self._now())
            except ApprovalRequired as error:
                raise with_evidence(error, judged) from None

    def check_not_revoked(self, judged: Judged) -> None:
        """Stop a query whose approval was taken back since it was charged.

        Raises:
            PolicyDenied: it was.
        """
        if judged.approval is not None:
            approval = judged.approval
            self._store.read(lambda tx: approvals.check_not_revoked(tx, approval))

    async def reserve(
        self, judged: Judged, *, known: StoredRelease | None = None
    ) -> tuple[Judged, Reservation | Replay, StoredRelease | None]:
        """Stage 4: durable before data is touched; uses the approval in the same transaction.

        `known`: the release to answer from, where there is one. Gives the decision as it was made last, and the release
        that another process has made meanwhile.

        Raises:
            Unavailable: another process holds this release and does not finish it.
        """
        for _ in range(int(HOLD_SECONDS / TURN_SECONDS)):

            def prepare(judged: Judged, sticky: bool = known is not None) -> Callable[[Transaction], _Reserved]:
                return partial(self._reserve, judged, reservation_request(judged, sticky=sticky))

            try:
                return *(await self._write(judged, prepare)), known
            except ReleasePending:
                await asyncio.sleep(TURN_SECONDS)
                judged = self.judge_again(judged)  # Time passes: a contract may end while its query waits.
                known = self.find_release(judged.plan)
        raise Unavailable("another process did not finish this release", rule="release.pending")

    def _reserve(self, judged: Judged, request: ReservationRequest, tx: Transaction) -> _Reserved:
        reserved = ledger.reserve(tx, request, now=self._now(), hold_seconds=HOLD_SECONDS, entropy=self._entropy)
        if isinstance(reserved, Reservation):
            self._use_approval(tx, judged)
        return reserved

    async def _write(self, judged: Judged, prepare: Callable[[Judged], Callable[[Transaction], T]]) -> tuple[Judged, T]:
        """Write under the world that was decided in: where somebody has acted since, decide again first."""
        while True:
            operation, current = prepare(judged), judged
            try:
                return judged, await self._store.write(partial(self._in_time, current, operation))
            except WorldMoved:
                await self._state.see_act()
                judged = self.judge_again(judged)

    def _in_time(self, judged: Judged, operation: Callable[[Transaction], T], tx: Transaction) -> T:
        """In the world and at the time of the decision. A process whose clock is behind takes the ledger's time from
        here on: what has ended by the clock of any has ended for all.

        Raises:
            WorldMoved: decide again.
        """
        self._state.require_current(tx, judged.world)
        moment = ledger_time(tx, self._now())
        if moment - self._now() > CLOCKS_DIFFER:
            self._latest = moment
            raise WorldMoved
        return operation(tx)

    def _in_world(self, world: World, operation: Callable[[Transaction], T], tx: Transaction) -> T:
        self._state.require_current(tx, world)
        return operation(tx)

    async def execute_and_release(self, plan: Plan) -> answer_pb2.Answer:
        """Stages 5 and 6 under an existing reservation."""
        technique, bound = self._techniques[plan.bound.mode], plan.bound
        self.check_running(bound.submission)
        # The second check of DESIGN §6: what is about to run must lose no more than what was reserved.
        again = technique.analyse(bound)
        if again.loss != plan.analysis.loss or dict(again.mechanism) != dict(plan.analysis.mechanism):
            raise InternalError("the plan changed between charge and touch", rule="plan.recheck")
        answer = await self._touch(technique, plan)
        answer.dataset, answer.snapshot = bound.query.dataset, bound.snapshot.version
        answer.mode = answer_pb2.MODE_DP if bound.mode is Mode.DP else answer_pb2.MODE_EXACT
        answer.epsilon_nano = plan.analysis.loss.epsilon_nano
        return answer

    async def _touch(self, technique: Technique, plan: Plan) -> answer_pb2.Answer:
        bound, analysis = plan.bound, plan.analysis
        if analysis.brief:  # Two changes of thread would cost more than the work itself.
            return technique.release(bound, analysis, technique.execute(bound, analysis))
        loop = asyncio.get_running_loop()
        raw: Raw = await loop.run_in_executor(self._touching, technique.execute, bound, analysis)
        return await loop.run_in_executor(self._touching, technique.release, bound, analysis, raw)

    async def post(
        self,
        judged: Judged,
        reservation: Reservation,
        *,
        answer: bytes,
        release: bytes,
        attachment: bytes | None = None,
    ) -> Posted | Superseded:
        """Stage 7, the commit point: spend, meter, stored answer, release, attachment and leaf in one transaction."""

        def operation(tx: Transaction) -> Posted | Superseded:
            if judged.approval is not None:
                approvals.check_not_revoked(tx, judged.approval)
            posted = ledger.post(
                tx,
                reservation,
                answer=answer,
                release_key=judged.plan.release_key,
                release=release,
                event=reservation.request.event,
                now=self._now(),
                entropy=self._entropy,
            )
            if attachment is not None and isinstance(posted, Posted):
                tx.execute(
                    "INSERT INTO attachments (leaf_index, content) VALUES (?, ?)", (posted.leaf_index, attachment)
                )
            return posted

        while True:
            # The world of now: a stop by any process holds back what has not been posted.
            world = self._state.world
            self.check_running(judged.plan.bound.submission)
            try:
                return await self._store.write(partial(self._in_world, world, operation))
            except WorldMoved:
                await self._state.see_act()

    async def answered(self, replay: Replay) -> Answered:
        """A stored answer, byte for byte with its receipt."""
        return Answered(replay.answer, await self.receipt(replay.leaf_index))

    async def receipt(self, leaf_index: int) -> receipt_pb2.Receipt:
        """Receipt of a durable leaf."""
        return await self._receipts.of(leaf_index)

    async def receipt_of(self, posted: Posted) -> receipt_pb2.Receipt:
        """Receipt of a leaf that has just become durable."""
        return await self._receipts.of_leaf(posted)

    # ── failure order ──────────────────────────────────────────────────────────────────────────────────────────

    async def refuse(self, submission: Submission, error: WeirError) -> None:
        """Meter a refusal and attach its receipt to the error. A second call for one error does nothing."""
        if error.receipt is not None:
            return
        world, decided = self._state.world, error.evidence
        inputs = inputs_of(decided) if isinstance(decided, Decided) else None
        await self._refused(
            refused_subject(submission, world),
            refused_event(submission, error, world),
            error,
            {"query": canonical_json(query_json(submission.query))},
            inputs,
        )

    async def refuse_call(self, principal_name: str, role: str, call: str, error: WeirError) -> None:
        """Meter the refusal of a call that never became a submission.

        Names are unique within a role only, so a leaf belongs to a requester's own only where a requester called.
        """
        own = principal_name if role == "requester" else ""
        event = {**refusal(error, role=role), "call": call}
        if not own:
            event["actor"] = principal_name
        await self._refused(Subject(own, "", "", ""), event, error, {})

    async def _refused(
        self,
        subject: Subject,
        event: Mapping[str, object],
        error: WeirError,
        commitments: Mapping[str, bytes],
        inputs: Inputs | None = None,
    ) -> None:
        posted = await self._store.write(
            lambda tx: ledger.refuse(
                tx, subject, event=event, now=self._now(), entropy=self._entropy, commitments=commitments, inputs=inputs
            )
        )
        error.receipt = await self.receipt_of(posted)

    def metered_refusals(self, submission: Submission) -> OnError:
        """Every refusal inside leaves a leaf before the caller hears of it."""

        async def refuse(error: BaseException) -> None:
            if isinstance(error, RequestError | RefusalError):
                await self.refuse(submission, error)

        return OnError(refuse)

    def voided_on_failure(self, reservation: Reservation) -> OnError:
        """Give money back where no answer was stored; privacy loss stays spent, since data may have been touched."""

        async def void(error: BaseException) -> None:
            code = error.reason if isinstance(error, WeirError) else "INTERNAL"
            await self._store.write(
                lambda tx: ledger.void(tx, reservation, reason_code=code, now=self._now(), entropy=self._entropy)
            )

        return OnError(void)
