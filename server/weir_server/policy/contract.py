# SPDX-License-Identifier: Apache-2.0
"""Contracts as operators write them: who may ask what of which dataset, for which purpose, how, until when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from weir.amounts import format_epsilon, format_price, format_rho, parse_epsilon, parse_price, parse_rho
from weir.canonical import NotCanonical, canonical_json, digest, parse_canonical
from weir.query import Function
from weir_server.catalog.card import K_FLOOR, Mode
from weir_server.catalog.rates import Rates
from weir_server.ledger.values import Quota
from weir_server.policy.kinds import Kind
from weir_server.policy.party import REGION
from weir_server.policy.quota import read_window
from weir_server.policy.reader import Reader, duplicates


@dataclass(frozen=True, slots=True)
class Duty:
    """An onward-use duty: something the requester must attest by a date."""

    id: str
    sentence: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Contract:
    """Who may ask what of which dataset, for which purpose, how, until when. What is not named is not allowed."""

    id: str
    title: str
    provider: str
    requester: str
    dataset: str
    purposes: tuple[str, ...]
    modes: frozenset[Mode]
    dimensions: frozenset[str]
    measures: frozenset[str]
    aggregates: frozenset[Function]
    epsilon_nano: int
    """Lifetime share of the lineage's privacy budget; 0 where dp is not allowed, or rho alone binds."""
    epsilon_per_query_nano: int
    """Most one query may spend."""
    rho_micro: int
    """The same share in micro-rho, for datasets with concentrated accounting; 0 where none is stated."""
    rho_per_query_micro: int
    """Most one query may spend."""
    valid_from: datetime
    valid_until: datetime
    """First instant after validity."""
    approval: str
    """`none` or `per_query`."""
    rates: Rates
    k: int
    """Least k that the dataset must keep where it is answered exactly; at least the floor."""
    regions: tuple[str, ...]
    """ISO 3166 codes, in one of which the requester must be registered; empty for any."""
    duties: tuple[Duty, ...]
    """What the requester owes beyond the answer, by id."""
    approvers: int
    """Persons who must approve each query where approval is `per_query`."""
    signatures: Literal["required", "none"]
    """Whether both parties must sign before it can be active."""
    seal_to: tuple[str, ...]
    """Holders to whose keys a release may be sealed; every holder of the named key must be among them."""
    quotas: tuple[Quota, ...]
    """Limits under this contract, its share of the privacy budget included."""
    canonical: bytes = field(init=False, compare=False, repr=False)
    """The terms in RFC 8785 JSON: what is hashed, and what parties sign."""
    digest: str = field(init=False, compare=False)
    """Hex digest of the canonical form: part of every decision, so made once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", canonical_json(contract_json(self)))
        object.__setattr__(self, "digest", digest(self.canonical))


def read_contract(reader: Reader) -> Contract | None:
    """A contract as operators write it."""
    contract_id, dataset = reader.identifier("contract"), reader.text("dataset")
    epsilon, epsilon_per_query = _read_share(reader, "epsilon", parse_epsilon)
    rho, rho_per_query = _read_share(reader, "rho", parse_rho)
    modes = reader.words("modes", Mode)
    if Mode.DP in modes and not (epsilon or rho):
        reader.fault("epsilon", "or rho needs total and per_query where dp is allowed, as the dataset accounts")
    contract = Contract(
        id=contract_id,
        title=reader.text("title"),
        provider=reader.text("provider"),
        requester=reader.text("requester"),
        dataset=dataset,
        purposes=reader.texts("purposes"),
        modes=modes,
        dimensions=frozenset(reader.texts("dimensions")),
        measures=frozenset(reader.texts("measures")),
        aggregates=reader.words("aggregates", Function),
        epsilon_nano=epsilon,
        epsilon_per_query_nano=epsilon_per_query,
        rho_micro=rho,
        rho_per_query_micro=rho_per_query,
        valid_from=reader.instant("valid_from"),
        valid_until=reader.instant("valid_until"),
        approval=reader.text("approval", "none"),
        rates=_read_rates(reader.nested("rates")),
        k=reader.count("k", default=K_FLOOR),
        regions=reader.texts("regions"),
        duties=_read_duties(reader),
        approvers=reader.count("approvers", default=1),
        signatures=reader.word("signatures", ("required", "none"), default="required"),
        seal_to=reader.texts("seal_to"),
        quotas=_contract_quotas(reader, contract_id, epsilon=epsilon, rho=rho),
    )
    if contract.approval not in ("none", "per_query"):
        reader.fault("approval", "must be none or per_query")
    if contract.k < K_FLOOR:
        reader.fault("k", f"must be at least {K_FLOOR}: no contract goes below the floor")
    if contract.approvers not in (1, 2):
        reader.fault("approvers", "must be 1 or 2")
    if contract.approvers > 1 and contract.approval == "none":
        reader.fault("approvers", "are asked for only where approval is per_query")
    if not all(REGION.fullmatch(region) for region in contract.regions):
        reader.fault("regions", "must be ISO 3166 codes such as CN or CN-31")
    if contract.requester == contract.provider:
        reader.fault("requester", "must be another than the provider")
    for key in ("purposes", "modes", "aggregates"):
        if not getattr(contract, key):
            reader.fault(key, "must name at least one: what is not named is not allowed")
    if contract.valid_until <= contract.valid_from:
        reader.fault("valid_until", "must be after valid_from")
    return contract if not reader.faults else None


def _read_share(reader: Reader, key: str, parse: Callable[..., int]) -> tuple[int, int]:
    """Share of a privacy budget: total, and most one query may spend; 0 and 0 where none is stated."""
    inner = reader.nested(key)
    total, per_query = inner.amount("total", parse), inner.amount("per_query", parse)
    inner.finish()
    if (total or per_query) and not 0 < per_query <= total:
        reader.fault(key, "needs total and per_query, per_query at most total")
    return total, per_query


def _read_rates(reader: Reader) -> Rates:
    rates = Rates(
        currency=reader.text("currency", "CNY"),
        per_query_micro=reader.amount("per_query", parse_price),
        per_cell_micro=reader.amount("per_cell", parse_price),
        per_epsilon_micro=reader.amount("per_epsilon", parse_price),
        per_encrypted_operation_micro=reader.amount("per_encrypted_operation", parse_price),
    )
    reader.finish()
    return rates


def _read_duties(reader: Reader) -> tuple[Duty, ...]:
    duties = []
    for inner in reader.items("duties"):
        duties.append(Duty(inner.identifier("duty"), inner.text("sentence"), inner.instant("due")))
        inner.finish()
    reader.faults += duplicates([duty.id for duty in duties], "duty")
    return tuple(sorted(duties, key=lambda duty: duty.id))


def _contract_quotas(reader: Reader, contract: str, *, epsilon: int, rho: int) -> tuple[Quota, ...]:
    """The contract's own limits; its share of a privacy budget is one of them, so that one mechanism enforces all."""
    quotas = []
    if epsilon or not rho:  # Where neither is stated, nothing may be spent.
        quotas.append(Quota(id=f"contract-{contract}-epsilon", metric="epsilon_nano", contract=contract, limit=epsilon))
    if rho:
        quotas.append(Quota(id=f"contract-{contract}-rho", metric="rho_micro", contract=contract, limit=rho))
    for inner in reader.items("quotas"):
        metric, window, zone = read_window(inner)
        quota_id = f"contract-{contract}-{metric.replace('_', '-')}-{window}"
        quotas.append(
            Quota(id=quota_id, metric=metric, contract=contract, window=window, zone=zone, limit=inner.count("limit"))
        )
        inner.finish()
    reader.faults += duplicates([quota.id for quota in quotas], "quota")
    return tuple(quotas)


def contract_json(contract: Contract) -> dict[str, object]:
    """JSON form, as it is hashed, stored and compared; amounts as exact decimals in text."""
    rates = contract.rates
    return {
        "contract": contract.id,
        "title": contract.title,
        "provider": contract.provider,
        "requester": contract.requester,
        "dataset": contract.dataset,
        "purposes": list(contract.purposes),
        "modes": sorted(mode.value for mode in contract.modes),
        "dimensions": sorted(contract.dimensions),
        "measures": sorted(contract.measures),
        "aggregates": sorted(function.value for function in contract.aggregates),
        "epsilon": {
            "total": format_epsilon(contract.epsilon_nano),
            "per_query": format_epsilon(contract.epsilon_per_query_nano),
        },
        "rho": {
            "total": format_rho(contract.rho_micro),
            "per_query": format_rho(contract.rho_per_query_micro),
        },
        "valid_from": contract.valid_from.isoformat(),
        "valid_until": contract.valid_until.isoformat(),
        "approval": contract.approval,
        "approvers": contract.approvers,
        "k": contract.k,
        "regions": sorted(contract.regions),
        "duties": [
            {"duty": duty.id, "sentence": duty.sentence, "due": duty.due.isoformat()} for duty in contract.duties
        ],
        "signatures": contract.signatures,
        "rates": {
            "currency": rates.currency,
            "per_query": format_price(rates.per_query_micro),
            "per_cell": format_price(rates.per_cell_micro),
            "per_epsilon": format_price(rates.per_epsilon_micro),
            "per_encrypted_operation": format_price(rates.per_encrypted_operation_micro),
        },
        "seal_to": sorted(contract.seal_to),
        "quotas": [
            {"metric": q.metric, "window": q.window, "zone": q.zone, "limit": str(q.limit)}
            for q in sorted(contract.quotas, key=lambda quota: quota.id)
        ],
    }


def contract_of_terms(canonical: bytes) -> Contract:
    """The contract whose canonical form these bytes are.

    Raises:
        NotCanonical: they are no contract's.
    """
    content = parse_canonical(canonical)
    if not isinstance(content, dict):
        raise NotCanonical("terms are a mapping")
    reader = Reader(_as_written(content), where="terms")
    contract = read_contract(reader)
    if contract is None or reader.finish() or contract.canonical != canonical:
        raise NotCanonical("not the terms of a contract")
    return contract


_NO_SHARE = {"total": "0", "per_query": "0"}


def _as_written(content: Mapping[str, Any]) -> dict[str, Any]:
    """The document that has this canonical form: there a share of a privacy budget stands among the quotas too, and one
    that is not stated as zero."""
    content = {key: value for key, value in content.items() if key not in ("epsilon", "rho") or value != _NO_SHARE}
    quotas = content.get("quotas")
    if not isinstance(quotas, list) or not all(isinstance(quota, dict) for quota in quotas):
        raise NotCanonical("quotas are a list of mappings")
    stated = [dict(quota) for quota in quotas]
    for metric, total in _shares(content):
        share = {"metric": metric, "window": "lifetime", "zone": "UTC", "limit": str(total)}
        if share in stated:
            stated.remove(share)
    for quota in stated:
        limit = str(quota.get("limit"))
        quota["limit"] = int(limit) if limit.isdecimal() and limit.isascii() else limit
    return {**content, "quotas": stated}


def _shares(content: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Metric and total of the shares that `_contract_quotas` makes limits of."""
    reader = Reader(content, where="terms")
    (epsilon, _), (rho, _) = _read_share(reader, "epsilon", parse_epsilon), _read_share(reader, "rho", parse_rho)
    if epsilon or not rho:
        yield "epsilon_nano", epsilon
    if rho:
        yield "rho_micro", rho


_GROWING = ("purposes", "modes", "dimensions", "measures", "aggregates", "seal_to")
_SHARES = ("epsilon_nano", "epsilon_per_query_nano", "rho_micro", "rho_per_query_micro")
_PARTIES = ("requester", "provider", "dataset")


def loosens(old: Contract | None, new: Contract | None) -> bool:
    """Whether the change from old to new makes something possible that was not. Its quotas are compared as quotas."""
    if old is None or new is None:
        return old is None  # Whether duties are forgiven by it, whoever knows their states tells: `applying`.
    grew = any(set(getattr(new, key)) - set(getattr(old, key)) for key in _GROWING)
    moved = any(getattr(new, key) != getattr(old, key) for key in _PARTIES)
    longer = new.valid_from < old.valid_from or new.valid_until > old.valid_until
    more = any(getattr(new, key) > getattr(old, key) for key in _SHARES)
    # A share that is not stated binds nothing where the other account does: 0 is more than any.
    unbound = any(getattr(old, key) and not getattr(new, key) for key in _SHARES)
    unwatched = _watchers(new) < _watchers(old) or (old.signatures, new.signatures) == ("required", "none")
    elsewhere = bool(old.regions) and (not new.regions or not set(new.regions) <= set(old.regions))
    wider = grew or moved or longer or more or unbound or unwatched or elsewhere or new.k < old.k
    return wider or not _owes_as_much(old, new) or _cheaper(old.rates, new.rates)


def _watchers(contract: Contract) -> int:
    return contract.approvers if contract.approval == "per_query" else 0


def _owes_as_much(old: Contract, new: Contract) -> bool:
    owed = {duty.id: duty for duty in new.duties}
    return all(
        (now := owed.get(duty.id)) is not None and now.sentence == duty.sentence and now.due <= duty.due
        for duty in old.duties
    )


def _cheaper(old: Rates, new: Rates) -> bool:
    """Whether a limit of money lets more be asked than it did."""
    names = [item.name for item in fields(Rates) if item.name.endswith("_micro")]
    return old.currency != new.currency or any(getattr(new, name) < getattr(old, name) for name in names)


CONTRACT = Kind(
    "contract", read_contract, lambda contract: contract.id, contract_json, loosens, compared_apart=("quotas",)
)
"""Contracts among the policy's documents."""
