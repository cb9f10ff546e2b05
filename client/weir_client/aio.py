# SPDX-License-Identifier: Apache-2.0
"""The client for event loops: the same calls as `weir_client.Client`, awaited.

async with weir_client.aio.connect("localhost:7443", identity="alice.weir") as client:
    job = client.query("SELECT COUNT(*) FROM census", contract="c-1")
    answer = await job
    await answer.verify()
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, TypeVar

from weir.receipts import VerifiedReceipt
from weir.v1 import answer_pb2
from weir_client import _audit, _contracts, _encrypted, _governance, _operations
from weir_client._answer import Answer, present
from weir_client._audit import AuditReport, Entry, InclusionProof, Meter
from weir_client._calls import Operation, Transport, drive_async
from weir_client._catalogue import Dataset
from weir_client._ciphertexts import EncryptedAnswer, SealedTable
from weir_client._client import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    check_question,
    checkpoint_size,
    chosen_address,
    new_context,
)
from weir_client._estimates import Estimate
from weir_client._governance import Case, Standing, Suspension
from weir_client._identity import Identity, chosen_identity
from weir_client._keys import KeyPair
from weir_client._limits import Balance, PolicyDifference, Quota
from weir_client._operations import Amount, Terms, new_idempotency_key, resuming_key
from weir_client._receipts import Receipt
from weir_client._sandbox import Sandbox
from weir_client._shares import Shares
from weir_client._signing import SigningKey
from weir_client._sql import ParsedQuery
from weir_client._terms import Approval, Contract, StandingTerms
from weir_client._token import Token
from weir_client._transport import grpc_aio_transport
from weir_client._weights import DEFAULT_WEIGHT_BITS, Weights

__all__ = ["Client", "Job", "connect"]

T = TypeVar("T")
_PAGE = 1_000


def connect(
    address: str | None = None,
    *,
    identity: str | os.PathLike[str] | Identity,
    token: Token | None = None,
    requester: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    retries: int = DEFAULT_RETRIES,
    state_dir: str | os.PathLike[str] | None = None,
) -> Client:
    """As `weir_client.connect`, for the event loop that runs now."""
    known = chosen_identity(identity, requester=requester)
    transport = grpc_aio_transport(chosen_address(address, known), known, token=token)
    return Client(transport, identity=known, timeout=timeout, retries=retries, state_dir=state_dir)


class Job(Generic[T]):
    """A question under way: await it, or its `result()`."""

    def __init__(self, task: asyncio.Task[T], idempotency_key: str) -> None:
        self._task = task
        self.idempotency_key = idempotency_key
        """As in `weir_client.Job`."""

    async def result(self) -> T:
        """The answer. Cancelling the waiting does not cancel the job. Raises: WeirError."""
        return await asyncio.shield(self._task)

    def done(self) -> bool:
        """Whether the answer or an error is there."""
        return self._task.done()

    def __await__(self) -> Generator[Any, None, T]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return f"<Job {self.idempotency_key}: {'done' if self.done() else 'running'}>"


class Client:
    """As `weir_client.Client`; every call is awaited, `entries` is an async iterator. Bound to one event loop."""

    def __init__(
        self,
        transport: Transport,
        *,
        identity: Identity | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        state_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.identity = identity
        self._transport = transport
        self._context = new_context(identity, timeout=timeout, retries=retries, state_dir=state_dir)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def datasets(self, search: str | None = None) -> list[Dataset]:
        """As `weir_client.Client.datasets`."""
        return await self._run(_operations.datasets(self._context, search))

    async def dataset(self, name: str) -> Dataset:
        """As `weir_client.Client.dataset`."""
        return await self._run(_operations.dataset(self._context, name))

    async def export_catalogue(self, format: str = "dcat", dataset: str | None = None) -> str:
        """As `weir_client.Client.export_catalogue`."""
        return await self._run(_operations.export_catalogue(self._context, format, dataset))

    def sandbox(self, dataset: str) -> Sandbox[Job[Answer]]:
        """As `weir_client.Client.sandbox`; its jobs are awaited."""
        return Sandbox(dataset, self._play)

    async def estimate(
        self,
        sql: str,
        *,
        contract: str,
        purpose: str | None = None,
        mode: str | None = None,
        epsilon: Amount | None = None,
        within: Amount | None = None,
        snapshot: int | None = None,
        shares: Shares | None = None,
    ) -> Estimate:
        """As `weir_client.Client.estimate`."""
        terms = Terms(contract, purpose, mode, epsilon, within, None, snapshot, shares)
        return await self._run(_operations.estimate(self._context, sql, terms))

    def query(
        self,
        sql: str,
        *,
        contract: str,
        mode: str | None = None,
        epsilon: Amount | None = None,
        within: Amount | None = None,
        purpose: str | None = None,
        max_price: Amount | None = None,
        idempotency_key: str | None = None,
        snapshot: int | None = None,
        shares: Shares | None = None,
        wait_for_approval: float | None = None,
    ) -> Job[Answer]:
        """As `weir_client.Client.query`; the job starts at once."""
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        def ask(key: str) -> Coroutine[Any, Any, Answer]:
            return self._answer(lambda: _operations.run_query(self._context, sql, terms, key), wait_for_approval)

        return self._job(idempotency_key, ask, sql, terms)

    def resume(
        self, approval: str, *, idempotency_key: str | None = None, wait_for_approval: float | None = None
    ) -> Job[Answer]:
        """As `weir_client.Client.resume`."""
        _operations.check_wait(wait_for_approval)
        chosen = idempotency_key or resuming_key(approval)
        return self._start(
            chosen,
            lambda key: self._answer(lambda: _operations.resume(self._context, approval, key), wait_for_approval),
        )

    def encrypted_query(
        self,
        sql: str,
        *,
        weights: Weights,
        keypair: KeyPair,
        contract: str,
        mode: str | None = None,
        epsilon: Amount | None = None,
        within: Amount | None = None,
        purpose: str | None = None,
        max_price: Amount | None = None,
        idempotency_key: str | None = None,
        snapshot: int | None = None,
        shares: Shares | None = None,
        weight_bits: int = DEFAULT_WEIGHT_BITS,
        progress: Callable[[int, int], None] | None = None,
        wait_for_approval: float | None = None,
    ) -> Job[EncryptedAnswer]:
        """As `weir_client.Client.encrypted_query`."""
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        async def ask(key: str) -> EncryptedAnswer:
            operation = _operations.approved(
                self._context,
                lambda: _encrypted.encrypted_query(
                    self._context,
                    sql,
                    terms,
                    key,
                    weights=weights,
                    keypair=keypair,
                    key_context=self._key_context(),
                    weight_bits=weight_bits,
                    progress=progress,
                ),
                wait_for_approval,
            )
            answer = await self._run(operation)
            return replace(answer, _verify=lambda: self.verify(answer))

        return self._job(idempotency_key, ask, sql, terms)

    def sealed_query(
        self,
        sql: str,
        *,
        to: str,
        contract: str,
        max_addends: int = 1,
        mode: str | None = None,
        epsilon: Amount | None = None,
        within: Amount | None = None,
        purpose: str | None = None,
        max_price: Amount | None = None,
        idempotency_key: str | None = None,
        snapshot: int | None = None,
        shares: Shares | None = None,
        wait_for_approval: float | None = None,
    ) -> Job[SealedTable]:
        """As `weir_client.Client.sealed_query`."""
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        async def ask(key: str) -> SealedTable:
            operation = _operations.approved(
                self._context,
                lambda: _encrypted.sealed_query(self._context, sql, terms, key, key_id=to, max_addends=max_addends),
                wait_for_approval,
            )
            return await self._run(operation)

        return self._job(idempotency_key, ask, sql, terms)

    async def register_key(self, keypair: KeyPair) -> str:
        """As `weir_client.Client.register_key`."""
        return await self._run(_encrypted.register_key(self._context, keypair, self._key_context()))

    async def balance(self, contract: str | None = None) -> list[Balance]:
        """As `weir_client.Client.balance`."""
        return await self._run(_operations.balance(self._context, contract))

    async def receipts(self) -> list[Receipt]:
        """As `weir_client.Client.receipts`."""
        return await self._run(_operations.receipts(self._context))

    async def contracts(self) -> list[Contract]:
        """As `weir_client.Client.contracts`."""
        return await self._run(_operations.contracts(self._context))

    async def contract(self, name: str) -> Contract:
        """As `weir_client.Client.contract`."""
        return await self._run(_contracts.contract(self._context, name))

    async def sign_contract(
        self,
        contract: str | Contract,
        key: SigningKey,
        *,
        digest: str | None = None,
        idempotency_key: str | None = None,
    ) -> Contract:
        """As `weir_client.Client.sign_contract`."""
        chosen = idempotency_key or new_idempotency_key()
        return await self._run(_contracts.sign(self._context, contract, key, digest, chosen))

    async def attest_duty(
        self, contract: str, duty: str, *, statement: str, idempotency_key: str | None = None
    ) -> Contract:
        """As `weir_client.Client.attest_duty`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_contracts.attest(self._context, contract, duty, statement, key))

    async def set_contract_state(
        self, contract: str, state: str, *, reason: str, idempotency_key: str | None = None
    ) -> Contract:
        """As `weir_client.Client.set_contract_state`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_contracts.set_state(self._context, contract, state, reason, key))

    async def approvals(self) -> list[Approval]:
        """As `weir_client.Client.approvals`."""
        return await self._run(_operations.approvals(self._context))

    async def checkpoint(self) -> str:
        """As `weir_client.Client.checkpoint`."""
        return await self._run(_audit.checkpoint(self._context))

    async def cosigned_checkpoint(self, size: int) -> str:
        """As `weir_client.Client.cosigned_checkpoint`."""
        return await self._run(_audit.cosigned_checkpoint(self._context, size))

    async def verify(self, answer: Answer | EncryptedAnswer | Receipt) -> VerifiedReceipt:
        """As `weir_client.Client.verify`."""
        receipt = answer if isinstance(answer, Receipt) else answer.receipt
        return await self._run(_audit.verify_online(self._context, receipt))

    async def entries(self, start: int = 0, end: int | None = None, type: str | None = None) -> AsyncIterator[Entry]:
        """As `weir_client.Client.entries`."""
        last = checkpoint_size(await self.checkpoint()) if end is None else end
        for at in range(start, last, _PAGE):
            page = await self._run(_audit.entries(self._context, at, min(at + _PAGE, last), type or ""))
            for entry in page:
                yield entry

    async def inclusion_proof(self, index: int, tree_size: int | None = None) -> InclusionProof:
        """As `weir_client.Client.inclusion_proof`."""
        return await self._run(_audit.inclusion_proof(self._context, index, tree_size or 0))

    async def meter(self, contract: str | None = None) -> Meter:
        """As `weir_client.Client.meter`."""
        return await self._run(_audit.meter(self._context, contract or ""))

    async def audit(self, progress: Callable[[int, int], None] | None = None) -> AuditReport:
        """As `weir_client.Client.audit`."""
        return await self._run(_audit.audit_log(self._context, progress))

    async def apply_policy(
        self,
        documents: Sequence[str],
        *,
        dry_run: bool = False,
        expected_digest: str | None = None,
        plan_hash: str | None = None,
        idempotency_key: str | None = None,
    ) -> PolicyDifference:
        """As `weir_client.Client.apply_policy`."""
        key = idempotency_key or new_idempotency_key()
        expected = (expected_digest or "", plan_hash or "")
        return await self._run(_operations.apply_policy(self._context, documents, dry_run, expected, key))

    async def list_quotas(self) -> list[Balance]:
        """As `weir_client.Client.list_quotas`."""
        return await self._run(_operations.list_quotas(self._context))

    async def set_quota(self, quota: Quota, *, reason: str, idempotency_key: str | None = None) -> Balance:
        """As `weir_client.Client.set_quota`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_operations.set_quota(self._context, quota, reason, key))

    async def decide_approval(
        self,
        approval: str,
        *,
        approve: bool,
        reason: str,
        standing: StandingTerms | None = None,
        idempotency_key: str | None = None,
    ) -> Approval:
        """As `weir_client.Client.decide_approval`."""
        key = idempotency_key or new_idempotency_key()
        deciding = _operations.decide_approval(self._context, approval, approve, reason, key, standing=standing)
        return await self._run(deciding)

    async def revoke_approval(self, approval: str, *, reason: str, idempotency_key: str | None = None) -> Approval:
        """As `weir_client.Client.revoke_approval`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_operations.decide_approval(self._context, approval, False, reason, key, revoke=True))

    async def set_suspension(
        self, scope: str, name: str = "", *, suspended: bool = True, reason: str, idempotency_key: str | None = None
    ) -> None:
        """As `weir_client.Client.set_suspension`."""
        key = idempotency_key or new_idempotency_key()
        await self._run(_operations.set_suspension(self._context, scope, name, suspended, reason, key))

    async def activate_snapshot(
        self, dataset: str, snapshot: int, manifest_digest: str, *, idempotency_key: str | None = None
    ) -> int:
        """As `weir_client.Client.activate_snapshot`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_operations.activate_snapshot(self._context, dataset, snapshot, manifest_digest, key))

    async def standings(self) -> list[Standing]:
        """As `weir_client.Client.standings`."""
        return await self._run(_governance.standings(self._context))

    async def cases(self) -> list[Case]:
        """As `weir_client.Client.cases`."""
        return await self._run(_governance.cases(self._context))

    async def open_case(
        self,
        kind: str,
        statement: str,
        *,
        contract: str = "",
        dataset: str = "",
        against: str = "",
        entries: Sequence[int] = (),
        idempotency_key: str | None = None,
    ) -> Case:
        """As `weir_client.Client.open_case`."""
        key, about = idempotency_key or new_idempotency_key(), (contract, dataset, against)
        return await self._run(_governance.open_case(self._context, kind, statement, about, entries, key))

    async def evidence(self, case: str) -> bytes:
        """As `weir_client.Client.evidence`."""
        return await self._run(_governance.evidence(self._context, case))

    async def suspensions(self) -> list[Suspension]:
        """As `weir_client.Client.suspensions`."""
        return await self._run(_governance.suspensions(self._context))

    async def advance_case(
        self, case: str, state: str, *, note: str, freeze: bool = False, idempotency_key: str | None = None
    ) -> Case:
        """As `weir_client.Client.advance_case`."""
        key = idempotency_key or new_idempotency_key()
        return await self._run(_governance.advance_case(self._context, case, state, note, freeze, key))

    async def close(self) -> None:
        """Waits for running jobs, then closes the connection. Safe to repeat."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        closing = self._transport.close()
        if inspect.isawaitable(closing):
            await closing

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        who = self.identity.uri if self.identity is not None else "no identity"
        return f"<aio.Client of {who}>"

    async def _run(self, operation: Operation[T]) -> T:
        return await drive_async(operation, self._transport)

    def _job(self, key: str | None, work: Callable[[str], Coroutine[Any, Any, T]], sql: str, terms: Terms) -> Job[T]:
        check_question(sql, terms)
        return self._start(key or new_idempotency_key(), work)

    def _start(self, chosen: str, work: Callable[[str], Coroutine[Any, Any, T]]) -> Job[T]:
        task = asyncio.get_running_loop().create_task(work(chosen))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        return Job(task, chosen)

    def _play(self, sql: str, terms: Terms) -> Job[Answer]:
        async def ask(_key: str) -> Answer:
            parsed, message = await self._run(_operations.run_sandbox_query(self._context, sql, terms))
            return present(message, parsed.presentation)

        return self._job(None, ask, sql, terms)

    async def _answer(
        self,
        ask: Callable[[], Operation[tuple[ParsedQuery, answer_pb2.Answer, Receipt]]],
        wait: float | None,
    ) -> Answer:
        parsed, message, receipt = await self._run(_operations.approved(self._context, ask, wait))
        return present(message, parsed.presentation, receipt=receipt, verify=lambda: self.verify(receipt))

    def _key_context(self) -> bytes:
        return self.identity.key_context if self.identity is not None else b""
