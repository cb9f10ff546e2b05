# SPDX-License-Identifier: Apache-2.0
"""The log as outsiders see it, through a real server: receipts, tiles, witness, bill, trace."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import weir_client
from tests.support.sample import running_sample
from tests.support.server import RunningServer
from weir import errors
from weir.checkpoint import Signer, parse, parse_vkey, verify, verify_signature
from weir_client._witness import Witness, open_key, witness_server
from weir_server.fsck import fsck
from weir_server.identity import pki

SQL = "SELECT region, COUNT(*) AS n FROM clinic GROUP BY region"


class Watched:
    """A witness that learns its log later, since the log's key is made with the server."""

    def __init__(self, directory: Path) -> None:
        self.signer: Signer = open_key(directory, name="witness.test/w", entropy=lambda n: bytes(n))
        self.logs: dict[str, list[str]] = {}
        witness = Witness(directory, logs=self.logs, signer=self.signer, clock=lambda: int(time.time()))
        self.server = witness_server(witness, host="127.0.0.1", port=0)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("witness"))
    yield watched
    watched.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, witness: Watched) -> Iterator[RunningServer]:
    settings = (
        '[listen]\nlog = "127.0.0.1:0"\n'
        f'[witness]\nurl = "http://127.0.0.1:{witness.server.server_address[1]}"\n'
        f'key = "{witness.signer.verifier.vkey}"\ninterval_seconds = 1\n'
    )
    with running_sample(tmp_path_factory.mktemp("server"), settings=settings) as running:
        key = pki.log_key(running.data_dir)
        witness.logs[parse_vkey(key.split()[0]).name] = key.split()[:1]
        yield running


@pytest.fixture(scope="module")
def answered(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A folder with the receipts of an answer and a refusal, and the answer's counts."""
    folder, state = tmp_path_factory.mktemp("receipts"), tmp_path_factory.mktemp("state")
    with weir_client.connect(server.public, identity=server.identity("requester", "alice"), state_dir=state) as client:
        answer = client.query(SQL, contract="c-visits", mode="exact").result()
        assert answer.receipt.message.cose_receipt
        assert answer.verify().checkpoint.size > answer.receipt.index
        with pytest.raises(errors.WeirError) as caught:
            client.query(SQL, contract="c-none", mode="exact").result()
        assert caught.value.receipt is not None
        assert caught.value.receipt.cose_receipt
        listed = {receipt.index: receipt for receipt in client.receipts()}
        again = listed[int(caught.value.receipt.leaf_index)].message
        assert again.SerializeToString(deterministic=True) == caught.value.receipt.SerializeToString(deterministic=True)
        answer.receipt.save(folder / "answer.json")
        listed[int(caught.value.receipt.leaf_index)].save(folder / "refusal.json")
        return folder, [int(row[-1]) for row in answer.rows()]


def fetch(server: RunningServer, path: str) -> bytes:
    address = json.loads((server.data_dir.parent / "ready.json").read_text(encoding="utf-8"))["log"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/{path}", timeout=10) as reply:
        return bytes(reply.read())


def weir(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weir_client.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_log_is_served_signed_with_both_keys_and_cosigned(
    server: RunningServer, witness: Watched, answered: tuple[Path, list[int]]
) -> None:
    key, deadline = pki.log_key(server.data_dir), time.monotonic() + 15
    assert len(key.split()) == 2
    while True:
        note = fetch(server, "checkpoint").decode()
        head = verify(note, key)
        if len(parse(note)[1].signatures) == 3 or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert verify_signature(parse(note)[1], witness.signer.verifier) > 0
    assert fetch(server, f"tile/entries/000.p/{head.size}")
    assert verify(fetch(server, "cosigned").decode(), key).size == head.size


def test_files_alone_prove_receipts_and_give_the_bill(server: RunningServer, answered: tuple[Path, list[int]]) -> None:
    folder, _ = answered
    time.sleep(1.0)
    log, key = server.data_dir / "log", server.data_dir / "key"
    key.write_text(pki.log_key(server.data_dir), encoding="utf-8")
    done = weir("audit", "verify", "--log", log, "--log-key", key, folder)
    assert done.returncode == 0, done.stderr
    assert "weir.query.released" in done.stdout
    assert "weir.query.refused" in done.stdout
    offline = weir("audit", "statement", "--log", log, "--log-key", key, "--json")
    assert offline.returncode == 0, offline.stderr
    auditor = server.identity("auditor", "anna")
    online = weir("audit", "statement", "--json", "--server", server.public, "--identity", auditor)
    assert online.returncode == 0, online.stderr
    assert json.loads(online.stdout) == json.loads(offline.stdout)
    lines = json.loads(online.stdout)
    assert len(lines) == 1, online.stdout
    (line,) = lines
    assert (line["requester"], line["mode"], line["currency"], line["answers"]) == ("alice", "exact", "CNY", 1)


def test_numbers_seen_outside_lead_to_who_received_them(
    server: RunningServer, answered: tuple[Path, list[int]]
) -> None:
    done = weir("audit", "trace", "--data", server.data_dir, "--json", "--at-least", 2, *answered[1])
    assert done.returncode == 0, done.stderr
    matches = json.loads(done.stdout)["matches"]
    assert [(item["requester"], item["dataset"]) for item in matches] == [("alice", "clinic")]


def test_fsck_agrees_while_the_server_exports(server: RunningServer, answered: tuple[Path, list[int]]) -> None:
    data_dir = server.data_dir
    report = fsck(data_dir / "ledger", vkey=pki.log_key(data_dir), files=data_dir / "log")
    assert report.ok, report.findings
