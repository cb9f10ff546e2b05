# SPDX-License-Identifier: Apache-2.0
"""Contracts in a data directory whose states, signatures, texts or entries were tampered with."""

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.agreements import HOSPITAL, PARTIES, agree, attest, move, sign, signed_document
from tests.support.domain import contract_document, running_domain
from tests.support.ledger import VKEY, open_books
from weir_server.fsck import fsck
from weir_server.ledger import record

DUTY = [{"duty": "delete", "sentence": "Delete the extract.", "due": "2026-11-25T00:00:00+00:00"}]


async def play(directory: Path) -> None:
    """Contracts in every state, one of them with terms that changed and came back."""
    states = ("offered", "active", "suspended", "terminated", "expired")
    ending = {"valid_until": "2026-11-23T00:00:00+00:00"}
    others = [signed_document(f"s-{state}") for state in ("offered", "suspended", "terminated")]
    others += [signed_document("s-expired", **ending), contract_document("n-1"), *PARTIES]
    policy = (*others, signed_document("s-active", duties=DUTY))
    async with running_domain(directory, documents=policy) as domain:
        await sign(domain, HOSPITAL, contract="s-offered")
        for state in states[1:]:
            await agree(domain, f"s-{state}")
        await domain.apply(*others, signed_document("s-active", duties=DUTY, k=20))
        await domain.apply(*policy)
        await agree(domain, "s-active")
        await attest(domain, "delete", contract="s-active")
        await move(domain, "suspended", contract="s-suspended")
        await move(domain, "terminated", contract="s-terminated")
        domain.clock.forward(days=1)
        assert await domain.state.expire_contracts() == 1


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("healthy")
    asyncio.run(play(directory))
    return directory


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "copy"))


def rules(directory: Path) -> set[str]:
    return {finding.rule for finding in fsck(directory, vkey=VKEY).findings if finding.rule.startswith("fsck.contract")}


def test_contracts_in_every_state_are_healthy(healthy: Path) -> None:
    assert fsck(healthy, vkey=VKEY).findings == ()
    kinds = {row[0] for row in sqlite3.connect(healthy / "ledger.db").execute("SELECT DISTINCT type FROM log_leaves")}
    steps = {"offered", "signed", "accepted", "activated", "suspended", "terminated", "expired", "duty_attested"}
    assert {f"weir.contract.{step}" for step in steps} <= kinds


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE contract_states SET state = 'active' WHERE contract = 's-offered'", "fsck.contract_state"),
        ("UPDATE contract_states SET state = 'active' WHERE contract = 's-terminated'", "fsck.contract_state"),
        ("DELETE FROM contract_states WHERE contract = 's-suspended'", "fsck.contract_state"),
        ("INSERT INTO contract_states VALUES ('s-9', 'aa', 'active', 0)", "fsck.contract_state"),
        ("UPDATE contract_terms SET canonical = X'7B7D'", "fsck.contract_terms"),
        ("DELETE FROM contract_terms", "fsck.contract_terms"),
        ("UPDATE contract_signatures SET party = 'mallory'", "fsck.contract_signature"),
        ("UPDATE contract_signatures SET signature = zeroblob(64)", "fsck.contract_signature"),
        ("UPDATE contract_signatures SET public_key = zeroblob(32)", "fsck.contract_signature"),
        ("DELETE FROM contract_signatures WHERE role = 'requester'", "fsck.contract_signature"),
        ("DELETE FROM contract_duties", "fsck.contract_duty"),
    ],
)
def test_every_damaged_table_is_named(copy: Path, statement: str, rule: str) -> None:
    with sqlite3.connect(copy / "ledger.db") as connection:
        assert connection.execute(statement).rowcount != 0
    assert rule in rules(copy)


@pytest.mark.parametrize("step", ["accepted", "activated", "resumed", "suspended"])
def test_an_entry_that_no_contract_could_have_made_is_named_at_its_index(copy: Path, step: str) -> None:
    with sqlite3.connect(copy / "ledger.db") as connection:
        ((digest,),) = connection.execute("SELECT digest FROM contract_states WHERE contract = 's-offered'")
    books = open_books(copy)
    written = books.store.write_sync(
        lambda tx: record(
            tx,
            f"weir.contract.{step}",
            {"contract_digest": digest},
            subject="contract/s-offered",
            now=books.clock(),
            entropy=os.urandom,
        )
    )
    books.store.close()
    named = {finding.index for finding in fsck(copy, vkey=VKEY).findings if finding.rule == "fsck.contract"}
    assert named == {written.leaf_index}


def test_books_from_before_contracts_had_tables_are_read(copy: Path) -> None:
    with sqlite3.connect(copy / "ledger.db") as connection:
        connection.execute("DROP TABLE contract_terms")
    assert rules(copy) == set()
