# SPDX-License-Identifier: Apache-2.0
"""What the domain is at this moment (catalogue, contracts, suspensions) and the only ways to change it.

`State.world` is an immutable value that queries are bound and decided against; a mutation writes the store first (one
transaction with its log leaves) and swaps the world afterwards, so a crash between the two costs nothing: a restart
loads the world from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from weir.canonical import canonical_json, digest
from weir.errors import InvalidRequest, PublicationError, Suspended
from weir.v1 import policy_service_pb2, quota_service_pb2
from weir_server.catalog.card_rules import check_card
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.lineage_rules import lineage_conflicts
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.ledger import quotas as limits
from weir_server.ledger import record
from weir_server.ledger.values import Quota
from weir_server.ledger.windows import advance
from weir_server.plan.values import Principal
from weir_server.policy import approvals, book, lineage
from weir_server.policy.contract import Contract, parse_documents
from weir_server.policy.difference import Change, differences
from weir_server.policy.encode import balance_to_proto, change_to_proto, quota_from_proto
from weir_server.policy.once import once
from weir_server.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class Policy:
    """Contracts in force."""

    contracts: Mapping[str, Contract]
    digest: str
    """Hex digest over all documents in force: names the policy in every decision."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything a decision depends on besides the query and the books."""

    catalogue: Catalogue
    policy: Policy
    suspensions: frozenset[tuple[str, str]]
    """(scope, name): scope is `requester`, `contract`, `dataset` or `all`."""

    def check_running(self, *, requester: str, contract: str, dataset: str) -> None:
        """Refuse what an operator has stopped. Called at every stage, so that a stop reaches running queries.

        Raises:
            Suspended: naming the scope.
        """
        for scope, name in (("all", ""), ("requester", requester), ("contract", contract), ("dataset", dataset)):
            if (scope, name) in self.suspensions:
                raise Suspended(f"an operator has stopped this {scope}", rule="suspended", metadata={"scope": scope})


class State:
    """Owns the current world. Mutations run one at a time."""

    def __init__(
        self, store: Store, data_dir: Path, *, clock: Callable[[], datetime], entropy: Callable[[int], bytes]
    ) -> None:
        self._store, self._data_dir = store, data_dir
        self._clock, self._entropy = clock, entropy
        self._one_at_a_time = asyncio.Lock()
        self.world = World(_load_catalogue(store, data_dir), store.read(_load_policy), store.read(book.suspensions))

    async def apply_policy(
        self, principal: Principal, request: policy_service_pb2.ApplyPolicyRequest
    ) -> policy_service_pb2.ApplyPolicyResponse:
        """Replace the documents in force, or show what that would change.

        Raises:
            InvalidRequest: a document is malformed, or the policy moved since `expected_digest`.
        """
        contracts, quotas = parse_documents(list(request.documents))
        async with self._one_at_a_time:
            if request.dry_run:
                changes, new_digest = self._store.read(lambda tx: self._compare(tx, contracts, quotas))
                return self._applied(changes, new_digest)

            def act(tx: Transaction) -> bytes:
                if request.expected_digest not in ("", self.world.policy.digest):
                    raise InvalidRequest(
                        "the policy moved since it was compared; look at the difference again",
                        field="expected_digest",
                        rule="policy.moved",
                    )
                changes, new_digest = self._compare(tx, contracts, quotas)
                self._replace_policy(tx, principal, contracts, quotas, changes, list(request.documents))
                return self._applied(changes, new_digest).SerializeToString(deterministic=True)

            reply = await self._mutate(principal, request, request.idempotency_key, act)
            return policy_service_pb2.ApplyPolicyResponse.FromString(reply)

    def _compare(
        self, tx: Transaction, contracts: tuple[Contract, ...], quotas: tuple[Quota, ...]
    ) -> tuple[tuple[Change, ...], str]:
        wanted = {contract.id: contract for contract in contracts}
        wanted_quotas = {quota.id: quota for quota in _all_quotas(contracts, quotas)}
        in_force = {
            name: quota
            for name in {*book.quota_ids(tx), *wanted_quotas}
            if (quota := limits.find_quota(tx, name)) is not None
        }
        changes = differences(self.world.policy.contracts, wanted, in_force, wanted_quotas)
        return changes, policy_digest(wanted, quotas)

    def _applied(self, changes: tuple[Change, ...], new_digest: str) -> policy_service_pb2.ApplyPolicyResponse:
        return policy_service_pb2.ApplyPolicyResponse(
            changes=[change_to_proto(change) for change in changes],
            old_digest=self.world.policy.digest,
            new_digest=new_digest,
        )

    def _replace_policy(
        self,
        tx: Transaction,
        principal: Principal,
        contracts: tuple[Contract, ...],
        quotas: tuple[Quota, ...],
        changes: tuple[Change, ...],
        documents: list[str],
    ) -> None:
        now, wanted = self._clock(), {quota.id: quota for quota in _all_quotas(contracts, quotas)}
        for change in changes:
            self._record(
                tx,
                f"weir.policy.{change.kind}",
                principal,
                change.subject,
                {"fields": list(change.fields), "loosens": change.loosens, **_named(change, contracts)},
            )
            kind, _, name = change.subject.partition("/")
            if kind != "quota":
                continue
            known = limits.find_quota(tx, name)
            if known is not None and (change.kind == "removed" or not _same_shape(known, wanted[name])):
                limits.remove_quota(tx, name, reason="policy", actor=principal.name, now=now, entropy=self._entropy)
            if change.kind != "removed":
                limits.set_quota(
                    tx, wanted[name], reason="policy", actor=principal.name, now=now, entropy=self._entropy
                )
        book.replace_documents(tx, documents, quota_ids=sorted(wanted))

    async def set_quota(
        self, principal: Principal, request: quota_service_pb2.SetQuotaRequest
    ) -> quota_service_pb2.SetQuotaResponse:
        """Set one limit.

        Raises:
            InvalidRequest: malformed, or metric, scope or window of an existing quota would change.
        """
        quota, reason = quota_from_proto(request.quota), _reason(request.reason)

        def act(tx: Transaction) -> bytes:
            balance = limits.set_quota(
                tx, quota, reason=reason, actor=principal.name, now=self._clock(), entropy=self._entropy
            )
            return quota_service_pb2.SetQuotaResponse(balance=balance_to_proto(balance)).SerializeToString()

        async with self._one_at_a_time:
            reply = await self._mutate(principal, request, request.idempotency_key, act)
        return quota_service_pb2.SetQuotaResponse.FromString(reply)

    async def set_suspension(
        self, principal: Principal, request: policy_service_pb2.SetSuspensionRequest
    ) -> policy_service_pb2.SetSuspensionResponse:
        """Stop or resume a requester, contract, dataset or everything; running queries notice at their next stage.

        Raises:
            InvalidRequest: no scope, or a name where none belongs.
        """
        scope = policy_service_pb2.SuspensionScope.Name(request.scope).removeprefix("SUSPENSION_SCOPE_").lower()
        if scope == "unspecified" or (scope == "all") != (request.name == "") or len(request.name) > 63:
            raise InvalidRequest("state a scope, and a name unless it is ALL", field="scope", rule="suspension.scope")
        reason = _reason(request.reason)

        def act(tx: Transaction) -> bytes:
            book.set_suspension(tx, scope, request.name, suspended=request.suspended, now=self._clock())
            kind = "weir.suspension.set" if request.suspended else "weir.suspension.lifted"
            self._record(tx, kind, principal, f"{scope}/{request.name}", {"reason": reason})
            return b""

        async with self._one_at_a_time:
            await self._mutate(principal, request, request.idempotency_key, act)
        return policy_service_pb2.SetSuspensionResponse()

    async def decide_approval(
        self, principal: Principal, request: policy_service_pb2.DecideApprovalRequest
    ) -> policy_service_pb2.DecideApprovalResponse:
        """Approve or reject a waiting query of somebody else.

        Raises:
            UnknownName: no such approval.
            PermissionDenied: one's own.
            InvalidRequest: it waits no longer.
        """
        reason = _reason(request.reason)

        def act(tx: Transaction) -> bytes:
            now = advance(tx, self._clock())
            settled = approvals.settle(tx, request.approval, principal, approve=request.approve, now=now)
            self._record(
                tx,
                f"weir.approval.{settled.state}",
                principal,
                f"approval/{settled.id}",
                {"reason": reason, "requester": settled.requester, "contract": settled.contract},
                commitments={"plan": settled.plan_digest.encode()},
            )
            message = approvals.approval_to_proto(settled, now=now)
            return policy_service_pb2.DecideApprovalResponse(approval=message).SerializeToString(deterministic=True)

        async with self._one_at_a_time:
            reply = await self._mutate(principal, request, request.idempotency_key, act)
        return policy_service_pb2.DecideApprovalResponse.FromString(reply)

    async def activate_snapshot(
        self, principal: Principal, request: policy_service_pb2.ActivateSnapshotRequest
    ) -> policy_service_pb2.ActivateSnapshotResponse:
        """Make a snapshot that `publish` wrote answerable, after hashing every file of it; the lineage pays for the
        report of its bounds.

        Raises:
            BudgetExhausted: the lineage cannot pay.
            PublicationError: not the next version, altered, or in conflict with its lineage.
        """
        async with self._one_at_a_time:
            directory = snapshot_directory(self._data_dir, request.dataset, request.snapshot)
            snapshot = await asyncio.to_thread(open_snapshot, directory, expected_digest=request.manifest_digest)
            if (snapshot.card.name, snapshot.version) != (request.dataset, request.snapshot):
                raise PublicationError("the directory holds another snapshot", rule="snapshot.name")

            report = await asyncio.to_thread(lineage.read_report, snapshot)

            def act(tx: Transaction) -> bytes:
                self._check_succession(snapshot)
                index = self._activate(tx, principal, snapshot, report)
                return policy_service_pb2.ActivateSnapshotResponse(leaf_index=index).SerializeToString()

            reply = await self._mutate(principal, request, request.idempotency_key, act, snapshot=snapshot)
        return policy_service_pb2.ActivateSnapshotResponse.FromString(reply)

    def _check_succession(self, snapshot: Snapshot) -> None:
        card, datasets = snapshot.card, self.world.catalogue.datasets
        previous = datasets.get(card.name, ())
        expected = previous[0].version + 1 if previous else 1
        if snapshot.version != expected:
            raise PublicationError(f"the next version is {expected}", field="snapshot", rule="snapshot.version")
        if previous and previous[0].card.lineage != card.lineage:
            raise PublicationError("a dataset cannot change its lineage", rule="snapshot.lineage")
        if violations := check_card(card):
            raise PublicationError(
                "; ".join(f"{v.subject}: {v.sentence}" for v in violations[:20]),
                violations=violations,
                rule="card.rules",
            )
        # Old versions stay answerable, so what they released counts as well.
        if conflicts := lineage_conflicts(card, [old.card for versions in datasets.values() for old in versions]):
            raise PublicationError(
                "; ".join(f"{v.subject}: {v.sentence}" for v in conflicts[:20]),
                violations=conflicts,
                rule=conflicts[0].rule,
            )

    def _activate(self, tx: Transaction, principal: Principal, snapshot: Snapshot, report: bytes) -> int:
        card = snapshot.card
        book.add_snapshot(tx, snapshot)
        lineage.set_budget(tx, card, actor=principal.name, now=self._clock(), entropy=self._entropy)
        lineage.book_report(
            tx,
            snapshot,
            report,
            actor=principal.name,
            policy_digest=self.world.policy.digest,
            now=self._clock(),
            entropy=self._entropy,
        )
        data = {
            "version": snapshot.version,
            "manifest_digest": snapshot.manifest_digest,
            "grade": card.grade.name,
            "lineage": card.lineage,
            "responsible": card.responsible,
        }
        return self._record(tx, "weir.dataset.published", principal, f"dataset/{card.name}", data)

    def _record(
        self,
        tx: Transaction,
        kind: str,
        principal: Principal,
        subject: str,
        data: Mapping[str, object],
        *,
        commitments: Mapping[str, bytes] | None = None,
    ) -> int:
        body = {**data, "actor": principal.name, "role": principal.role}
        # Through the ledger, whose clock only moves forward: entries of one transaction must not run back in time.
        return record(
            tx, kind, body, subject=subject, now=self._clock(), entropy=self._entropy, commitments=commitments
        ).leaf_index

    async def _mutate(
        self,
        principal: Principal,
        request: object,
        key: str,
        act: Callable[[Transaction], bytes],
        *,
        snapshot: Snapshot | None = None,
    ) -> bytes:
        """Run one mutation once, durably; then show it to queries."""
        request_digest = digest(_without_key(request))

        def operation(tx: Transaction) -> bytes:
            return once(tx, principal, key=key, request_digest=request_digest, act=lambda: act(tx))

        reply = await self._store.write(operation)
        catalogue = self.world.catalogue
        if snapshot is not None and snapshot not in catalogue.datasets.get(snapshot.card.name, ()):
            catalogue = catalogue.with_snapshot(snapshot)
        self.world = replace(
            self.world,
            catalogue=catalogue,
            policy=self._store.read(_load_policy),
            suspensions=self._store.read(book.suspensions),
        )
        return reply


def policy_digest(contracts: Mapping[str, Contract], quotas: tuple[Quota, ...]) -> str:
    """Hex digest that names a set of contracts and the limits set beside them."""
    terms: dict[str, object] = {f"contract/{name}": contract.digest for name, contract in contracts.items()}
    return digest(canonical_json(terms | {f"quota/{quota.id}": limits.describe(quota) for quota in quotas}))


def snapshot_directory(data_dir: Path, dataset: str, version: int) -> Path:
    """Where a snapshot lives.

    Raises:
        InvalidRequest: the name could leave the data directory.
    """
    if not dataset.isidentifier() or not dataset.isascii():
        raise InvalidRequest("not a dataset name", field="dataset", rule="name.form")
    return data_dir / "snapshots" / dataset / str(version)


def _load_policy(tx: Transaction) -> Policy:
    contracts, quotas = parse_documents(book.documents(tx))
    by_id = {contract.id: contract for contract in contracts}
    return Policy(MappingProxyType(by_id), policy_digest(by_id, quotas))


def _load_catalogue(store: Store, data_dir: Path) -> Catalogue:
    catalogue = Catalogue()
    for dataset, version, manifest_digest in store.read(book.snapshots):
        directory = snapshot_directory(data_dir, dataset, version)
        catalogue = catalogue.with_snapshot(open_snapshot(directory, expected_digest=manifest_digest))
    return catalogue


def _all_quotas(contracts: tuple[Contract, ...], quotas: tuple[Quota, ...]) -> list[Quota]:
    return [*quotas, *(quota for contract in contracts for quota in contract.quotas)]


def _named(change: Change, contracts: tuple[Contract, ...]) -> dict[str, object]:
    """The digest under which decisions will name the contract, so that a log entry can be tied to its terms."""
    named = next((c for c in contracts if change.subject == f"contract/{c.id}"), None)
    return {} if named is None else {"contract_digest": named.digest}


def _same_shape(old: Quota, new: Quota) -> bool:
    return replace(old, limit=new.limit) == new


def _reason(text: str) -> str:
    if not 1 <= len(text) <= 500 or not text.isprintable():
        raise InvalidRequest("state a reason of 1 to 500 characters", field="reason", rule="reason.required")
    return text


def _without_key(request: object) -> bytes:
    copy = type(request)()
    copy.CopyFrom(request)  # type: ignore[attr-defined]
    copy.ClearField("idempotency_key")  # type: ignore[attr-defined]
    serialized: bytes = copy.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
    return type(request).__name__.encode() + b"\0" + serialized
