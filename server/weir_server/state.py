# SPDX-License-Identifier: Apache-2.0
"""The current world and the only way to change it.

`State.world` is an immutable value that queries are bound and decided against; a mutation writes the store first (one
transaction with its log leaves) and swaps the world afterwards, so a crash between the two costs nothing: a restart
loads the world from the store. What a mutation does is said where its words are at home, in `policy/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from weir.canonical import digest
from weir.errors import InvalidRequest, PublicationError, Unavailable
from weir.v1 import policy_service_pb2, quota_service_pb2
from weir_server.cases import book as cases
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Snapshot, open_snapshot
from weir_server.clock import from_micros
from weir_server.identity.holder import REQUESTER
from weir_server.ledger import quotas as limits
from weir_server.plan.values import Principal
from weir_server.policy import activation, agreeing, applying, approving, book, lifecycle, lineage, standing
from weir_server.policy.acting import Acting, checked_reason
from weir_server.policy.documents import Policy, parse_documents
from weir_server.policy.encode import balance_to_proto, quota_from_proto
from weir_server.policy.once import once
from weir_server.publish.files import activating
from weir_server.store import Store, Transaction
from weir_server.store.aside import read_aside
from weir_server.world import World, WorldMoved

_TURN_SECONDS = 0.001
_SHOWN_WITHIN = 5_000
"""Looks at a world that is to be shown, each after a turn."""


class State:
    """Owns the current world. Mutations run one at a time."""

    def __init__(
        self, store: Store, data_dir: Path, *, clock: Callable[[], datetime], entropy: Callable[[int], bytes]
    ) -> None:
        self._store, self._data_dir = store, data_dir
        self._clock, self._entropy = clock, entropy
        self._one_at_a_time, self._catching_up = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[bytes]] = set()
        self.world = store.read(lambda tx: _load_world(tx, _load_catalogue(tx, data_dir, Catalogue())))
        if store.read(lambda tx: lifecycle.lacks_terms(tx, self.world.policy)):
            # Applied by a Weir that did not keep them yet.
            store.write_sync(lambda tx: lifecycle.keep_terms(tx, self.world.policy.contracts.values()))

    async def mutate(
        self,
        principal: Principal,
        request: object,
        act: Callable[[Acting], bytes],
    ) -> bytes:
        """Run one mutation once, durably; then show it to queries. `request` carries `idempotency_key`; the same key
        with the same request gives the stored reply again.

        Raises:
            IdempotencyConflict: the key was used with another request.
            Whatever `act` raises; nothing is changed then.
        """

        async def alone() -> bytes:
            async with self._one_at_a_time:
                return await self._mutate(principal, request, act)

        return await self._to_the_end(alone())

    def check_caller(self, principal: Principal) -> None:
        """Refuse a requester on the blacklist, whatever it calls.

        Raises:
            Suspended: it is on it.
        """
        if principal.role == REQUESTER:
            self.world.check_blacklist(principal.name)

    async def apply_policy(
        self, principal: Principal, request: policy_service_pb2.ApplyPolicyRequest
    ) -> policy_service_pb2.ApplyPolicyResponse:
        """Replace the documents in force, or show what that would change.

        Raises:
            InvalidRequest: a document is malformed, or the policy moved since it was compared.
        """
        new = parse_documents(list(request.documents))
        if request.dry_run:
            async with self._one_at_a_time:
                now = self._clock()
                return await read_aside(self._store, lambda tx: applying.compare(tx, self.world, new, now=now))
        reply = await self.mutate(principal, request, lambda acting: applying.apply(acting, new, request))
        return policy_service_pb2.ApplyPolicyResponse.FromString(reply)

    async def set_quota(
        self, principal: Principal, request: quota_service_pb2.SetQuotaRequest
    ) -> quota_service_pb2.SetQuotaResponse:
        """Set one limit.

        Raises:
            InvalidRequest: malformed, or metric, scope or window of an existing quota would change.
        """
        quota, reason = quota_from_proto(request.quota), checked_reason(request.reason)

        def act(acting: Acting) -> bytes:
            known = limits.find_quota(acting.tx, quota.id)
            shared = None if known is None else known.namespace  # Which the wire does not name.
            balance = limits.set_quota(
                acting.tx,
                replace(quota, namespace=shared),
                reason=reason,
                actor=principal.name,
                now=acting.now,
                entropy=acting.entropy,
            )
            return quota_service_pb2.SetQuotaResponse(balance=balance_to_proto(balance)).SerializeToString()

        reply = await self.mutate(principal, request, act)
        return quota_service_pb2.SetQuotaResponse.FromString(reply)

    async def set_suspension(
        self, principal: Principal, request: policy_service_pb2.SetSuspensionRequest
    ) -> policy_service_pb2.SetSuspensionResponse:
        """Stop or resume a requester, contract, dataset or everything, or put a requester on the blacklist; running
        queries notice at their next stage.

        Raises:
            InvalidRequest: no scope, or a name where none belongs.
        """
        scope = policy_service_pb2.SuspensionScope.Name(request.scope).removeprefix("SUSPENSION_SCOPE_").lower()
        if scope == "unspecified" or (scope == "all") != (request.name == "") or len(request.name) > 63:
            raise InvalidRequest("state a scope, and a name unless it is ALL", field="scope", rule="suspension.scope")
        reason = checked_reason(request.reason)

        def act(acting: Acting) -> bytes:
            book.set_suspension(acting.tx, scope, request.name, suspended=request.suspended, now=acting.now)
            kind = "weir.suspension.set" if request.suspended else "weir.suspension.lifted"
            acting.record(kind, f"{scope}/{request.name}", {"reason": reason})
            return b""

        await self.mutate(principal, request, act)
        return policy_service_pb2.SetSuspensionResponse()

    def list_suspensions(self) -> policy_service_pb2.ListSuspensionsResponse:
        """What is stopped, by scope and name; contracts that a case holds are among them, once."""
        found = self._store.read(stops_now)
        response = policy_service_pb2.ListSuspensionsResponse()
        for (scope, name), since in sorted(found.items()):
            stop = response.suspensions.add(scope=f"SUSPENSION_SCOPE_{scope.upper()}", name=name)
            stop.since.FromDatetime(since)
        return response

    async def decide_approval(
        self, principal: Principal, request: policy_service_pb2.DecideApprovalRequest
    ) -> policy_service_pb2.DecideApprovalResponse:
        """Approve or reject a waiting query of somebody else, or take an approved one back.

        Raises:
            UnknownName, PermissionDenied, InvalidRequest: as `approving.decide_approval`.
        """
        reply = await self.mutate(principal, request, lambda acting: approving.decide_approval(acting, request))
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

        async def alone() -> bytes:
            # Before its turn: hashing a large snapshot takes long, and a stop must not wait for it.
            directory = snapshot_directory(self._data_dir, request.dataset, request.snapshot)
            with activating(directory.parent):  # Whoever published it may be gone, and the next one clear it away.
                snapshot = await asyncio.to_thread(open_snapshot, directory, expected_digest=request.manifest_digest)
                if (snapshot.card.name, snapshot.version) != (request.dataset, request.snapshot):
                    raise PublicationError("the directory holds another snapshot", rule="snapshot.name")
                report = await asyncio.to_thread(lineage.read_report, snapshot)

                def act(acting: Acting) -> bytes:
                    index = activation.activate(acting, snapshot, report)
                    return policy_service_pb2.ActivateSnapshotResponse(leaf_index=index).SerializeToString()

                async with self._one_at_a_time:
                    return await self._mutate(principal, request, act, snapshot=snapshot)

        return policy_service_pb2.ActivateSnapshotResponse.FromString(await self._to_the_end(alone()))

    async def expire_contracts(self) -> int:
        """Leave a leaf for every contract whose validity has ended since the last time; gives how many."""
        async with self._one_at_a_time:
            world, now = self.world, self._clock()
            policy = world.policy
            if not await read_aside(self._store, lambda tx: agreeing.past_validity(tx, policy, now=now)):
                return 0

            def operation(tx: Transaction) -> int:
                self.require_current(tx, world)
                book.raise_world_number(tx)
                return agreeing.expire(tx, policy, now=now, entropy=self._entropy)

            try:
                count = await self._store.write(operation)
            except WorldMoved:  # Another process may have put other terms in force: the next sweep looks again.
                return 0
            await self._load()
            return count

    async def update_standings(self) -> None:
        """Count the refusals that the log has gained, and bring every requester's level up to date. Run it each minute:
        days pass, duties fall due, and refusals are counted nowhere else."""
        while True:
            # Away from the event loop, and page by page: a flood of refusals delays nothing but its own count.
            found = await asyncio.to_thread(self._store.read, standing.tally)
            if found.end > found.start:
                await self._store.write(partial(standing.book, found=found))
            if not found.full:
                break
        async with self._one_at_a_time:
            await self._refresh_levels()

    async def _mutate(
        self,
        principal: Principal,
        request: object,
        act: Callable[[Acting], bytes],
        *,
        snapshot: Snapshot | None = None,
    ) -> bytes:
        key, request_digest = request.idempotency_key, digest(_without_key(request))  # type: ignore[attr-defined]

        def operation(tx: Transaction) -> bytes:
            world = self.world
            self.require_current(tx, world)
            acting = Acting(tx, principal, self._clock(), self._entropy, world)

            def acted() -> bytes:
                reply = act(acting)
                book.raise_world_number(tx)
                return reply

            return once(tx, principal, key=key, request_digest=request_digest, act=acted)

        while True:
            try:
                reply = await self._store.write(operation)
                break
            except WorldMoved:
                await self.catch_up()
                if not self._store.shared:
                    await self._load()  # The act before this one is durable and could not be shown: nobody else will.
        # A reply that was given before changed nothing, and reading the whole policy again is not for everybody to ask.
        if await read_aside(self._store, book.world_number) != self.world.number:
            await self._load(snapshot)
            await self._refresh_levels()
        return reply

    async def _to_the_end(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        """Run what must not stop half-way: an act that is durable must be seen, whether or not its caller is gone."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # Its error holds this frame: they would keep each other.

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Read, so that a refusal nobody waits for is not reported as never retrieved.

    def require_current(self, tx: Transaction, world: World) -> None:
        """Refuse to write what was decided under a world in which somebody has acted since: another process, or this
        one in an act that is durable, or will be with this group, and not shown yet.

        Raises:
            WorldMoved: `see_act`, decide again, and write then.
        """
        if book.world_number_of_group(tx) != world.number:
            raise WorldMoved

    async def see_act(self) -> None:
        """See what moved the world: acts of other processes, or one of this process, once it is shown."""
        if self._store.shared:
            await self.catch_up()
            return
        for _ in range(_SHOWN_WITHIN):
            if self._store.look(book.world_number) == self.world.number:
                return
            await asyncio.sleep(_TURN_SECONDS)
        await self._load()  # Whoever acted has failed to.

    async def catch_up(self) -> None:
        """See what other processes have done.

        Raises:
            Unavailable: a snapshot is not on this machine yet.
        """
        if not self._store.shared or not await self._is_behind():
            return
        # A lock of its own: a snapshot of another process is hashed here, which takes long, and a stop need not wait.
        async with self._catching_up:
            # Many wait here at once, and one that has read the whole policy has done it for all.
            if not await self._is_behind():
                return
            try:
                world = await asyncio.to_thread(self._loaded)
            except PublicationError as error:
                raise Unavailable("a snapshot has not arrived on this machine", rule="snapshot.missing") from error
            self._show(world)

    async def _is_behind(self) -> bool:
        return await asyncio.to_thread(self._store.look, book.world_number) != self.world.number

    async def _load(self, snapshot: Snapshot | None = None) -> None:
        """Show the world as this process has made it. `snapshot`: one that is open already."""
        loaded = partial(self._loaded, snapshot)
        self._show(await asyncio.to_thread(loaded) if self._store.shared else loaded())

    def _show(self, world: World) -> None:
        """Decide by this world from now on, unless a later one has been shown while it was read."""
        if world.number >= self.world.number:
            self.world = world

    def _loaded(self, snapshot: Snapshot | None = None) -> World:
        catalogue = self.world.catalogue
        if snapshot is not None and snapshot not in catalogue.datasets.get(snapshot.card.name, ()):
            catalogue = catalogue.with_snapshot(snapshot)
        return self._store.read(lambda tx: _load_world(tx, _load_catalogue(tx, self._data_dir, catalogue)))

    async def _refresh_levels(self) -> None:
        world, now = self.world, self._clock()
        policy = world.policy
        if await read_aside(self._store, lambda tx: standing.outdated(tx, policy, now=now)):

            def operation(tx: Transaction) -> None:
                self.require_current(tx, world)
                standing.refresh(tx, policy, now=now, entropy=self._entropy)
                book.raise_world_number(tx)

            with suppress(WorldMoved):  # By other thresholds, perhaps: the next sweep, or that process, counts by them.
                await self._store.write(operation)
                await self._load()


def snapshot_directory(data_dir: Path, dataset: str, version: int) -> Path:
    """Where a snapshot lives.

    Raises:
        InvalidRequest: the name could leave the data directory.
    """
    if not dataset.isidentifier() or not dataset.isascii():
        raise InvalidRequest("not a dataset name", field="dataset", rule="name.form")
    return data_dir / "snapshots" / dataset / str(version)


def stops_now(tx: Transaction) -> dict[tuple[str, str], datetime]:
    """Everything stopped, as (scope, name), with the time since when: by operators, and contracts that cases hold."""
    held = {("contract", contract): from_micros(since) for contract, since in cases.frozen_contracts(tx)}
    for scope, name, since in book.stops(tx):
        held[scope, name] = min(since, held.get((scope, name), since))
    return held


@lru_cache(maxsize=2)
def _policy_of(documents: tuple[str, ...]) -> Policy:
    """The policy of these texts. Kept, since every act loads the world anew, those of requesters too, and reading
    thousands of documents takes seconds."""
    return parse_documents(documents)


def _load_world(tx: Transaction, catalogue: Catalogue) -> World:
    policy = _policy_of(tuple(book.documents(tx)))
    return World(
        catalogue,
        policy,
        frozenset(stops_now(tx)),
        contract_states=lifecycle.states(tx, policy),
        levels=standing.levels(tx),
        number=book.world_number(tx),
    )


def _load_catalogue(tx: Transaction, data_dir: Path, known: Catalogue) -> Catalogue:
    """Every active snapshot. Those that are `known` stay as they are: a snapshot never changes."""
    catalogue = known
    here = {(name, snapshot.version) for name, versions in known.datasets.items() for snapshot in versions}
    for dataset, version, manifest_digest in book.snapshots(tx):
        if (dataset, version) in here:
            continue
        directory = snapshot_directory(data_dir, dataset, version)
        catalogue = catalogue.with_snapshot(open_snapshot(directory, expected_digest=manifest_digest))
    return catalogue


def _without_key(request: object) -> bytes:
    copy = type(request)()
    copy.CopyFrom(request)  # type: ignore[attr-defined]
    copy.ClearField("idempotency_key")  # type: ignore[attr-defined]
    serialized: bytes = copy.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
    return type(request).__name__.encode() + b"\0" + serialized
