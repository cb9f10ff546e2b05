# SPDX-License-Identifier: Apache-2.0
"""A small domain to ask: `clinic` (GENERAL, exact) and `spending` (IMPORTANT, dp), with contracts for alice.

Values are made up by arithmetic, so that tests know every answer. `CANARIES` are values planted in the sources that no
reply, log line or metric may ever show.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import RunningServer, make_domain, start_server
from tests.support.wire import call, key
from weir.v1 import answer_pb2, policy_service_pb2, query_pb2, query_service_pb2
from weir_server import publication

REGIONS = ("north", "south", "east")
PERSONS = 600
CANARIES = ("person-77310", "918273", "645309")
"""A unit's id; a value far outside the bounds of `visits`; one far outside those of `amount`."""

_CLINIC = """
name: clinic
title: Visits to the clinic
description: Synthetic visits, one row a person.
grade: GENERAL
personal_information: true
legal_basis: consent
responsible: Data office
provenance: made for tests
lineage: clinic
keywords: [health, visits]
unit: {name: person, column: person}
source: {kind: csv, location: clinic.csv}
consent:
  source: {kind: csv, location: register.csv}
  unit: person
  order: recorded
  text_version: text
  channel: channel
  withdrawn: withdrawn
dimensions:
  - {name: region, type: text, cells: [north, south, east], column: region}
  - {name: age, column: age, bins: {edges: [0, 40, 100]}}
measures:
  - {name: visits, unit: visits, column: visits, mode: exact, lower: "0", upper: "20"}
exact: {k: 10}
"""
_SPENDING = """
name: spending
title: Spending on care
description: Synthetic amounts, several rows a person.
grade: IMPORTANT
personal_information: true
legal_basis: consent
responsible: Data office
provenance: made for tests
lineage: spending
unit: {name: person, column: person}
source: {kind: csv, location: spending.csv}
consent:
  source: {kind: csv, location: register.csv}
  unit: person
  order: recorded
  text_version: text
  channel: channel
  withdrawn: withdrawn
dimensions:
  - {name: region, type: text, cells: [north, south, east], column: region}
  - {name: year, type: integer, cells: [1, 2, 3], column: year, row_level: true}
measures:
  - {name: amount, unit: USD, column: amount, mode: dp, scale: 0, lower: "0", upper: "500"}
dp: {rows_per_unit: 3, groups_per_unit: {year: 3}, epsilon_lifetime: "20"}
"""
CONTRACTS = (
    """
kind: contract
contract: c-visits
title: Visits for research
provider: clinic
signatures: none
requester: alice
dataset: clinic
purposes: [research]
modes: [exact, encrypted]
dimensions: [region, age]
measures: [visits]
aggregates: [count, count_units, sum, avg]
valid_from: 2020-01-01
valid_until: 2100-01-01
rates: {currency: CNY, per_query: "0.10", per_cell: "0.01"}
""",
    """
kind: contract
contract: c-spending
title: Spending for research
provider: clinic
signatures: none
requester: alice
dataset: spending
purposes: [research]
modes: [dp]
dimensions: [region, year]
measures: [amount]
aggregates: [count, sum]
epsilon: {total: "5", per_query: "1"}
valid_from: 2020-01-01
valid_until: 2100-01-01
""",
    """
kind: quota
quota: alice-queries
requester: alice
metric: queries
window: lifetime
limit: 1000
""",
)


def visits_of(person: int) -> int:
    """Visits of a person before clipping; within the bounds but for the canary."""
    return (person * 7) % 13


def region_of(person: int) -> str:
    """Region of a person."""
    return REGIONS[person % 3]


def write_sources(directory: Path) -> tuple[Path, Path]:
    """Writes both sources and cards; gives the paths of the cards."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_clinic(directory / "clinic.csv")
    _write_spending(directory / "spending.csv")
    _write_register(directory / "register.csv")
    cards = directory / "clinic.yaml", directory / "spending.yaml"
    for path, text in zip(cards, (_CLINIC, _SPENDING), strict=True):
        path.write_text(text, encoding="utf-8")
    return cards


def publish_sample(data_dir: Path) -> None:
    """Publishes both datasets into a domain that no server runs on."""
    publish(*write_sources(data_dir.parent / "sources"), data_dir=data_dir)


def publish(*cards: Path, data_dir: Path) -> None:
    """Publishes the datasets of these cards into a domain that no server runs on."""
    mask = os.umask(0o077)  # as the command does
    try:
        for card in cards:
            work = publication.publish_locally(card, data_dir=data_dir, source=None, progress=lambda line: None)
            asyncio.run(work)
    finally:
        os.umask(mask)


@contextmanager
def running_sample(tmp_path: Path, *, settings: str = "") -> Iterator[RunningServer]:
    """A server with both datasets published and the contracts applied."""
    data_dir = make_domain(tmp_path)
    publish_sample(data_dir)
    server = start_server(data_dir, settings=settings)
    try:
        apply_contracts(server)
        yield server
    finally:
        server.stop()


def apply_contracts(server: RunningServer, documents: Sequence[str] = CONTRACTS) -> None:
    """Puts documents of policy in force: the sample's contracts and quota."""
    operator = server.channel(server.identity("operator", "olga"), admin=True)
    request = policy_service_pb2.ApplyPolicyRequest(documents=documents, idempotency_key=key())
    call(operator, "/weir.v1.PolicyService/ApplyPolicy", request)


def envelope(
    *,
    dataset: str = "clinic",
    contract: str = "c-visits",
    group_by: tuple[str, ...] = ("region",),
    measure: str = "visits",
    epsilon_nano: int = 0,
) -> query_service_pb2.QueryEnvelope:
    """`SELECT count(*), sum(measure) GROUP BY …` in wire form; tests bend it."""
    return query_service_pb2.QueryEnvelope(
        query=query_pb2.Query(
            dataset=dataset,
            group_by=group_by,
            aggregates=[
                query_pb2.Aggregate(function=query_pb2.AGGREGATE_FUNCTION_COUNT),
                query_pb2.Aggregate(function=query_pb2.AGGREGATE_FUNCTION_SUM, measure=measure),
            ],
        ),
        contract=contract,
        mode=answer_pb2.MODE_DP if epsilon_nano else answer_pb2.MODE_EXACT,
        epsilon_nano=epsilon_nano,
    )


def spending_envelope(*, epsilon_nano: int = 500_000_000) -> query_service_pb2.QueryEnvelope:
    """A dp question about `spending`."""
    return envelope(dataset="spending", contract="c-spending", measure="amount", epsilon_nano=epsilon_nano)


def _write_clinic(path: Path) -> None:
    rows = [f"person-{i},{region_of(i)},{20 + i % 60},{visits_of(i)}" for i in range(PERSONS)]
    canary = f"{CANARIES[0]},{REGIONS[0]},30,{CANARIES[1]}"
    path.write_text("\n".join(["person,region,age,visits", canary, *rows]) + "\n", encoding="utf-8")


def _write_register(path: Path) -> None:
    people = [CANARIES[0], *(f"person-{i}" for i in range(PERSONS))]
    rows = [f"{person},2026-01-01,form-1,paper," for person in people]
    path.write_text("\n".join(["person,recorded,text,channel,withdrawn", *rows]) + "\n", encoding="utf-8")


def _write_spending(path: Path) -> None:
    rows = [
        f"person-{i},{region_of(i)},{year},{(i * 31 + year * 17) % 400}" for i in range(PERSONS) for year in (1, 2, 3)
    ]
    canary = f"{CANARIES[0]},{REGIONS[0]},1,{CANARIES[2]}"
    path.write_text("\n".join(["person,region,year,amount", canary, *rows]) + "\n", encoding="utf-8")
