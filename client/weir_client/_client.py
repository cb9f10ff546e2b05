# SPDX-License-Identifier: Apache-2.0
"""The blocking client. `weir_client.aio` has the same methods for event loops; what they do stands in `_operations`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from weir.checkpoint import parse
from weir.errors import InvalidRequest
from weir.receipts import VerifiedReceipt
from weir.v1 import answer_pb2
from weir_client import _audit, _contracts, _encrypted, _governance, _operations
from weir_client._answer import Answer, present
from weir_client._audit import AuditReport, Entry, InclusionProof, Meter
from weir_client._calls import Operation, Transport, drive
from weir_client._catalogue import Dataset
from weir_client._ciphertexts import EncryptedAnswer, SealedTable
from weir_client._estimates import Estimate
from weir_client._governance import Case, Standing, Suspension
from weir_client._identity import Identity, chosen_identity, state_directory
from weir_client._keys import KeyPair
from weir_client._limits import Balance, PolicyDifference, Quota
from weir_client._operations import Amount, Context, Settings, Terms, new_idempotency_key, resuming_key
from weir_client._receipts import KeptCheckpoints, Receipt
from weir_client._sandbox import Sandbox
from weir_client._shares import Shares
from weir_client._signing import SigningKey
from weir_client._sql import ParsedQuery
from weir_client._terms import Approval, Contract, StandingTerms
from weir_client._token import Token
from weir_client._transport import grpc_transport
from weir_client._weights import DEFAULT_WEIGHT_BITS, Weights

T = TypeVar("T")
Progress = Callable[[int, int], None]
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 4
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
    """A client of one domain, over mutual TLS. Nothing is sent before the first call.

    `address`: `host:port`; None for the identity's own. `identity`: an identity file, the short name of one in
    `~/.config/weir`, or an Identity. `token`: bearer token shown with each call, where the service asks for one beside
    the certificate: the text itself, the path of a file (read for each call), or a function that gives it. `requester`:
    with a gateway's identity, whom the tokens stand for: receipts must name it, and keys are registered for it.
    `timeout`: seconds for one operation, retries included, at most 600. `retries`: most repetitions while the service
    cannot be reached, always with the same idempotency key. `state_dir`: where the newest checkpoint of each log is
    kept; by default `~/.local/state/weir`.

    Raises:
        InvalidRequest: the identity file is missing, readable by others or malformed, or no address is known.
    """
    known = chosen_identity(identity, requester=requester)
    transport = grpc_transport(chosen_address(address, known), known, token=token)
    return Client(transport, identity=known, timeout=timeout, retries=retries, state_dir=state_dir)


class Job(Generic[T]):
    """A question under way: a future of its answer. It runs whether or not anybody waits for it."""

    def __init__(self, future: Future[T], idempotency_key: str) -> None:
        self._future = future
        self.idempotency_key = idempotency_key
        """Ask again with it after a lost connection, or once an approval is given: nothing is charged twice."""

    def result(self, timeout: float | None = None) -> T:
        """The answer; waits for it, at most `timeout` seconds.

        Raises:
            TimeoutError: it is not there yet; the job goes on.
            WeirError: the question failed; see `weir.errors`.
        """
        return self._future.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, or None for success; waits like `result`."""
        return self._future.exception(timeout)

    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self._future.done()

    def add_done_callback(self, callback: Callable[[Job[T]], object]) -> None:
        """Call `callback(job)` when it is done, from the thread that did it."""
        self._future.add_done_callback(lambda _: callback(self))

    def __repr__(self) -> str:
        return f"<Job {self.idempotency_key}: {'done' if self.done() else 'running'}>"


class Client:
    """Calls of one identity to one domain. Safe to use from several threads; close it, or use it in a `with`."""

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
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="weir-job")

    # Catalogue

    def datasets(self, search: str | None = None) -> list[Dataset]:
        """Cards of all datasets, or of those in whose card every word of `search` stands: names, titles, description,
        keywords, columns, provenance, who is responsible."""
        return self._run(_operations.datasets(self._context, search))

    def dataset(self, name: str) -> Dataset:
        """The card of one dataset. Raises: UnknownName."""
        return self._run(_operations.dataset(self._context, name))

    def export_catalogue(self, format: str = "dcat", dataset: str | None = None) -> str:
        """The catalogue for other catalogues: `dcat` gives DCAT-3 as JSON-LD, `odcs` one dataset as an Open Data
        Contract (YAML). `dataset`: only this one; needed for `odcs`. Public facts only."""
        return self._run(_operations.export_catalogue(self._context, format, dataset))

    def sandbox(self, dataset: str) -> Sandbox[Job[Answer]]:
        """Synthetic rows of a dataset, to try questions on: no contract, no charge. Nothing is sent before a query."""
        return Sandbox(dataset, self._play)

    # Questions

    def estimate(
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
        """What a query would do now: verdict, privacy loss, price, noise. Nothing is reserved or charged.

        `shares`: as for `query`; the noise shown is that of the shares.
        """
        terms = Terms(contract, purpose, mode, epsilon, within, None, snapshot, shares)
        return self._run(_operations.estimate(self._context, sql, terms))

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
        """Asks a question; the job's result is its Answer. Language: `weir_client._sql`'s docstring and the README.

        `epsilon`, `within`: privacy loss to spend, or wished accuracy instead (dp only). `max_price`: refuse rather
        than pay more. `snapshot`: version to ask; also `FROM "census@3"`. `idempotency_key`: of an earlier job, to get
        its answer again; drawn at random by default. `shares`: how the aggregates share a dp budget, by output column
        of the SELECT list: {"usd": 3, "years": 1} gives `usd` three quarters; whole numbers from 1 to 1000, and 1 for a
        column not named. Columns that show the same aggregate have one share. `wait_for_approval`: seconds, at most
        seven days; where a person must approve, the job waits that long for it and sends the same request again. It
        ends with ApprovalRequired if nobody decides, and `close` waits for it.

        Raises:
            InvalidQuery: at once, where the statement is outside the language.
            InvalidRequest: at once, where an amount is malformed or `shares` names no aggregate's column.
        """
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        def ask(key: str) -> Answer:
            return self._answer(lambda: _operations.run_query(self._context, sql, terms, key), wait_for_approval)

        return self._job(idempotency_key, ask, sql, terms)

    def resume(
        self, approval: str, *, idempotency_key: str | None = None, wait_for_approval: float | None = None
    ) -> Job[Answer]:
        """Asks the very question that an approval of one's own shows, by its id: `error.metadata["approval"]` of an
        ApprovalRequired, or from `approvals()`. Its columns have their canonical names.

        Resuming again gives the same stored answer and charges nothing: the idempotency key follows from the approval's
        id. `idempotency_key`: of the job that asked first, where that one may have been answered.

        `wait_for_approval`: as for `query`. The job fails with UnknownName where no approval of one's own has this id,
        and with InvalidRequest where it does not show all that the question needs: an encrypted or sealed query, or
        shares; then ask again with the same words.
        """
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
        progress: Progress | None = None,
        wait_for_approval: float | None = None,
    ) -> Job[EncryptedAnswer]:
        """Asks for Σ weight · cell per value column, with weights that the service never sees.

        `weights`: integers by group key (tuple in the order of the SELECT list; a missing key is 0), or one per cell
        in the order in which a plain query without ORDER BY gives its rows: group keys by name, the first slowest.
        `weight_bits`: public bound on every |weight| < 2^weight_bits, 1 to 64; it does not depend on the weights unless
        you make it so. The key is registered on first use. An idempotency key may be repeated only with the same
        ciphertexts, which only this job holds. `progress(done, total)` is called as weights are encrypted. `shares`: of
        a dp budget under the table, as for `query`.

        Nothing is encrypted for a header that is refused. A short vector is encrypted while it is sent, within
        `timeout`. One of more than 16 MiB of ciphertext (32,768 weights at 2048 bits, 21,845 at 3072) is encrypted
        between two calls: the first ends when the header is accepted, and the log has it as a refusal (`upload.short`)
        that costs nothing; `timeout` is for the second, sending and the service's work, alone. Ciphertexts are held in
        memory, 512 or 768 bytes a weight.
        """
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        def ask(key: str) -> EncryptedAnswer:
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
            answer = self._run(operation)
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
        """Asks for a release encrypted under the registered key `to` (a key id, `sha256:…`), anybody's.

        `max_addends`: how many such tables may later be added up with `add_sealed`, 1 to 65536. `shares`: of a dp
        budget, as for `query`; domains whose tables are added up should be asked alike.
        """
        terms = Terms(contract, purpose, mode, epsilon, within, max_price, snapshot, shares)
        _operations.check_wait(wait_for_approval)

        def ask(key: str) -> SealedTable:
            operation = _operations.approved(
                self._context,
                lambda: _encrypted.sealed_query(self._context, sql, terms, key, key_id=to, max_addends=max_addends),
                wait_for_approval,
            )
            return self._run(operation)

        return self._job(idempotency_key, ask, sql, terms)

    def register_key(self, keypair: KeyPair) -> str:
        """Registers the public key with a proof that it is well formed; gives its id."""
        return self._run(_encrypted.register_key(self._context, keypair, self._key_context()))

    # The caller's own books

    def balance(self, contract: str | None = None) -> list[Balance]:
        """Limits that bind the caller, with what is used; under one contract, or under all of them."""
        return self._run(_operations.balance(self._context, contract))

    def receipts(self) -> list[Receipt]:
        """Receipts of the caller's own queries, newest first."""
        return self._run(_operations.receipts(self._context))

    def contracts(self) -> list[Contract]:
        """Contracts of the caller; all of them for operators and auditors."""
        return self._run(_operations.contracts(self._context))

    def contract(self, name: str) -> Contract:
        """One contract of the caller's, with its state, signatures and text. Raises: UnknownName."""
        return self._run(_contracts.contract(self._context, name))

    def sign_contract(
        self,
        contract: str | Contract,
        key: SigningKey,
        *,
        digest: str | None = None,
        idempotency_key: str | None = None,
    ) -> Contract:
        """Signs an offered contract as its requester or provider; the private key stays here. The second signature
        accepts it. Read `contract(name).canonical` first: that text is what is signed.

        `contract`: as it was read, or its name for the terms in force, whatever they are. `digest`: of the terms that
        were read; refused where others are in force.

        Raises:
            InvalidRequest: the terms have changed, it is no offer, or the policy does not name this key for the caller.
            InvalidReceipt: the service's text is not what its digest names.
        """
        chosen = idempotency_key or new_idempotency_key()
        return self._run(_contracts.sign(self._context, contract, key, digest, chosen))

    def attest_duty(self, contract: str, duty: str, *, statement: str, idempotency_key: str | None = None) -> Contract:
        """Says that a duty of a contract was met, and how; it is logged."""
        key = idempotency_key or new_idempotency_key()
        return self._run(_contracts.attest(self._context, contract, duty, statement, key))

    def set_contract_state(
        self, contract: str, state: str, *, reason: str, idempotency_key: str | None = None
    ) -> Contract:
        """Makes a contract `active`, `suspended` or `terminated`; the last is for good. `reason` is logged.

        Operators may do all three; a provider may suspend and terminate its own, a requester terminate its own.
        """
        key = idempotency_key or new_idempotency_key()
        return self._run(_contracts.set_state(self._context, contract, state, reason, key))

    def approvals(self) -> list[Approval]:
        """Approval requests of the caller, newest first; all of them for operators."""
        return self._run(_operations.approvals(self._context))

    # Checking

    def checkpoint(self) -> str:
        """The newest signed checkpoint, proved to extend the one this client has kept.

        Raises:
            LogInconsistent: the log was rolled back or forked; both signed checkpoints are in the error and on disk.
        """
        return self._run(_audit.checkpoint(self._context))

    def cosigned_checkpoint(self, size: int) -> str:
        """The first checkpoint of `size` leaves (at least 1) or more that a witness has cosigned, its lines included.

        It is proved to be of the log that this client sees. `weir.checkpoint.verify_signature` checks a witness's line.

        Raises:
            UnknownName: no witness has cosigned that much of the log yet.
            LogInconsistent: as `checkpoint`.
        """
        return self._run(_audit.cosigned_checkpoint(self._context, size))

    def verify(self, answer: Answer | EncryptedAnswer | Receipt) -> VerifiedReceipt:
        """Checks a receipt offline, then that the log still holds it and all that this client has seen of it.

        Raises:
            InvalidReceipt: it does not verify, or is for another answer, request, contract or requester.
            LogInconsistent: the log was rolled back or forked.
        """
        receipt = answer if isinstance(answer, Receipt) else answer.receipt
        return self._run(_audit.verify_online(self._context, receipt))

    # Auditors

    def entries(self, start: int = 0, end: int | None = None, type: str | None = None) -> Iterator[Entry]:
        """Leaves [start, end) in order; `end` None means the size of the newest checkpoint. Read in pages."""
        last = self._log_size() if end is None else end
        for at in range(start, last, _PAGE):
            yield from self._run(_audit.entries(self._context, at, min(at + _PAGE, last), type or ""))

    def inclusion_proof(self, index: int, tree_size: int | None = None) -> InclusionProof:
        """Proof that a leaf is in the tree of that size; None for the newest checkpoint's."""
        return self._run(_audit.inclusion_proof(self._context, index, tree_size or 0))

    def meter(self, contract: str | None = None) -> Meter:
        """What the ledger says was used."""
        return self._run(_audit.meter(self._context, contract or ""))

    def audit(self, progress: Progress | None = None) -> AuditReport:
        """Verifies the whole log: signed head, progress since last time, every leaf, and the meter against the leaves.

        Raises:
            InvalidReceipt: something does not fit; the text names the first bad index.
            LogInconsistent: the log was rolled back or forked.
        """
        return self._run(_audit.audit_log(self._context, progress))

    # Operators: these calls are served on the admin listener only

    def apply_policy(
        self,
        documents: Sequence[str],
        *,
        dry_run: bool = False,
        expected_digest: str | None = None,
        plan_hash: str | None = None,
        idempotency_key: str | None = None,
    ) -> PolicyDifference:
        """Sets the whole policy from YAML documents, or with `dry_run` only says what would change.

        `plan_hash`: of the difference that was looked at; refused where applying would do anything else.
        `expected_digest`: its `old_digest`; refused if the policy moved since.
        """
        key = idempotency_key or new_idempotency_key()
        expected = (expected_digest or "", plan_hash or "")
        return self._run(_operations.apply_policy(self._context, documents, dry_run, expected, key))

    def list_quotas(self) -> list[Balance]:
        """Every quota with its balance."""
        return self._run(_operations.list_quotas(self._context))

    def set_quota(self, quota: Quota, *, reason: str, idempotency_key: str | None = None) -> Balance:
        """Sets one quota; what is used is kept. `reason` is logged."""
        key = idempotency_key or new_idempotency_key()
        return self._run(_operations.set_quota(self._context, quota, reason, key))

    def decide_approval(
        self,
        approval: str,
        *,
        approve: bool,
        reason: str,
        standing: StandingTerms | None = None,
        idempotency_key: str | None = None,
    ) -> Approval:
        """Approves or rejects a waiting query, never one's own. `reason` is logged. `standing`: approve it as a
        template for more than this very query; where two persons must approve, both state the same."""
        key = idempotency_key or new_idempotency_key()
        deciding = _operations.decide_approval(self._context, approval, approve, reason, key, standing=standing)
        return self._run(deciding)

    def revoke_approval(self, approval: str, *, reason: str, idempotency_key: str | None = None) -> Approval:
        """Takes an approved one back: nothing more is charged on it, and what runs on it stops. `reason` is logged."""
        key = idempotency_key or new_idempotency_key()
        return self._run(_operations.decide_approval(self._context, approval, False, reason, key, revoke=True))

    def set_suspension(
        self, scope: str, name: str = "", *, suspended: bool = True, reason: str, idempotency_key: str | None = None
    ) -> None:
        """Stops or resumes a `requester`, `contract` or `dataset` by name, or `all`; `blacklist` refuses every
        call of a requester. `reason` is logged."""
        key = idempotency_key or new_idempotency_key()
        self._run(_operations.set_suspension(self._context, scope, name, suspended, reason, key))

    def activate_snapshot(
        self, dataset: str, snapshot: int, manifest_digest: str, *, idempotency_key: str | None = None
    ) -> int:
        """Makes a published snapshot answerable; gives the log index of the publication."""
        key = idempotency_key or new_idempotency_key()
        return self._run(_operations.activate_snapshot(self._context, dataset, snapshot, manifest_digest, key))

    # Standing, stops, cases

    def standings(self) -> list[Standing]:
        """How the caller stands; every requester for operators, approvers and auditors."""
        return self._run(_governance.standings(self._context))

    def cases(self) -> list[Case]:
        """Cases that the caller filed, newest first; all of them for operators, approvers and auditors."""
        return self._run(_governance.cases(self._context))

    def open_case(
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
        """Files a `complaint`, an `incident` or a `dispute` about a contract, a dataset or entries of the log.

        Requesters and providers name contracts and entries of their own. `against`: a requester, named by operators and
        by providers under their own contract. `statement`: what happened, 1 to 4,000 characters; the log holds a
        commitment to it.
        """
        key, about = idempotency_key or new_idempotency_key(), (contract, dataset, against)
        return self._run(_governance.open_case(self._context, kind, statement, about, entries, key))

    def evidence(self, case: str) -> bytes:
        """The evidence of a case, for operators and auditors: one file, which `weir audit verify` checks."""
        return self._run(_governance.evidence(self._context, case))

    def suspensions(self) -> list[Suspension]:
        """What is stopped now, for operators, approvers and auditors; served on the admin listener only."""
        return self._run(_governance.suspensions(self._context))

    def advance_case(
        self, case: str, state: str, *, note: str, freeze: bool = False, idempotency_key: str | None = None
    ) -> Case:
        """Takes a case to its next state (`accepted`, `handled`, `closed`), or to its end. `freeze`: whether it holds
        the contract from here on. `note` is logged. Operators only."""
        key = idempotency_key or new_idempotency_key()
        return self._run(_governance.advance_case(self._context, case, state, note, freeze, key))

    # Life

    def close(self) -> None:
        """Waits for running jobs, then closes the connection. Safe to repeat."""
        self._threads.shutdown(wait=True)
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        who = self.identity.uri if self.identity is not None else "no identity"
        return f"<Client of {who}>"

    def _run(self, operation: Operation[T]) -> T:
        return drive(operation, self._transport)

    def _job(self, key: str | None, work: Callable[[str], T], sql: str, terms: Terms) -> Job[T]:
        """Starts work in a thread, after what is wrong with the question itself was raised here."""
        check_question(sql, terms)
        return self._start(key or new_idempotency_key(), work)

    def _start(self, chosen: str, work: Callable[[str], T]) -> Job[T]:
        return Job(self._threads.submit(work, chosen), chosen)

    def _answer(
        self,
        ask: Callable[[], Operation[tuple[ParsedQuery, answer_pb2.Answer, Receipt]]],
        wait: float | None,
    ) -> Answer:
        parsed, message, receipt = self._run(_operations.approved(self._context, ask, wait))
        return present(message, parsed.presentation, receipt=receipt, verify=lambda: self.verify(receipt))

    def _play(self, sql: str, terms: Terms) -> Job[Answer]:
        def ask(_key: str) -> Answer:
            parsed, message = self._run(_operations.run_sandbox_query(self._context, sql, terms))
            return present(message, parsed.presentation)

        return self._job(None, ask, sql, terms)

    def _log_size(self) -> int:
        return checkpoint_size(self.checkpoint())

    def _key_context(self) -> bytes:
        return self.identity.key_context if self.identity is not None else b""


def new_context(
    identity: Identity | None, *, timeout: float, retries: int, state_dir: str | os.PathLike[str] | None
) -> Context:
    """What the operations of one client share."""
    directory = state_directory() if state_dir is None else Path(state_dir)
    log_key = identity.log_key if identity is not None else ""
    name = identity.caller if identity is not None else None
    return Context(Settings(timeout=timeout, retries=retries), log_key, KeptCheckpoints(directory), requester=name)


def chosen_address(address: str | None, identity: Identity) -> str:
    """The address given, else the identity's own."""
    chosen = address or identity.address
    if not chosen:
        raise InvalidRequest("no address: give host:port, or put one into the identity", rule="address.missing")
    return chosen


def check_question(sql: str, terms: Terms) -> None:
    """Raise at once what the client can see to be wrong."""
    _operations.checked_question(sql, terms)


def checkpoint_size(note: str) -> int:
    """Leaves under a checkpoint that was verified before."""
    return parse(note)[0].size
