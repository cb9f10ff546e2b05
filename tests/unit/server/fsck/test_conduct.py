# SPDX-License-Identifier: Apache-2.0
"""Whoever takes a name off a blacklist, a level or a case in the tables alone is found, and no restore does it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cases import advance_case, file_case
from tests.support.domain import DOCUMENTS, Domain, running_domain, submit
from tests.support.gates import gates_document
from tests.support.ledger import VKEY
from weir_server import log
from weir_server.backup.conduct import rebuild
from weir_server.cases import book as cases
from weir_server.cases.values import Case
from weir_server.fsck import fsck
from weir_server.policy import book
from weir_server.store import Transaction

TABLES = ("suspensions", "standings", "cases", "case_steps")


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    """Stops set and lifted, a level changed twice, one case closed and one that holds its contract."""
    async with running_domain(tmp_path) as running:
        await running.apply(*DOCUMENTS, gates_document())
        for _ in range(3):
            await running.refused(submit(purpose="sale"))
        await running.state.update_standings()
        for _ in range(3):
            await running.refused(submit(purpose="sale"))
        await running.state.update_standings()
        await running.suspend("blacklist", "mallory")
        await running.suspend("dataset", "census")
        await running.suspend("dataset", "census", suspended=False)
        await running.suspend("all")
        done, held = await file_case(running), await file_case(running, against=None)
        await advance_case(running, done.id, "closed")
        await advance_case(running, held.id, "accepted", freeze=True)
        yield running


def findings(domain: Domain) -> set[str]:
    return {finding.rule for finding in fsck(domain.directory, vkey=VKEY).findings}


async def test_what_was_done_by_acts_has_no_findings(domain: Domain) -> None:
    assert findings(domain) == set()
    await domain.suspend("all", suspended=False)
    await domain.suspend("blacklist", "mallory")
    assert findings(domain) == set()


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("DELETE FROM suspensions WHERE scope = 'blacklist'", "fsck.suspension"),
        ("DELETE FROM suspensions WHERE scope = 'all'", "fsck.suspension"),
        ("UPDATE suspensions SET name = 'eve' WHERE scope = 'blacklist'", "fsck.suspension"),
        ("INSERT INTO suspensions (scope, name, since) VALUES ('requester', 'alice', 0)", "fsck.suspension"),
        ("DELETE FROM standings", "fsck.standing"),
        ("UPDATE standings SET level = 'good'", "fsck.standing"),
        ("INSERT INTO standings (requester, level) VALUES ('bob', 'restricted')", "fsck.standing"),
        ("UPDATE cases SET frozen = 0", "fsck.case"),
        ("UPDATE cases SET state = 'accepted' WHERE state = 'closed'", "fsck.case"),
        ("UPDATE cases SET contract = 'b-1'", "fsck.case"),
        ("UPDATE cases SET against = 'bob'", "fsck.case"),
        ("UPDATE cases SET entries = '[1]'", "fsck.case"),
        ("UPDATE cases SET statement = 'All is well.'", "fsck.case"),
        ("UPDATE cases SET statement = ''", "fsck.case"),
        ("DELETE FROM cases", "fsck.case"),
        ("DELETE FROM case_steps", "fsck.case"),
        ("UPDATE case_steps SET note = 'nothing found' WHERE note <> ''", "fsck.case"),
        ("UPDATE case_steps SET actor = 'oscar'", "fsck.case"),
        ("UPDATE case_steps SET frozen = 0", "fsck.case"),
        ("UPDATE case_steps SET case_id = 'case-0000000000000000'", "fsck.case"),
    ],
)
async def test_what_no_entry_says_is_found(domain: Domain, damage: str, rule: str) -> None:
    await domain.store.write(lambda tx: tx.execute(damage))
    assert rule in findings(domain)


async def test_an_erased_statement_is_no_finding(domain: Domain) -> None:
    filing = domain.events("weir.case.received")[0]["id"]
    await domain.store.write(lambda tx: log.erase(tx, int(filing)))
    assert findings(domain) == set()


async def test_a_restore_brings_back_stops_levels_and_cases_that_the_copy_did_not_know(domain: Domain) -> None:
    leaves = domain.store.read(lambda tx: [leaf for _, leaf in log.entries(tx)])
    before = domain.store.read(_everything)

    def lose(tx: Transaction) -> None:
        for table in TABLES:
            tx.execute(f"DELETE FROM {table}")
        rebuild(tx, leaves)

    await domain.store.write(lose)
    after = domain.store.read(_everything)
    assert {case.statement for case in after[2]} == {""}
    assert (after[0], after[1]) == (before[0], before[1])
    assert [(case.id, case.steps) for case in after[2]] == [(case.id, case.steps) for case in before[2]]


async def test_a_restore_keeps_the_statements_that_the_copy_has(domain: Domain) -> None:
    leaves = domain.store.read(lambda tx: [leaf for _, leaf in log.entries(tx)])
    before = domain.store.read(_everything)
    await domain.store.write(lambda tx: rebuild(tx, leaves))
    assert domain.store.read(_everything) == before
    assert findings(domain) == set()


def _everything(tx: Transaction) -> tuple[object, object, list[Case]]:
    levels = tx.execute("SELECT requester, level FROM standings ORDER BY requester")
    return book.suspensions(tx), levels, cases.page(tx, owner=None, before=None, limit=99)
