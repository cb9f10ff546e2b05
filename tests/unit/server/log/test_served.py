# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import fcntl
import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.ledger import BOB, ORIGIN, PQ_SIGNER, SIGNER, VKEY, Books, fill, open_books
from weir.checkpoint import COSIGNATURE_ED25519, Checkpoint, new_signer, parse, verify, verify_signature
from weir.errors import InvalidRequest, UnknownName, VerificationError
from weir.receipts import verify_receipt
from weir.witness import judge
from weir_server import log
from weir_server.audit import checkpoint
from weir_server.fsck import fsck
from weir_server.log import tiles
from weir_server.log.background import http_post, keep_exported
from weir_server.log.cosign import HttpReply, newest_cosigned, submit
from weir_server.log.receipts import Receipts
from weir_server.log.serve import TileServer
from weir_server.log.tiles import export_tiles

WITNESS = new_signer("witness.test/w", seed=bytes(32), kind=COSIGNATURE_ED25519)
WVKEY = WITNESS.verifier.vkey


class Witness:
    """A witness in memory, asked as over HTTP."""

    def __init__(self) -> None:
        self.latest: dict[str, Checkpoint] = {}

    def __call__(self, body: str) -> HttpReply:
        reply = judge(body, logs={ORIGIN: [VKEY]}, latest=self.latest, signer=WITNESS, time=1_800_000_000)
        if reply.latest is not None:
            self.latest[ORIGIN] = reply.latest
        return HttpReply(reply.status, reply.content_type, reply.body)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    opened = open_books(tmp_path, signers=(SIGNER, PQ_SIGNER))
    fill(opened)
    yield opened
    opened.store.close()


@pytest.fixture
def served(books: Books, tmp_path: Path) -> Iterator[TileServer]:
    export_tiles(books.store, tmp_path / "log")
    server = TileServer(tmp_path / "log", host="127.0.0.1", port=0)
    yield server
    server.close()


def get(server: TileServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=False)
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_the_exported_log_is_served_as_it_is_on_disk(served: TileServer, tmp_path: Path) -> None:
    status, note = get(served, "/checkpoint")
    size = verify(note.decode(), VKEY).size
    assert status == 200
    assert size > 10
    for path in (f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}"):
        assert get(served, f"/{path}") == (200, (tmp_path / "log" / path).read_bytes())
    assert get(served, "/checkpoint", "HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/tile/0/../../../ledger.db", "/../ledger.db", "//etc/passwd", "/tile/0/%2e%2e/000", "/tile/0/000.p/0",
        "/tile/entries", "/checkpoint/..", "/tile/0/x000", "/checkpoint?a", "/tile/9/000", "/" + "x000/" * 100 + "000",
    ],
)  # fmt: skip
def test_no_other_path_exists(served: TileServer, path: str) -> None:
    assert get(served, path)[0] == 404


def test_nothing_can_be_written(served: TileServer) -> None:
    assert get(served, "/checkpoint", "PUT")[0] == 501


def test_only_loopback_addresses_serve_the_log(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.test"):
        with pytest.raises(InvalidRequest, match="loopback"):
            TileServer(tmp_path, host=host, port=0)


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")
def test_an_address_of_ipv6_is_one(tmp_path: Path) -> None:
    """Mutant: the brackets that settings have are taken for a name."""
    server = TileServer(tmp_path, host="[::1]", port=0)
    with socket.create_connection(("::1", server.port), timeout=10):
        pass
    server.close()


def test_the_export_stays_less_than_a_second_behind_the_log(books: Books, tmp_path: Path) -> None:
    async def story() -> None:
        task = asyncio.create_task(keep_exported(books.store, tmp_path / "log"))
        for _ in range(3):
            posted = await asyncio.to_thread(books.answer, {"queries": 1}, subject=BOB)
            await asyncio.sleep(0.95)
            note = (tmp_path / "log" / "checkpoint").read_text("utf-8")
            assert verify(note, VKEY).size > posted.leaf_index
        task.cancel()

    asyncio.run(story())


def test_an_export_waits_for_another_one_and_not_for_ever(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: two write the same files; or whoever exports next waits for a process that was stopped."""
    monkeypatch.setattr(tiles, "_WAIT_SECONDS", 0.2)
    with (tmp_path / ".log.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            export_tiles(books.store, tmp_path / "log")
    assert export_tiles(books.store, tmp_path / "log") > 0


def test_partial_tiles_go_once_the_full_tile_stands(books: Books, tmp_path: Path) -> None:
    export_tiles(books.store, tmp_path / "log")
    for _ in range(140):
        books.answer({"queries": 1}, subject=BOB)
    size = export_tiles(books.store, tmp_path / "log")
    assert size > 256
    entries = tmp_path / "log" / "tile" / "entries"
    assert sorted(path.name for path in entries.iterdir()) == ["000", "001.p"]
    assert fsck(tmp_path).ok
    (entries / "000").write_bytes(b"x" + (entries / "000").read_bytes()[1:])
    assert [item.rule for item in fsck(tmp_path).findings] == ["fsck.files"]


def test_a_witness_cosigns_the_newest_checkpoint_and_it_is_served_with_it(books: Books, tmp_path: Path) -> None:
    witness = Witness()
    size = asyncio.run(submit(books.store, witness=WVKEY, post=witness, known=0))
    newest = books.store.read(log.latest_checkpoint)
    assert newest is not None
    assert newest[0] == size
    assert verify_signature(parse(newest[1])[1], WITNESS.verifier) == 1_800_000_000
    assert verify(newest[1], f"{VKEY} {PQ_SIGNER.verifier.vkey}").size == size
    export_tiles(books.store, tmp_path / "log")
    assert (tmp_path / "log" / "checkpoint").read_text("utf-8") == newest[1]
    # It does not know how far the witness is after a restart, and asks.
    books.answer({"queries": 1})
    assert asyncio.run(submit(books.store, witness=WVKEY, post=witness, known=0)) > size
    books.answer({"queries": 1})
    export_tiles(books.store, tmp_path / "log")
    cosigned = (tmp_path / "log" / "cosigned").read_text("utf-8")
    assert verify_signature(parse(cosigned)[1], WITNESS.verifier)
    assert fsck(tmp_path).ok


def test_the_first_cosigned_checkpoint_of_a_size_or_more_is_served(books: Books) -> None:
    witness, sizes = Witness(), [0]
    for _ in range(2):
        books.answer({"queries": 1})
        sizes.append(asyncio.run(submit(books.store, witness=WVKEY, post=witness, known=sizes[-1])))
        books.answer({"queries": 1})  # a checkpoint that nobody cosigned
    for asked, found in ((1, sizes[1]), (sizes[1], sizes[1]), (sizes[1] + 1, sizes[2])):
        reply = books.store.read(partial(checkpoint, known_size=1, cosigned_from=asked))
        head, note = parse(reply.checkpoint)
        assert head.size == found
        assert verify_signature(note, WITNESS.verifier) == 1_800_000_000
        assert reply.consistency.new_size == found
    with pytest.raises(UnknownName, match="no witness has cosigned"):
        books.store.read(partial(checkpoint, known_size=0, cosigned_from=sizes[2] + 1))


def test_a_cosignature_never_changes_a_receipt(books: Books) -> None:
    posted = books.answer({"queries": 1})
    receipts = Receipts((SIGNER, PQ_SIGNER))
    before = books.store.read(lambda tx: receipts.of(tx, posted.leaf_index))
    asyncio.run(submit(books.store, witness=WVKEY, post=Witness(), known=0))
    after = books.store.read(lambda tx: receipts.of(tx, posted.leaf_index))
    assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    verify_receipt(after, vkey=f"{VKEY} {PQ_SIGNER.verifier.vkey}", commitments={})
    assert after.cose_receipt


@pytest.mark.parametrize("reply", ["", "— witness.test/w AAAAAAAA\n", "— other.test/w AAAAAAAAAAAA\n", "garbage"])
def test_a_reply_that_does_not_verify_is_not_stored(books: Books, reply: str) -> None:
    with pytest.raises(VerificationError):
        asyncio.run(submit(books.store, witness=WVKEY, post=lambda body: HttpReply(200, "text/plain", reply), known=0))
    assert books.store.read(newest_cosigned) is None


def test_a_witness_that_knows_a_longer_log_reports_a_rollback(books: Books) -> None:
    witness = Witness()
    witness.latest[ORIGIN] = Checkpoint(ORIGIN, 10**6, os.urandom(32))
    with pytest.raises(VerificationError, match="longer log"):
        asyncio.run(submit(books.store, witness=WVKEY, post=witness, known=0))


def test_fsck_finds_a_cosignature_of_nothing(books: Books, tmp_path: Path) -> None:
    books.store.write_sync(
        lambda tx: tx.execute("INSERT INTO log_cosignatures VALUES (?, ?, ?)", (3000, "w", "— w AAAAAAAA\n"))
    )
    assert [item.rule for item in fsck(tmp_path).findings] == ["fsck.cosignature"]


def test_a_witness_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        http_post("http://127.0.0.1:9")("old 0\n\n")
