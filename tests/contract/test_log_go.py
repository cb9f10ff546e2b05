# SPDX-License-Identifier: Apache-2.0
"""Go's own `sumdb` libraries, which share nothing with Weir, accept the log as it is exported and served."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import BOB, PQ_SIGNER, SIGNER, VKEY, fill, open_books
from weir.checkpoint import new_signer
from weir_server.log.serve import TileServer
from weir_server.log.tiles import export_tiles

PROGRAM = Path(__file__).parents[1] / "support" / "go" / "verify_log.go"
LIBRARY = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built against Debian's golang-golang-x-mod-dev."""
    go = shutil.which("go")
    if go is None or not LIBRARY.is_dir():
        message = "needs Debian's golang-go and golang-golang-x-mod-dev"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    directory = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(directory / "cache"), "CGO_ENABLED": "0",
    }  # fmt: skip
    built = directory / "verify_log"
    subprocess.run([go, "build", "-o", str(built), str(PROGRAM)], check=True, env=environment, timeout=300)
    return built


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[TileServer, int, Path]]:
    """A log of more than one full tile, served, with its size."""
    books = open_books(tmp_path, signers=(SIGNER, PQ_SIGNER))
    fill(books)
    for _ in range(130):
        books.answer({"queries": 1}, subject=BOB)
    size = export_tiles(books.store, tmp_path / "log")
    books.store.close()
    server = TileServer(tmp_path / "log", host="127.0.0.1", port=0)
    yield server, size, tmp_path / "log"
    server.close()


def run(verifier: Path, vkey: str, server: TileServer) -> subprocess.CompletedProcess[str]:
    command = [str(verifier), vkey, f"http://127.0.0.1:{server.port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"NO_PROXY": "*"})


def test_go_verifies_checkpoint_tiles_and_every_entry(verifier: Path, served: tuple[TileServer, int, Path]) -> None:
    server, size, _ = served
    done = run(verifier, VKEY, server)
    assert (done.returncode, done.stdout.strip()) == (0, str(size)), done.stderr
    assert size > 256


def test_go_refuses_another_key(verifier: Path, served: tuple[TileServer, int, Path]) -> None:
    other = new_signer(SIGNER.name, seed=bytes(32)).verifier.vkey
    assert run(verifier, other, served[0]).returncode != 0


@pytest.mark.parametrize("path", ["tile/entries/000", "tile/0/000", "checkpoint"])
def test_go_refuses_a_flipped_byte(verifier: Path, served: tuple[TileServer, int, Path], path: str) -> None:
    server, _, directory = served
    content = bytearray((directory / path).read_bytes())
    content[30] ^= 1
    (directory / path).write_bytes(content)
    assert run(verifier, VKEY, server).returncode != 0
