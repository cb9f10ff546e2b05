# SPDX-License-Identifier: Apache-2.0
"""Putting policy files in force: compared, applied and logged in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from weir.errors import InvalidRequest
from weir.v1 import policy_service_pb2
from weir_server.ledger import quotas as limits
from weir_server.ledger.values import Quota
from weir_server.policy import agreeing, book, lifecycle
from weir_server.policy.acting import Acting
from weir_server.policy.consistency import Finding, check_policy
from weir_server.policy.contract import Contract
from weir_server.policy.difference import Change, differences, plan_hash
from weir_server.policy.documents import Policy
from weir_server.policy.encode import change_to_proto
from weir_server.policy.reader import refused_documents
from weir_server.store import Transaction
from weir_server.world import World


def compare(tx: Transaction, world: World, new: Policy, *, now: datetime) -> policy_service_pb2.ApplyPolicyResponse:
    """What applying `new` would change, loosening marks, warnings and plan hash included.

    Raises:
        InvalidRequest: its documents do not fit each other.
    """
    return _told(world.policy, new, _changes(tx, world, new, now=now))


def apply(acting: Acting, new: Policy, request: policy_service_pb2.ApplyPolicyRequest) -> bytes:
    """Put `new`, read from the request's documents, in force. One leaf per change.

    Raises:
        InvalidRequest: the policy or a limit moved since it was compared, or its documents do not fit each other.
    """
    old = acting.world.policy
    changes = _changes(acting.tx, acting.world, new, now=acting.now)
    moved = request.expected_digest not in ("", old.digest)
    if moved or request.plan_hash not in ("", plan_hash(old, new, changes)):
        raise InvalidRequest(
            "the policy moved since it was compared; look at the difference again",
            field="plan_hash" if request.plan_hash else "expected_digest",
            rule="policy.moved",
        )
    for change in changes:
        _apply(acting, new, change)
    lifecycle.keep_terms(acting.tx, new.contracts.values())
    for contract in _offered(old, new):
        agreeing.offer(acting, contract, reason="policy applied")
    book.replace_documents(acting.tx, list(request.documents), quota_ids=sorted(new.quotas))
    return _told(old, new, changes).SerializeToString(deterministic=True)


def _offered(old: Policy, new: Policy) -> list[Contract]:
    """Contracts whose terms are not those that were in force, by id."""
    before = {contract.digest for contract in old.contracts.values()}
    return [contract for _, contract in sorted(new.contracts.items()) if contract.digest not in before]


def _changes(tx: Transaction, world: World, new: Policy, *, now: datetime) -> tuple[Change, ...]:
    findings = check_policy(new, world.catalogue, now=now)
    if faults := [f"{finding.subject} {finding.sentence}" for finding in findings if finding.refuses]:
        raise refused_documents(faults, rule="policy.check")
    stated = set(book.quota_ids(tx))
    in_force = {name: quota for name in {*stated, *new.quotas} if (quota := limits.find_quota(tx, name)) is not None}
    changes = differences(world.policy, new, in_force)
    adopted = _adopted(changes, [name for name in in_force if name not in stated])
    changes = tuple(sorted([*changes, *adopted], key=lambda change: change.subject))
    told = []
    for change in changes:
        before, after = _states(tx, world, new, change)
        moves = (f"state: {before} → {after}",) if before != after else ()
        # Terms that begin anew as active let a contract answer that was suspended or had ended.
        answers = moves != () and after == lifecycle.ACTIVE
        shown = (*change.fields, *moves, *_warnings(change, findings))
        loosens = change.loosens or answers or _forgives(tx, world.policy, new, change)
        told.append(replace(change, fields=shown, loosens=loosens))
    return tuple(told)


def _adopted(changes: Sequence[Change], names: Sequence[str]) -> Iterator[Change]:
    """Limits that a person has set just so and the documents state now: they go with the policy from here on, which
    the log must say, or a restore would not know."""
    moved = {change.subject for change in changes}
    for subject in (f"quota/{name}" for name in names):
        if subject not in moved:
            yield Change(subject, "changed", ("stated by: a person → the policy",), loosens=False)


def _forgives(tx: Transaction, old: Policy, new: Policy, change: Change) -> bool:
    """Whether open duties count no more: those of terms that go, or must be signed anew."""
    kind, _, name = change.subject.partition("/")
    known, wanted = (policy.contracts.get(name) if kind == "contract" else None for policy in (old, new))
    if known is None or not known.duties or (wanted is not None and wanted.signatures == "none"):
        return False
    return bool(lifecycle.open_duties(known, lifecycle.lives(tx, [known])[known.id]))


def _states(tx: Transaction, world: World, new: Policy, change: Change) -> tuple[str, str]:
    """What becomes of a contract's state: changed terms begin anew, and what is stopped stays so. Part of the plan's
    hash, so that a plan does not outlive a signature or a stop."""
    kind, _, name = change.subject.partition("/")
    if kind != "contract":
        return "", ""
    contract = new.contracts.get(name)
    before = world.state_of(name) if name in world.policy.contracts else "none"
    return before, "none" if contract is None else lifecycle.state_when_offered(tx, contract)


def _warnings(change: Change, findings: Sequence[Finding]) -> Iterator[str]:
    """What whoever applies it should know."""
    if change.kind != "removed":
        yield from (f"warning: {found.sentence}" for found in findings if found.subject == change.subject)


def _told(old: Policy, new: Policy, changes: Sequence[Change]) -> policy_service_pb2.ApplyPolicyResponse:
    return policy_service_pb2.ApplyPolicyResponse(
        changes=[change_to_proto(change) for change in changes],
        old_digest=old.digest,
        new_digest=new.digest,
        plan_hash=plan_hash(old, new, tuple(changes)),
    )


def _apply(acting: Acting, new: Policy, change: Change) -> None:
    told = {"fields": list(change.fields), "loosens": change.loosens, **_named(change, new)}
    acting.record(f"weir.policy.{change.kind}", change.subject, told)
    kind, _, name = change.subject.partition("/")
    if kind != "quota":
        return
    tx, actor, now, entropy = acting.tx, acting.principal.name, acting.now, acting.entropy
    known, wanted = limits.find_quota(tx, name), new.quotas.get(name)
    if known is not None and (wanted is None or not _same_shape(known, wanted)):
        limits.remove_quota(tx, name, reason="policy", actor=actor, now=now, entropy=entropy)
    if wanted is not None:
        limits.set_quota(tx, wanted, reason="policy", actor=actor, now=now, entropy=entropy)


def _named(change: Change, new: Policy) -> dict[str, object]:
    """The digest under which decisions will name the contract, so that a log entry can be tied to its terms; and the
    report that a certificate rests on."""
    kind, _, name = change.subject.partition("/")
    certificate = new.certificates.get(name) if kind == "certificate" else None
    if certificate is not None:
        return {"dataset": certificate.dataset, "report": certificate.report, "level": certificate.level}
    named = new.contracts.get(name) if kind == "contract" else None
    return {} if named is None else {"contract_digest": named.digest}


def _same_shape(old: Quota, new: Quota) -> bool:
    return replace(old, limit=new.limit) == new
