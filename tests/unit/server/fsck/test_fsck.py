# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger import BOB, VKEY, fill, open_books
from weir.checkpoint import new_signer
from weir_server import log
from weir_server.fsck import Report, fsck
from weir_server.log.tiles import export_tiles


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which everything has happened at least once."""
    directory = tmp_path_factory.mktemp("healthy")
    books = open_books(directory)
    fill(books)
    export_tiles(books.store, directory / "log")
    books.store.close()
    return directory


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "copy"))


def damage(directory: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(directory / "ledger.db")
    changed = connection.execute(statement, parameters).rowcount
    connection.commit()
    connection.close()
    assert changed != 0, "the damage must hit something"


def rules(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


def test_a_healthy_directory_has_no_findings(healthy: Path) -> None:
    report = fsck(healthy, vkey=VKEY)
    assert report.findings == ()
    assert report.ok
    assert report.first_bad_index is None
    assert report.entries > 25


def test_fsck_runs_beside_a_live_server(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    books.answer({"queries": 1})
    assert fsck(tmp_path, vkey=VKEY).ok
    books.answer({"queries": 1})
    books.store.close()


def test_an_empty_ledger_is_healthy(tmp_path: Path) -> None:
    open_books(tmp_path).store.close()
    assert fsck(tmp_path, vkey=VKEY).ok


def test_another_log_s_key_is_reported(healthy: Path) -> None:
    stranger = new_signer("log.weir.test/ledger", seed=bytes(32))
    assert rules(fsck(healthy, vkey=stranger.verifier.vkey)) == {"fsck.checkpoint"}


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE log_leaves SET hash = zeroblob(32) WHERE idx = 5", "fsck.leaf"),
        ("UPDATE log_leaves SET type = 'weir.other' WHERE idx = 5", "fsck.leaf_columns"),
        ("UPDATE log_leaves SET requester = 'mallory' WHERE idx = 5", "fsck.leaf_columns"),
        ("DELETE FROM log_leaves WHERE idx = 5", "fsck.gap"),
        ("DELETE FROM log_leaves WHERE idx > 9", "fsck.head"),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 4 AND idx = 0", "fsck.node"),
        ("DELETE FROM log_nodes WHERE level = 4 AND idx = 0", "fsck.node"),
        ("DELETE FROM log_nodes WHERE level = 0 AND idx = 1", "fsck.node"),
        ("INSERT INTO log_nodes VALUES (1, 2, zeroblob(32))", "fsck.node"),
        ("INSERT INTO log_nodes VALUES (9, 9, zeroblob(32))", "fsck.node"),
        ("UPDATE log_head SET size = size - 1", "fsck.head"),
        ("UPDATE log_head SET root = zeroblob(32)", "fsck.head"),
        ("UPDATE log_head SET origin = 'other'", "fsck.checkpoint"),
        ("DELETE FROM log_head", "fsck.head"),
        ("DELETE FROM log_checkpoints WHERE size = (SELECT MAX(size) FROM log_checkpoints)", "fsck.checkpoint"),
        ("UPDATE log_checkpoints SET note = replace(note, char(10) || size, char(10) || '1')", "fsck.checkpoint"),
        ("UPDATE reservations SET state = 'held' WHERE state = 'posted'", "fsck.reservation"),
        ("UPDATE reservations SET epsilon_nano = epsilon_nano + 1", "fsck.reservation"),
        ("UPDATE reservations SET requester = 'mallory'", "fsck.reservation"),
        ("UPDATE reservations SET held_until = held_until + 1", "fsck.reservation"),
        ("DELETE FROM reservations", "fsck.reservation"),
        ("INSERT INTO reservations VALUES (1, 'held', 'm', 'c', 'd', 'l', 0,0,0,0,0,0,0,0,0,'')", "fsck.reservation"),
        ("UPDATE idempotency SET request_digest = 'x'", "fsck.idempotency"),
        ("UPDATE idempotency SET requester = 'mallory' WHERE requester = 'alice' AND idempotency_key = "
         "(SELECT MIN(idempotency_key) FROM idempotency WHERE requester = 'alice')", "fsck.idempotency"),
        ("UPDATE idempotency SET reservation = 0", "fsck.idempotency"),
        ("UPDATE quotas SET maximum = maximum + 1", "fsck.quota"),
        ("DELETE FROM quotas WHERE id = 'epsilon'", "fsck.quota"),
        ("INSERT INTO quotas VALUES ('extra', 'cells', 'x', '', '', '', 'day', 'UTC', 1, '')", "fsck.quota"),
        ("UPDATE quota_use SET spent = spent + 1 WHERE quota = 'epsilon'", "fsck.balance"),
        ("UPDATE quota_use SET held = held + 1 WHERE quota = 'daily'", "fsck.balance"),
        ("DELETE FROM quota_use WHERE quota = 'epsilon'", "fsck.balance"),
        ("UPDATE meter SET used = used - 1 WHERE metric = 'price_micro'", "fsck.meter"),
        ("DELETE FROM meter WHERE metric = 'queries'", "fsck.meter"),
        ("UPDATE answers SET answer = X'00' WHERE leaf_index = (SELECT MIN(leaf_index) FROM answers)", "fsck.answer"),
        ("UPDATE answers SET reservation = reservation + 1000", "fsck.answer"),
        ("DELETE FROM answers", "fsck.answer"),
        ("UPDATE releases SET release_bytes = X'00'", "fsck.release"),
        ("UPDATE releases SET leaf_index = 100000", "fsck.release"),
        ("UPDATE log_salts SET salt = zeroblob(32) WHERE idx = (SELECT MIN(leaf_index) FROM answers)", "fsck.answer"),
        ("UPDATE log_salts SET idx = idx + 100000", "fsck.salt"),
        ("UPDATE ledger_clock SET mark = 1", "fsck.clock"),
    ],
)  # fmt: skip
def test_every_damaged_table_is_named(copy: Path, statement: str, rule: str) -> None:
    damage(copy, statement)
    assert rule in rules(fsck(copy, vkey=VKEY))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_salts SET salt = 'text' WHERE idx = 5",
        "UPDATE log_salts SET salt = 4611686018427387904 WHERE idx = 5",
        "UPDATE log_leaves SET leaf = CAST(leaf AS TEXT) WHERE idx = 5",
        "UPDATE log_head SET size = 1.5",
        "UPDATE ledger_clock SET mark = X'00'",
        "UPDATE answers SET leaf_index = 'one'",
        "UPDATE releases SET leaf_index = X'01'",
        "UPDATE quota_use SET period_start = X'02' WHERE quota = 'epsilon'",
        "UPDATE meter SET contract = X'03' WHERE metric = 'queries'",
    ],
)
def test_a_value_of_another_type_is_a_finding_and_no_crash(copy: Path, statement: str) -> None:
    """One flipped bit in the file makes a text of bytes, and SQLite sees nothing wrong with that."""
    damage(copy, statement)
    (finding,) = fsck(copy, vkey=VKEY).findings
    assert (finding.rule, statement.split()[1] in finding.what) == ("fsck.type", True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.data())
def test_a_flipped_byte_in_any_leaf_is_found_at_its_index(healthy: Path, copy: Path, data: st.DataObject) -> None:
    connection = sqlite3.connect(copy / "ledger.db")
    leaves = connection.execute("SELECT leaf FROM log_leaves ORDER BY idx").fetchall()
    index = data.draw(st.integers(0, len(leaves) - 1))
    leaf = leaves[index][0]
    at, mask = data.draw(st.integers(0, len(leaf) - 1)), data.draw(st.integers(1, 255))
    flipped = leaf[:at] + bytes([leaf[at] ^ mask]) + leaf[at + 1 :]
    connection.execute("UPDATE log_leaves SET leaf = ? WHERE idx = ?", (flipped, index))
    connection.commit()
    report = fsck(copy, vkey=VKEY)
    connection.execute("UPDATE log_leaves SET leaf = ? WHERE idx = ?", (leaf, index))
    connection.commit()
    connection.close()
    assert report.first_bad_index is not None
    # A node over the leaf may start before it, but the leaf itself is always named.
    assert named_at(report, index)


def named_at(report: Report, index: int) -> bool:
    return any(finding.index == index and finding.rule == "fsck.leaf" for finding in report.findings)


def test_a_rewritten_history_with_matching_hashes_still_fails_at_the_first_signed_checkpoint(copy: Path) -> None:
    # Whoever rewrites leaf, hashes and nodes together cannot sign: the checkpoints say where it began.
    from hashlib import sha256

    connection = sqlite3.connect(copy / "ledger.db")
    (leaf,) = connection.execute("SELECT leaf FROM log_leaves WHERE idx = 5").fetchone()
    changed = leaf.replace(b'"snapshot":1', b'"snapshot":2')
    assert changed != leaf
    fresh = sha256(b"\x00" + changed).digest()
    connection.execute("UPDATE log_leaves SET leaf = ?, hash = ? WHERE idx = 5", (changed, fresh))
    connection.execute("UPDATE log_nodes SET hash = ? WHERE level = 0 AND idx = 5", (fresh,))
    level, index = 0, 5
    while True:
        first = index & ~3
        stored = "SELECT hash FROM log_nodes WHERE level = ? AND idx BETWEEN ? AND ? ORDER BY idx"
        nodes = [row[0] for row in connection.execute(stored, (level, first, first + 3))]
        if len(nodes) < 4:
            break
        while len(nodes) > 1:
            nodes = [sha256(b"\x01" + nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes), 2)]
        level, index = level + 2, index >> 2
        connection.execute("UPDATE log_nodes SET hash = ? WHERE level = ? AND idx = ?", (*nodes, level, index))
    connection.commit()
    connection.close()
    report = fsck(copy, vkey=VKEY)
    assert "fsck.node" not in rules(report)
    bad = [finding for finding in report.findings if finding.rule == "fsck.checkpoint"]
    assert min(finding.index or 0 for finding in bad) == 5


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/000.p", "tile/entries/000.p"])
def test_changed_files_are_reported(copy: Path, name: str) -> None:
    file = next(path for path in [copy / "log" / name, *sorted((copy / "log" / name).glob("*"))] if path.is_file())
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 1
    file.write_bytes(raw)
    assert "fsck.files" in rules(fsck(copy, vkey=VKEY))


def test_files_that_lag_behind_are_no_finding(copy: Path) -> None:
    books = open_books(copy)
    books.answer({"queries": 1}, subject=BOB)
    books.store.close()
    assert fsck(copy, vkey=VKEY).ok


def test_a_rollback_of_the_database_behind_its_files_is_reported(healthy: Path, tmp_path: Path) -> None:
    (tmp_path / "young").mkdir()
    books = open_books(tmp_path / "young")
    books.answer({"queries": 1})
    books.store.close()
    shutil.copytree(healthy / "log", tmp_path / "young" / "log")
    report = fsck(tmp_path / "young", vkey=VKEY)
    assert rules(report) == {"fsck.files"}
    assert report.first_bad_index == 2


def test_an_erased_salt_is_no_finding(copy: Path) -> None:
    books = open_books(copy)
    index = books.store.read(lambda tx: tx.execute("SELECT MIN(leaf_index) FROM answers")[0][0])
    assert isinstance(index, int)
    books.store.write_sync(lambda tx: log.erase(tx, index))
    books.store.write_sync(lambda tx: tx.execute("DELETE FROM answers WHERE leaf_index = ?", (index,)))
    books.store.close()
    assert fsck(copy, vkey=VKEY).ok


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 100)
    report = fsck(tmp_path, vkey=VKEY)
    assert rules(report) == {"fsck.database"}


def test_the_filled_books_hold_something_of_everything(healthy: Path, copy: Path) -> None:
    books = open_books(copy)
    kinds = {str(row[0]) for row in books.store.read(lambda tx: tx.execute("SELECT DISTINCT type FROM log_leaves"))}
    books.store.close()
    assert kinds == {
        "weir.quota.set", "weir.quota.removed", "weir.query.reserved", "weir.query.released", "weir.query.voided",
        "weir.query.expired", "weir.query.refused", "weir.dataset.published",
    }  # fmt: skip
