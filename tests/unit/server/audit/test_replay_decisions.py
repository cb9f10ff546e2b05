# SPDX-License-Identifier: Apache-2.0
"""Each falsification below is a mutant of what a server could write; a check of `replay` catches each."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agreements import move
from tests.support.decisions import approved_by, change_leaf, decide_many, falsify, leaves_of, prepare, replayed
from tests.support.domain import by_site, equals, open_domain, running_domain, submit
from weir.errors import PolicyDenied
from weir_server import ledger, log
from weir_server.ledger import ReservationRequest, Subject
from weir_server.policy import decide as deciding
from weir_server.policy.lineage import PURPOSE


async def filled(directory: Path, count: int) -> Path:
    """The directory of a closed store with decisions of every kind."""
    async with running_domain(directory) as domain:
        await prepare(domain)
        await decide_many(domain, count, seed=7)
    return directory


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(filled(tmp_path_factory.mktemp("decided"), 240))


@pytest.fixture
def copy(decided: Path, tmp_path: Path) -> Path:
    """A copy to falsify."""
    return Path(shutil.copytree(decided, tmp_path / "copy"))


def some_leaf(directory: Path, **wanted: object) -> int:
    """The first decision whose record says so."""
    return next(
        index
        for index, data in leaves_of(directory)
        if all(data["record"].get(key) == value for key, value in wanted.items())
    )


@pytest.mark.slow
def test_a_thousand_decisions_of_every_kind_are_decided_the_same_again(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path, 1_100))
    found = replayed(tmp_path)
    assert found.differences == ()
    assert found.agreed == found.decisions >= 1_000
    assert (found.unopenable, found.unkept) == (0, 0)
    kinds = Counter(
        (data["record"]["decision"], data["record"].get("verdict"), data["record"].get("persons"))
        for _, data in leaves_of(tmp_path)
    )
    for kind in (
        ("allowed", None, None),
        ("approved", "needs_approval", 1),
        ("approved", "needs_approval", 2),
        ("refused", "needs_approval", 1),
        ("refused", "needs_approval", 2),
        ("refused", "deny", None),
    ):
        assert kinds[kind] >= 10, kind


def test_every_kind_of_reason_is_among_those_that_are_replayed(decided: Path) -> None:
    assert replayed(decided).differences == ()
    codes = {code for _, data in leaves_of(decided) for code in data["record"].get("reasons", ())}
    assert codes >= {
        "grade.technique", "contract.purpose", "contract.expired", "contract.region", "contract.dimension",
        "contract.measure", "contract.aggregate", "contract.k", "contract.epsilon_per_query",
        "contract.approval", "recipient.approval", "recipient.epsilon_per_query", "price.limit",
    }  # fmt: skip


def test_refusals_that_no_decision_made_are_counted_apart(decided: Path) -> None:
    others = replayed(decided).others
    assert others["UNKNOWN_NAME"] > 0
    assert others["QUOTA_EXCEEDED"] > 0
    assert "APPROVAL_REQUIRED" not in others


def test_a_range_of_the_log_is_replayed_alone(decided: Path) -> None:
    whole = replayed(decided)
    middle = some_leaf(decided, verdict="deny") + 1
    first, rest = replayed(decided, end=middle), replayed(decided, start=middle)
    assert first.agreed + rest.agreed == whole.agreed
    assert first.agreed > 0 < rest.agreed


def _say(**record: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["record"].update(record)


FALSE_LEAVES: list[tuple[str, dict[str, object], Callable[[dict[str, Any]], object]]] = [
    ("decision.verdict", {"verdict": "deny"}, _say(verdict="needs_approval")),
    ("decision.verdict", {"verdict": "needs_approval", "decision": "refused"}, _say(verdict="deny")),
    ("decision.approval", {"decision": "approved"}, _say(approval="")),
    ("decision.approval", {"persons": 2, "decision": "approved"}, _say(approval="ap-0")),
    ("decision.reasons", {"verdict": "deny"}, _say(reasons=["contract.expired", "contract.k"])),
    ("decision.reasons", {"decision": "approved"}, _say(reasons=[])),
    ("decision.persons", {"persons": 2}, _say(persons=1)),
    ("decision.contract", {"verdict": "deny"}, _say(contract_digest="0" * 64)),
    ("decision.contract", {"verdict": "deny"}, lambda data: data["subject"].update(contract="c-9")),
    ("decision.facts", {"verdict": "deny"}, lambda data: data["subject"].update(requester="carol")),
    ("decision.facts", {"verdict": "deny"}, lambda data: data["subject"].update(dataset="other")),
    ("decision.facts", {"decision": "allowed"}, _say(snapshot=2)),
    ("decision.facts", {"decision": "allowed"}, _say(release_mode="neither")),
    ("decision.facts", {"decision": "allowed", "sticky": False}, lambda data: data["charge"].update(price_micro="1")),
    ("decision.missing", {"verdict": "deny"}, lambda data: data["commitments"].pop("facts")),
    (
        "decision.stray",
        {"verdict": "deny"},
        lambda data: (data["commitments"].pop("facts"), data["record"].pop("verdict")),
    ),
]


@pytest.mark.parametrize(("rule", "wanted", "change"), FALSE_LEAVES, ids=range(len(FALSE_LEAVES)))
def test_a_leaf_that_says_otherwise_is_found(
    copy: Path, rule: str, wanted: dict[str, object], change: Callable[[dict[str, Any]], object]
) -> None:
    index = some_leaf(copy, **wanted)
    change_leaf(copy, index, change)
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(index, rule)]


@pytest.mark.parametrize("person", ["alice", "olga"], ids=["the requester", "the same person"])
def test_an_approval_that_the_persons_did_not_give_is_found(copy: Path, person: str) -> None:
    index = some_leaf(copy, persons=2, decision="approved")
    approval = dict(leaves_of(copy))[index]["record"]["approval"]
    given = approved_by(copy, approval)
    assert [who for _, who in given] == ["olga", "oscar"]
    change_leaf(copy, given[1][0], lambda data: data.update(actor=person))
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(index, "decision.approval")]


@pytest.mark.parametrize(
    "change",
    [{"requester": "bob"}, {"contract": "c-9"}, {"state": "waiting"}],
    ids=["for another", "under another contract", "not there yet"],
)
def test_an_approval_of_something_else_is_found(copy: Path, change: dict[str, str]) -> None:
    index = some_leaf(copy, decision="approved", persons=1)
    (given,) = approved_by(copy, dict(leaves_of(copy))[index]["record"]["approval"])
    change_leaf(copy, given[0], lambda data: data.update(change))
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(index, "decision.approval")]


def test_one_approval_for_two_queries_is_found(copy: Path) -> None:
    found = [
        (index, data["record"]["approval"])
        for index, data in leaves_of(copy)
        if data["record"].get("decision") == "approved" and data["subject"]["contract"] == "c-2"
    ]
    (_, approval), (second, _) = found[:2]
    change_leaf(copy, second, _say(approval=approval))
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(second, "decision.approval")]


def test_facts_that_are_younger_than_their_leaf_are_found(copy: Path) -> None:
    index = some_leaf(copy, verdict="deny")
    change_leaf(copy, index, lambda data: None, time="2026-11-01T00:00:00.000000Z")
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(index, "decision.facts")]


_BLOB = "CAST(replace(CAST({} AS TEXT), '{}', '{}') AS BLOB)"
FALSE_BOOKS = [
    (
        "decision.commitment",
        f"UPDATE decisions SET facts = {_BLOB.format('facts', 'CN-11', 'CN-31')} WHERE leaf_index = ?",
    ),
    ("decision.commitment", "UPDATE log_salts SET salt = zeroblob(32) WHERE idx = ?"),
    ("decision.contract", "UPDATE decisions SET contract_digest = 'none' WHERE leaf_index = ?"),
    ("decision.missing", "DELETE FROM decisions WHERE leaf_index = ?"),
]


@pytest.mark.parametrize(("rule", "sql"), FALSE_BOOKS, ids=["facts", "salt", "digest", "gone"])
def test_books_that_say_otherwise_are_found(copy: Path, rule: str, sql: str) -> None:
    index = some_leaf(copy, verdict="deny")
    assert falsify(copy, sql, index) == 1
    assert [(item.index, item.rule) for item in replayed(copy).differences] == [(index, rule)]


def test_a_contract_s_text_that_was_altered_is_found_wherever_it_was_decided_on(copy: Path) -> None:
    digest = next(data["record"]["contract_digest"] for _, data in leaves_of(copy))
    under = [index for index, data in leaves_of(copy) if data["record"]["contract_digest"] == digest]
    altered = _BLOB.format("canonical", "Visits", "Guests")
    assert falsify(copy, f"UPDATE contract_terms SET canonical = {altered} WHERE digest = ?", digest) == 1
    found = replayed(copy).differences
    assert [item.index for item in found] == under
    assert {item.rule for item in found} == {"decision.contract"}


def test_a_rule_that_the_server_did_not_keep_is_found(decided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the decisions had been made by a server that knew one rule more than the published code."""
    monkeypatch.setattr(deciding, "_loss_reasons", lambda facts, contract: iter(()))
    found = replayed(decided).differences
    assert {item.rule for item in found} == {"decision.reasons", "decision.verdict"}


def test_an_erased_salt_is_no_agreement(copy: Path) -> None:
    index, before = some_leaf(copy, verdict="deny"), replayed(copy)
    domain = open_domain(copy)
    domain.store.write_sync(lambda tx: log.erase(tx, index))
    domain.store.close()
    found = replayed(copy)
    assert (found.agreed, found.unopenable, found.differences) == (before.agreed - 1, 1, ())


def test_erasing_a_salt_erases_the_facts(copy: Path) -> None:
    index = some_leaf(copy, verdict="deny")
    domain = open_domain(copy)
    domain.store.write_sync(lambda tx: log.erase(tx, index))
    domain.store.close()
    assert index not in dict(leaves_of(copy))


def test_decisions_from_before_facts_were_kept_are_counted_apart(copy: Path) -> None:
    first = next(index for index, _ in leaves_of(copy))
    falsify(copy, "DELETE FROM decisions WHERE leaf_index = ?", first)
    change_leaf(copy, first, lambda data: data["commitments"].pop("facts"))
    found = replayed(copy)
    assert (found.unkept, found.differences) == (1, ())


async def test_what_is_kept_are_the_facts_of_the_moment_that_counts(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        await domain.pipeline.run(submit())
        later = domain.clock.moment
        (index, data), *_ = leaves_of(tmp_path)
        rows = domain.store.read(lambda tx: tx.execute("SELECT facts FROM decisions WHERE leaf_index = ?", (index,)))
        assert later.isoformat().encode() in bytes(rows[0][0])  # type: ignore[arg-type]
        assert data["record"]["decision"] == "allowed"
        assert domain.events()[index]["type"] == "weir.query.reserved"


async def test_a_charge_behind_the_entry_that_ended_its_contract_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_domain(tmp_path) as domain:
        await domain.pipeline.run(submit())
        before = domain.state.world
        await move(domain, "suspended", contract="c-1")
        monkeypatch.setattr(domain.state, "world", before)  # A server that goes on as if nothing had been said.
        monkeypatch.setattr(domain.state, "require_current", lambda *_: None)
        await domain.pipeline.run(submit(by_site()))
    found = replayed(tmp_path)
    assert [difference.rule for difference in found.differences] == ["decision.state"]
    assert found.agreed == 1


async def test_no_fact_is_told_by_a_leaf(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        await domain.pipeline.run(submit(max_price=77_123_456))
        leaves: bytes = domain.store.read(lambda tx: b"".join(leaf for _, leaf in log.entries(tx)))
        assert b"77123456" not in leaves


async def test_a_query_that_does_not_bind_is_no_decision(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        assert not isinstance(await domain.refused(submit(by_site(where=equals("colour", "red")))), PolicyDenied)
    found = replayed(tmp_path)
    assert (found.decisions, dict(found.others)) == (0, {"UNKNOWN_NAME": 1})


@pytest.mark.parametrize(("purpose", "rules"), [(PURPOSE, []), ("research", ["decision.missing"])])
async def test_only_the_report_of_a_publication_is_charged_without_a_decision(
    tmp_path: Path, purpose: str, rules: list[str]
) -> None:
    async with running_domain(tmp_path) as domain:
        await domain.pipeline.run(submit())
        request = ReservationRequest(
            subject=Subject("olga", "", "census", "people"),
            idempotency_key="publication/census/1",
            request_digest="d" * 64,
            charge={"queries": 1},
            plan_digest="d" * 64,
            policy_digest="d" * 64,
            event={"decision": "allowed", "purpose": purpose},
        )
        domain.store.write_sync(
            lambda tx: ledger.charge_and_post(
                tx, request, answer=b"", event=request.event, now=domain.clock(), entropy=os.urandom
            )
        )
    found = replayed(tmp_path)
    assert [item.rule for item in found.differences] == rules
    assert found.others == ({} if rules else {"PUBLICATION": 1})
