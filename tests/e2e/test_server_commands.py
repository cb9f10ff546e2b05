# SPDX-License-Identifier: Apache-2.0
"""The server's commands as an operator types them, each in a process of its own."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.sample import write_sources
from tests.support.server import make_domain, start_server
from tests.support.wire import call
from weir.v1 import catalogue_service_pb2


def weir(*arguments: object, code: int = 0) -> str:
    """Standard output of `weir …`, which must end with `code`."""
    command = [sys.executable, "-m", "weir_client.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout if code == 0 else done.stdout + done.stderr


def weir_json(*arguments: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(weir(*arguments, "--json"))
    return result


def test_init_and_identity_make_files_that_a_client_accepts(tmp_path: Path) -> None:
    from weir_client._identity import load_identity

    made = weir_json("init", tmp_path / "data", "--domain", "shell.weir")
    assert made["log_key"].startswith("weir/shell.weir+")
    path = tmp_path / "alice.weir"
    issued = weir_json(
        "identity", "--data", tmp_path / "data", "--role", "requester", "--name", "alice", "-o", path,
        "--address", "127.0.0.1:1",
    )  # fmt: skip
    assert issued["file"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    identity = load_identity(path)
    assert identity.uri == "weir://shell.weir/requester/alice"
    assert identity.log_key == made["log_key"]


def test_init_refuses_a_directory_that_holds_a_domain(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    assert "already holds a domain" in weir("init", data_dir, code=2)


@pytest.mark.slow
def test_publish_works_without_a_server_and_through_one(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    clinic, spending = write_sources(tmp_path / "sources")
    first = weir_json("publish", clinic, "--data", data_dir)
    assert (first["dataset"], first["snapshot"]) == ("clinic", 1)
    assert first["report"]["rows"] == 601
    server = start_server(data_dir)
    try:
        # The lock is the server's now.
        weir("publish", spending, "--data", data_dir, code=1)
        olga = server.identity("operator", "olga")
        through = ("--server", server.admin, "--identity", olga)
        again = weir_json("publish", clinic, "--data", data_dir, *through)
        other = weir_json("publish", spending, "--data", data_dir, *through)
        assert (again["snapshot"], other["snapshot"]) == (2, 1)
        alice = server.channel(server.identity("requester", "alice"))
        listed = call(
            alice, "/weir.v1.CatalogueService/ListDatasets", catalogue_service_pb2.ListDatasetsRequest()
        ).datasets
        assert [(item.name, [s.version for s in item.snapshots]) for item in listed] == [
            ("clinic", [2, 1]),
            ("spending", [1]),
        ]
        broken = tmp_path / "broken.csv"
        broken.write_text("no table of anything", encoding="utf-8")
        alice_file = server.identity("requester", "alice")
        for address, identity, code in (
            (server.admin, alice_file, 1), (server.public, olga, 5), ("127.0.0.1:1", olga, 5)
        ):  # fmt: skip
            refused = weir("publish", spending, "--data", data_dir, "--source", broken, "--server", address,
                           "--identity", identity, code=code)  # fmt: skip
            assert address in refused
            assert "admin address" in refused, "before anything is read"
        assert weir_json("publish", spending, "--data", data_dir, *through)["snapshot"] == 2
    finally:
        assert server.stop() == 0
    assert weir_json("fsck", "--data", data_dir)["ok"] is True


def test_doctor_passes_a_sound_directory_and_names_what_fails(tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    checks = weir_json("doctor", "--data", data_dir)["checks"]
    assert [check["name"] for check in checks if not check["passed"]] == []
    (data_dir / "secrets" / "ca.key").chmod(0o644)
    assert "chmod go-rwx" in weir("doctor", "--data", data_dir, code=1)
