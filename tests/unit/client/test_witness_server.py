# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from weir.checkpoint import Checkpoint, new_signer, parse, parse_vkey, sign, verify_signature
from weir.errors import InvalidRequest
from weir.merkle import leaf_hash, node_hash
from weir.witness import Submission, format_submission
from weir_client._witness import KEY_FILE, STATE_FILE, Witness, open_key, witness_server

LOG = new_signer("log.test/l", seed=bytes(32))
A, B = leaf_hash(b"a"), leaf_hash(b"b")
ONE = sign(Checkpoint(LOG.name, 1, A), LOG)
TWO = sign(Checkpoint(LOG.name, 2, node_hash(A, B)), LOG)
FORK = sign(Checkpoint(LOG.name, 2, node_hash(B, A)), LOG)
GROWN = format_submission(Submission(1, (B,), TWO))


def opened(directory: Path) -> Witness:
    signer = open_key(directory, name="witness.test/w", entropy=os.urandom)
    return Witness(directory, logs={LOG.name: [LOG.verifier.vkey]}, signer=signer, clock=lambda: 1_800_000_000)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    server = witness_server(opened(tmp_path), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join()


def post(port: int, body: bytes, path: str = "/add-checkpoint", method: str = "POST") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_a_witness_cosigns_what_grows_and_refuses_what_forks(port: int, tmp_path: Path) -> None:
    key = open_key(tmp_path, name="witness.test/w", entropy=os.urandom).verifier
    status, line = post(port, format_submission(Submission(0, (), ONE)).encode())
    assert status == 200
    assert verify_signature(parse(ONE + line)[1], key) == 1_800_000_000
    assert post(port, format_submission(Submission(1, (B,), FORK)).encode())[0] == 422
    assert post(port, GROWN.encode())[0] == 200
    assert post(port, format_submission(Submission(0, (), ONE)).encode()) == (409, "2\n")


def test_a_witness_remembers_over_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert first.add_checkpoint(format_submission(Submission(0, (), ONE))).status == 200
    again = opened(tmp_path)
    assert again.add_checkpoint(format_submission(Submission(0, (), ONE))).status == 409
    assert again.add_checkpoint(GROWN).status == 200


def test_what_is_promised_is_on_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = opened(tmp_path)

    def fail(path: Path, text: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("weir_client._witness.write_file", fail)
    with pytest.raises(OSError, match="disk full"):
        witness.add_checkpoint(format_submission(Submission(0, (), ONE)))
    monkeypatch.undo()
    assert witness.add_checkpoint(format_submission(Submission(0, (), TWO))).status == 200


def test_a_witness_that_lost_its_memory_does_not_start(tmp_path: Path) -> None:
    opened(tmp_path).add_checkpoint(format_submission(Submission(0, (), ONE)))
    (tmp_path / STATE_FILE).write_text('{"log.test/l": {"size": 1}}', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="damaged"):
        opened(tmp_path)


def test_the_key_is_private_and_belongs_to_one_name(tmp_path: Path) -> None:
    opened(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidRequest, match="another witness"):
        open_key(tmp_path, name="other.test/w", entropy=os.urandom)


@pytest.mark.parametrize(
    ("body", "path", "method", "status"),
    [
        (b"x", "/add-checkpoint", "POST", 400),
        (b"\xff", "/add-checkpoint", "POST", 400),
        (b"x" * 300_000, "/add-checkpoint", "POST", 400),
        (b"", "/other", "POST", 404),
        (b"", "/add-checkpoint", "GET", 501),
    ],
)
def test_anything_else_is_refused(port: int, body: bytes, path: str, method: str, status: int) -> None:
    try:
        assert post(port, body, path, method)[0] == status
    except (BrokenPipeError, ConnectionResetError):
        assert len(body) > 256 * 1024  # Refused while it was still being sent.


def test_the_command_prints_its_key_and_serves(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "weir_client.cli",
        "audit",
        "witness",
        "--state",
        str(tmp_path),
        "--name",
        "w.test",
    ]
    process = subprocess.Popen(
        [*command, "--watch", LOG.verifier.vkey, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        key = parse_vkey(process.stdout.readline().split()[1])
        port = int(process.stdout.readline().rpartition(":")[2])
        status, line = post(port, format_submission(Submission(0, (), TWO)).encode())
        assert status == 200
        assert verify_signature(parse(TWO + line)[1], key) > 0
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()
