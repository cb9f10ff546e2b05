# SPDX-License-Identifier: Apache-2.0
"""Contracts and quotas as operators write them: YAML documents, read strictly into frozen values.

Every violation is reported at once, by key. Unknown keys are refused: a misspelt restriction must not vanish.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from weir.amounts import format_epsilon, format_price, format_rho, parse_epsilon, parse_price, parse_rho
from weir.canonical import canonical_json, digest
from weir.errors import InvalidRequest, WeirError
from weir.query import Function
from weir_server.catalog.card import Mode
from weir_server.ledger.values import METRICS, WINDOWS, Metric, Quota, Window

MAX_DOCUMENT = 256 * 1024
_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_Word = TypeVar("_Word", Mode, Function)
_Known = TypeVar("_Known", bound=str)
_RESERVED = ("contract-", "lineage-")
"""A document that could set or drop these limits would lift a contract's share or a lineage's budget by the way."""
_SCOPES = ("requester", "contract", "dataset", "lineage")


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in micro-units of `currency`."""

    currency: str = "CNY"
    per_query_micro: int = 0
    per_cell_micro: int = 0
    """Per cell and value column."""
    per_epsilon_micro: int = 0
    """Per whole unit of epsilon; fractions are rounded up to the next micro-unit."""
    per_encrypted_operation_micro: int = 0


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
    seal_to: tuple[str, ...]
    """Holders to whose keys a release may be sealed; every holder of the named key must be among them."""
    quotas: tuple[Quota, ...]
    """Limits under this contract, its share of the privacy budget included."""
    digest: str = field(init=False, compare=False)
    """Hex digest of the canonical form: part of every decision, so made once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest(canonical_json(contract_json(self))))


def parse_documents(documents: list[str]) -> tuple[tuple[Contract, ...], tuple[Quota, ...]]:
    """Contracts and quotas of YAML documents, each with `kind: contract` or `kind: quota`.

    Raises:
        InvalidRequest: any document is malformed; the text lists every fault by document and key.
    """
    contracts, quotas, faults = [], [], []
    for number, text in enumerate(documents, start=1):
        reader = _Reader(_load(text, number), where=f"document {number}")
        kind = reader.text("kind")
        if kind == "contract":
            contracts.append(_read_contract(reader))
        elif kind == "quota":
            quotas.append(_read_quota(reader))
        else:
            reader.faults.append(f"document {number}: kind must be contract or quota")
        faults += reader.finish()
    faults += _duplicates([c.id for c in contracts if c is not None], "contract")
    faults += _duplicates([q.id for q in quotas if q is not None], "quota")
    if faults:
        raise InvalidRequest("; ".join(faults[:40]), field="documents", rule="policy.document")
    return tuple(c for c in contracts if c is not None), tuple(q for q in quotas if q is not None)


def _load(text: str, number: int) -> dict[str, Any]:
    if len(text) > MAX_DOCUMENT:
        raise InvalidRequest(f"document {number} is too large", field="documents", rule="policy.document")
    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"document {number} is no YAML", field="documents", rule="policy.document") from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise InvalidRequest(f"document {number} is no mapping", field="documents", rule="policy.document")
    return loaded


class _Reader:
    """Reads a mapping key by key, collects faults, and in the end names the keys nobody asked for."""

    def __init__(self, content: Mapping[str, Any], *, where: str) -> None:
        self._content, self._where, self._seen = content, where, set[str]()
        self.faults: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(key)
        return self._content.get(key, default)

    def fault(self, key: str, sentence: str) -> None:
        self.faults.append(f"{self._where}: {key} {sentence}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key, default)
        if not isinstance(value, str) or not 1 <= len(value) <= 500:
            self.fault(key, "must be a text of 1 to 500 characters")
            return ""
        return value

    def identifier(self, key: str) -> str:
        value = self.text(key)
        if value and not _ID.fullmatch(value):
            self.fault(key, "must be small letters, digits and hyphens, at most 63")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > 500 or not all(isinstance(item, str) for item in value):
            self.fault(key, "must be a list of texts")
            return ()
        return tuple(value)

    def word(self, key: str, known: Sequence[_Known], *, default: str | None) -> _Known:
        word = self.text(key, default)
        if word not in known:
            self.fault(key, f"must be one of {', '.join(sorted(known))}")
        return next((one for one in known if one == word), known[0])

    def words(self, key: str, known: Callable[[str], _Word]) -> frozenset[_Word]:
        found = set[_Word]()
        for word in self.texts(key):
            try:
                found.add(known(word))
            except ValueError:
                self.fault(key, f"does not know {word!r:.60}")
        return frozenset(found)

    def amount(self, key: str, parse: Callable[..., int], default: int = 0) -> int:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            self.fault(key, "must be a decimal")
            return default
        try:
            return parse(value, field=key)
        except WeirError as error:
            self.fault(key, error.message.removeprefix(f"{key} "))
            return default

    def count(self, key: str) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            self.fault(key, "must be a whole number of at least 0")
            return 0
        return value

    def instant(self, key: str) -> datetime:
        value = self.get(key)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value
        if type(value) is date:
            return datetime.combine(value, time(), tzinfo=ZoneInfo("UTC"))
        try:
            instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            self.fault(key, "must be a date or a time with a zone")
            return datetime.min.replace(tzinfo=ZoneInfo("UTC"))
        return instant

    def nested(self, key: str) -> _Reader:
        value = self.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, "must be a mapping")
            value = {}
        reader = _Reader(value, where=f"{self._where}, {key}")
        reader.faults = self.faults
        return reader

    def finish(self) -> list[str]:
        for key in sorted(set(self._content) - self._seen):
            self.faults.append(f"{self._where}: unknown key {key!r:.60}")
        return self.faults


def _read_contract(reader: _Reader) -> Contract | None:
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
        seal_to=reader.texts("seal_to"),
        quotas=_contract_quotas(reader, contract_id, epsilon=epsilon, rho=rho),
    )
    if contract.approval not in ("none", "per_query"):
        reader.fault("approval", "must be none or per_query")
    for key in ("purposes", "modes", "aggregates"):
        if not getattr(contract, key):
            reader.fault(key, "must name at least one: what is not named is not allowed")
    if contract.valid_until <= contract.valid_from:
        reader.fault("valid_until", "must be after valid_from")
    return contract if not reader.faults else None


def _read_share(reader: _Reader, key: str, parse: Callable[..., int]) -> tuple[int, int]:
    """Share of a privacy budget: total, and most one query may spend; 0 and 0 where none is stated."""
    inner = reader.nested(key)
    total, per_query = inner.amount("total", parse), inner.amount("per_query", parse)
    inner.finish()
    if (total or per_query) and not 0 < per_query <= total:
        reader.fault(key, "needs total and per_query, per_query at most total")
    return total, per_query


def _read_rates(reader: _Reader) -> Rates:
    rates = Rates(
        currency=reader.text("currency", "CNY"),
        per_query_micro=reader.amount("per_query", parse_price),
        per_cell_micro=reader.amount("per_cell", parse_price),
        per_epsilon_micro=reader.amount("per_epsilon", parse_price),
        per_encrypted_operation_micro=reader.amount("per_encrypted_operation", parse_price),
    )
    reader.finish()
    return rates


def _contract_quotas(reader: _Reader, contract: str, *, epsilon: int, rho: int) -> tuple[Quota, ...]:
    """The contract's own limits; its share of a privacy budget is one of them, so that one mechanism enforces all."""
    items = reader.get("quotas", [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        reader.fault("quotas", "must be a list of mappings")
        items = []
    quotas = []
    if epsilon or not rho:  # Where neither is stated, nothing may be spent.
        quotas.append(Quota(id=f"contract-{contract}-epsilon", metric="epsilon_nano", contract=contract, limit=epsilon))
    if rho:
        quotas.append(Quota(id=f"contract-{contract}-rho", metric="rho_micro", contract=contract, limit=rho))
    for item in items:
        inner = _Reader(item, where=f"contract {contract}, quotas")
        inner.faults = reader.faults
        metric, window, zone = _read_window(inner)
        quota_id = f"contract-{contract}-{metric.replace('_', '-')}-{window}"
        quotas.append(
            Quota(id=quota_id, metric=metric, contract=contract, window=window, zone=zone, limit=inner.count("limit"))
        )
        inner.finish()
    reader.faults += _duplicates([quota.id for quota in quotas], "quota")
    return tuple(quotas)


def _read_window(reader: _Reader) -> tuple[Metric, Window, str]:
    metric = reader.word("metric", METRICS, default=None)
    window, zone = reader.word("window", WINDOWS, default="lifetime"), reader.text("zone", "UTC")
    if metric in ("epsilon_nano", "rho_micro") and window != "lifetime":
        reader.fault("window", "of a privacy budget is lifetime: privacy loss does not come back")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.fault("zone", "must be an IANA time zone")
    return metric, window, zone


def _read_quota(reader: _Reader) -> Quota | None:
    metric, window, zone = _read_window(reader)
    scope = {key: reader.text(key) for key in _SCOPES if reader.get(key) is not None}
    quota = Quota(
        id=reader.identifier("quota"), metric=metric, window=window, zone=zone, limit=reader.count("limit"), **scope
    )
    if quota.id.startswith(_RESERVED):
        reader.fault(
            "quota", f"must not begin with {' or '.join(_RESERVED)}: such limits belong to contracts and cards"
        )
    if not scope:
        reader.fault("quota", f"needs a scope: one or more of {', '.join(_SCOPES)}")
    return quota if not reader.faults else None


def _duplicates(ids: list[str], kind: str) -> list[str]:
    return [f"{kind} {name} is defined twice" for name in sorted({n for n in ids if n and ids.count(n) > 1})]


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
