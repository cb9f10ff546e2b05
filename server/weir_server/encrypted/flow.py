# SPDX-License-Identifier: Apache-2.0
"""Encrypted queries through the same stages as plain ones: the cells are a release, the rest is arithmetic on it.

Secret weights: header → stages 1–3 and every check that needs no ciphertext → (upload) → reserve → the release
underneath, new or sticky → Σ wᵢ·cᵢ per value column, in worker processes or on a cluster → masking product → commit.
Hidden weights can reach the whole table, so its privacy loss is charged whole; each reply is metered as one number per
value column, and the mask leaves it one number (weir.paillier.masking). Sealed release: the same, with encryption to a
third key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from weir.errors import InvalidKey, InvalidRequest, QuotaExceeded
from weir.paillier import Packing, PublicKey, check_headroom, check_modulus, pack
from weir.question import digest_with_upload
from weir.v1 import answer_pb2, encrypted_service_pb2, receipt_pb2
from weir_server import ledger
from weir_server.encrypted.pool import KernelPool
from weir_server.encrypted.reducers import Reducers
from weir_server.identity.holder import identity_uri
from weir_server.judged import Judged
from weir_server.ledger import Posted, Replay, Reservation
from weir_server.metering import reservation_request
from weir_server.pipeline import Pipeline
from weir_server.plan.analyse import reply_width, sealed_layout
from weir_server.plan.values import EncryptedTerms, Principal, Submission
from weir_server.policy import book
from weir_server.store import Store, Transaction

_T = TypeVar("_T")
_LARGE_BYTES = 1 << 20
"""Uploads beyond it are not hashed, nor are their columns read, in the event loop."""
MAX_KEYS = 32
"""Public keys of one requester: they are kept for good, since stored replies are under them."""


@dataclass(frozen=True, slots=True)
class EncryptedAnswered:
    """What leaves: reply ciphertexts in wire form, the answer the receipt commits to, and the receipt."""

    results: bytes
    answer: bytes
    """Serialised `EncryptedAnswer`, which holds the digest of `results`."""
    receipt: receipt_pb2.Receipt


@dataclass(frozen=True, slots=True)
class Opened:
    """A header that passed every check: what is still missing are the weights."""

    submission: Submission
    judged: Judged
    key: PublicKey
    bits: tuple[int, ...]
    """Reply bits per value column; all equal, so that one number describes the reply."""

    @property
    def cells(self) -> int:
        """Ciphertexts expected."""
        return self.judged.plan.bound.cells

    @property
    def upload_bytes(self) -> int:
        """Length of the weights in wire form."""
        return self.cells * self.key.ciphertext_bytes


class EncryptedQueries:
    """Runs encrypted submissions over the pipeline's stages."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        store: Store,
        kernels: KernelPool,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
        reducers: Reducers | None = None,
    ) -> None:
        """`reducers`: who multiplies; the kernels where it is not said."""
        self._pipeline, self._store, self._kernels = pipeline, store, kernels
        self._reducers = Reducers(kernels) if reducers is None else reducers
        self._clock, self._entropy = clock, entropy
        self._registering: dict[str, asyncio.Lock] = {}
        """By requester; bounded in number, since every name needs a certificate of the domain."""

    async def register_key(self, principal: Principal, modulus: bytes, proof: bytes) -> str:
        """Register a public key for the caller; its id. Again the same key: the same id, and nothing more.

        A proof costs about half a second of a worker, so one caller has at most one looked at, at any time.

        Raises:
            InvalidKey: malformed, or the proof (bound to the caller's name) fails.
            QuotaExceeded: the caller has registered as many keys as may be.
            Suspended: the caller is stopped.
        """
        self._pipeline.check_caller(principal)
        key = PublicKey.from_bytes(modulus)
        if self._is_registered(key, principal):
            return key.key_id
        check_modulus(key.n)
        lock = self._registering.setdefault(principal.name, asyncio.Lock())
        await lock.acquire()
        # To its end, whoever goes away: cut off half-way it would cost its worker, and the next caller a new one.
        return await self._pipeline.turns.to_the_end(self._register(lock, principal, key, proof))

    async def _register(self, lock: asyncio.Lock, principal: Principal, key: PublicKey, proof: bytes) -> str:
        """Prove and write down; gives the lock back."""
        try:
            if not self._is_registered(key, principal):
                self._store.read(lambda tx: _check_room(tx, principal))
                await self._kernels.verify_key(key.to_bytes(), proof, context=key_context(principal))
                await self._write_key(principal, key)
        finally:
            lock.release()
        return key.key_id

    def _is_registered(self, key: PublicKey, principal: Principal) -> bool:
        known = self._store.read(lambda tx: book.public_key(tx, key.key_id))
        return known is not None and principal.name in known.owners

    async def _write_key(self, principal: Principal, key: PublicKey) -> None:
        modulus = key.to_bytes()

        def operation(tx: Transaction) -> None:
            now = self._clock()
            _check_room(tx, principal)
            if book.add_public_key(tx, key_id=key.key_id, owner=principal.name, modulus=modulus, now=now):
                data = {"key_id": key.key_id, "owner": principal.name, "bits": key.bits}
                ledger.record(
                    tx, "weir.key.registered", data, subject=f"key/{key.key_id}", now=now, entropy=self._entropy
                )

        await self._store.write(operation)

    # ── secret weights ─────────────────────────────────────────────────────────────────────────────────────────

    async def open(self, submission: Submission) -> Opened:
        """Everything that can be refused before an upload: key, shape, policy, headroom, and what is left of limits.

        Raises:
            RequestError, RefusalError: refused and metered.
        """
        async with self._pipeline.metered_refusals(submission):
            terms = _terms(submission)
            key, submission = self._with_key(submission, owner=submission.principal.name)
            judged = await self._pipeline.judge(submission)
            plan = judged.plan
            if terms.weights != plan.bound.cells:
                raise InvalidRequest(
                    f"the table has {plan.bound.cells} cells; send one weight for each",
                    field="header.weights",
                    rule="encrypted.weights",
                )
            bits = reply_width(plan.bound, plan.analysis)
            check_headroom(key, bits)
            # An answer that exists is fetched whatever has changed since; `finish` compares the whole request.
            if not self._is_answered(submission):
                judged = await self._pipeline.require_allowed(judged)
                self._check_affordable(judged)
                await self._reducers.check(plan.bound.cells)
            return Opened(submission, judged, key, (bits,) * len(plan.analysis.columns))

    def _is_answered(self, submission: Submission) -> bool:
        name, key = submission.principal.name, submission.idempotency_key
        return self._store.read(lambda tx: ledger.is_answered(tx, name, key))

    def _check_affordable(self, judged: Judged) -> None:
        """Refuse before the upload what the reservation would refuse after it. Holds nothing."""
        sticky = self._pipeline.find_release(judged.plan) is not None
        request = reservation_request(judged, sticky=sticky)
        now = self._clock()
        self._store.read(
            lambda tx: ledger.check_charge(tx, request.subject, request.charge, budget=request.budget, now=now)
        )

    async def finish(self, opened: Opened, weights: bytes) -> EncryptedAnswered:
        """Check the ciphertexts, charge, combine, mask, commit.

        Raises:
            InvalidCiphertext: any of them; one text for every cause.
            RequestError, RefusalError: refused and metered.
        """
        submission = await _aside(len(weights), _with_upload, opened.submission, weights)
        async with self._pipeline.metered_refusals(submission):
            if len(weights) != opened.upload_bytes:
                raise InvalidRequest(
                    f"{opened.upload_bytes} bytes of ciphertexts were announced, {len(weights)} came",
                    field="weights",
                    rule="encrypted.upload_length",
                )
            stored = self._pipeline.stored_answer(submission)
            if stored is not None:
                self._pipeline.check_running(submission)
                return await self._again(stored)
            await self._kernels.check(opened.key, weights)
        judged = _for_submission(opened.judged, submission)
        return await self._pipeline.turns.to_the_end(
            self._charge_and_answer(
                submission,
                judged,
                lambda release: self._combine(opened, release, weights),
            )
        )

    async def _combine(self, opened: Opened, release: answer_pb2.Answer, weights: bytes) -> _Reply:
        columns = [await _aside(len(weights), _integers, column) for column in release.values]
        sums = await self._reducers.of(opened.cells).matrix_dot(opened.key, weights, columns)
        results = await self._kernels.mask(opened.key, sums, opened.bits)
        return _Reply(
            results,
            encrypted_service_pb2.EncryptedAnswer(
                table=_without_values(release),
                key_id=opened.key.key_id,
                reply_bits=opened.bits[0],
                results_digest=hashlib.sha256(results).digest(),
                slots=1,
            ),
        )

    # ── sealed release ─────────────────────────────────────────────────────────────────────────────────────────

    async def run_sealed(self, submission: Submission) -> EncryptedAnswered:
        """The approved release, encrypted under the named key.

        Raises:
            RequestError, RefusalError: refused and metered.
        """
        async with self._pipeline.metered_refusals(submission):
            stored = self._pipeline.stored_answer(submission)
            if stored is not None:
                self._pipeline.check_running(submission)
                return await self._again(stored)
            terms = _terms(submission)
            key, submission = self._with_key(submission, owner=None)
            judged = await self._pipeline.judge(submission)
            layout = sealed_layout(_terms(submission), judged.plan.analysis)
            judged = await self._pipeline.require_allowed(judged)
        return await self._pipeline.turns.to_the_end(
            self._charge_and_answer(
                submission, judged, lambda release: self._seal(key, layout, terms.max_addends, release)
            )
        )

    async def _seal(self, key: PublicKey, layout: Packing, addends: int, release: answer_pb2.Answer) -> _Reply:
        values = [number for column in release.values for number in _integers(column)]
        results = await self._kernels.encrypt(key, pack(layout, values))
        return _Reply(
            results,
            encrypted_service_pb2.EncryptedAnswer(
                table=_without_values(release),
                key_id=key.key_id,
                results_digest=hashlib.sha256(results).digest(),
                slots=layout.slots,
                slot_bits=layout.slot_bits,
                max_addends=addends,
            ),
        )

    # ── common ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _charge_and_answer(
        self,
        submission: Submission,
        judged: Judged,
        reply_to: Callable[[answer_pb2.Answer], Coroutine[Any, Any, _Reply]],
    ) -> EncryptedAnswered:
        """Reserve, take or make the release underneath, encrypt, commit."""
        pipeline, plan = self._pipeline, judged.plan
        async with pipeline.metered_refusals(submission), pipeline.turns.one_release_at_a_time(plan.release_key):
            judged = pipeline.judge_again(judged)
            known = pipeline.find_release(plan)
            judged, reserved, known = await pipeline.reserve(judged, known=known)
            if isinstance(reserved, Replay):
                return await self._again(reserved)
            async with pipeline.voided_on_failure(reserved):
                pipeline.check_not_revoked(judged)
                # As bytes from here on: what another version of Weir released need not be written the same way twice.
                if known is not None:
                    return await self._post(judged, reserved, known.release, reply_to)
                fresh = (await pipeline.execute_and_release(plan)).SerializeToString(deterministic=True)
                return await self._post(judged, reserved, fresh, reply_to)

    async def _post(
        self,
        judged: Judged,
        reserved: Reservation,
        release: bytes,
        reply_to: Callable[[answer_pb2.Answer], Coroutine[Any, Any, _Reply]],
    ) -> EncryptedAnswered:
        while True:
            reply = await reply_to(answer_pb2.Answer.FromString(release))
            answer = reply.answer.SerializeToString(deterministic=True)
            self._pipeline.check_running(judged.plan.bound.submission)
            posted = await self._pipeline.post(
                judged,
                reserved,
                answer=answer,
                release=release,
                attachment=reply.results,
            )
            if isinstance(posted, Posted):
                return EncryptedAnswered(reply.results, answer, await self._pipeline.receipt_of(posted))
            # Another server released first: combine that release instead; ours is never told.
            release = posted.release

    async def _again(self, stored: Replay) -> EncryptedAnswered:
        """A stored reply, byte for byte: fresh randomness on every repeat would be a second reply."""
        rows = self._store.read(
            lambda tx: tx.execute("SELECT content FROM attachments WHERE leaf_index = ?", (stored.leaf_index,))
        )
        results = rows[0][0] if rows else None
        if not isinstance(results, bytes):
            raise InvalidRequest(
                "this idempotency key was used for a plain query", field="idempotency_key", rule="idempotency.once"
            )
        answered = await self._pipeline.answered(stored)
        return EncryptedAnswered(results, answered.answer, answered.receipt)

    def _with_key(self, submission: Submission, *, owner: str | None) -> tuple[PublicKey, Submission]:
        """The registered key of the submission, of this owner or of anybody; and the submission that says whose."""
        terms = _terms(submission)
        known = self._store.read(lambda tx: book.public_key(tx, terms.key_id))
        if known is None or (owner is not None and owner not in known.owners):
            raise InvalidKey("register the public key first", field="key_id", rule="key.registered")
        key = PublicKey.from_bytes(known.modulus)
        whole = replace(terms, key_owners=known.owners, key_bits=key.bits)
        return key, replace(submission, encrypted=whole)


@dataclass(frozen=True, slots=True)
class _Reply:
    results: bytes
    answer: encrypted_service_pb2.EncryptedAnswer


def _check_room(tx: Transaction, principal: Principal) -> None:
    if book.public_keys_of(tx, principal.name) >= MAX_KEYS:
        raise QuotaExceeded(f"at most {MAX_KEYS} public keys are registered for one requester", rule="key.limit")


def key_context(principal: Principal) -> bytes:
    """What a key proof is bound to, the holder's identity, so that nobody registers another's key as their own."""
    return identity_uri(domain=principal.domain, role=principal.role, name=principal.name).encode()


def _terms(submission: Submission) -> EncryptedTerms:
    if submission.encrypted is None:
        raise InvalidRequest("an encrypted query names a key", field="key_id", rule="encrypted.terms")
    return submission.encrypted


async def _aside(size: int, work: Callable[..., _T], *arguments: Any) -> _T:
    """`work`, in a thread where it takes longer than a call beside it should wait. `size`: bytes of the upload."""
    return await asyncio.to_thread(work, *arguments) if size > _LARGE_BYTES else work(*arguments)


def _with_upload(submission: Submission, weights: bytes) -> Submission:
    """The submission whose digest covers the weights too: a key stands for header and upload together."""
    return replace(submission, request_digest=digest_with_upload(submission.request_digest, weights))


def _for_submission(judged: Judged, submission: Submission) -> Judged:
    return replace(judged, plan=replace(judged.plan, bound=replace(judged.plan.bound, submission=submission)))


def _integers(column: answer_pb2.ValueColumn) -> list[int]:
    """Cells of a plain integer column; a cell without a value counts as zero in a sum."""
    return [int(text) if text else 0 for text in column.numerators]


def _without_values(release: answer_pb2.Answer) -> bytes:
    """Keys and descriptions of the table: what the requester needs to read the reply, and no number."""
    table = answer_pb2.Answer()
    table.CopyFrom(release)
    table.ClearField("coverage")
    for column in table.values:
        column.ClearField("numerators")
    return table.SerializeToString(deterministic=True)
