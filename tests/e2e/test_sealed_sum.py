# SPDX-License-Identifier: Apache-2.0
"""Two domains answer one question, sealed; a collector adds up, and only the key's holder reads the total."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sample import CONTRACTS, running_sample, visits_of
from tests.support.server import RunningServer
from weir_client import cli

SQL = "SELECT region, COUNT(*) AS persons, SUM(visits) AS visits FROM clinic GROUP BY region"
Weir = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    with running_sample(first) as one, running_sample(second) as two:
        yield one, two


@pytest.fixture
def weir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Weir:
    """Runs a command line; gives exit code, standard output and standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("WEIR_SERVER", "WEIR_IDENTITY", "WEIR_KEY_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        code = cli.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.slow
def test_sealed_tables_of_two_domains_add_up_and_open_for_the_key_s_holder_alone(
    domains: tuple[RunningServer, RunningServer], weir: Weir, tmp_path: Path
) -> None:
    key, public = tmp_path / "key.json", tmp_path / "public.json"
    assert weir("keys", "new", key, "--bits", 2048)[0] == 0
    code, out, _ = weir("keys", "public", key, "-o", public, "--json")
    assert code == 0
    key_id = json.loads(out)["key_id"]
    files, policy = [], tmp_path / "policy.yaml"
    policy.write_text("---\n".join([CONTRACTS[0] + "seal_to: [carol]\n", *CONTRACTS[1:]]), encoding="utf-8")
    for at, server in enumerate(domains):
        operator = ["--server", server.admin, "--identity", server.identity("operator", "olga")]
        assert weir("apply", policy, "--yes", *operator)[0] == 0
        assert weir("keys", "register", key, "--identity", server.identity("requester", "carol"))[0] == 0
        files.append(tmp_path / f"sealed-{at}.json")
        asked = ["sealed", "ask", SQL, "-c", "c-visits", "--to", key_id, "--max-addends", 2, "-o", files[-1]]
        code, out, err = weir(*asked, "--identity", server.identity("requester", "alice"))
        assert (code, err) == (0, "")
        assert "1 sealed table, 3 cells, persons, visits" in out
        assert str(tmp_path) not in files[-1].read_text(encoding="utf-8")
    total = tmp_path / "total.json"
    code, out, _ = weir("sealed", "add", *files, "--key", public, "-o", total)
    assert code == 0
    assert "2 sealed tables" in out
    code, out, _ = weir("sealed", "open", total, "--key", key, "--json")
    assert code == 0
    # Oracle: both domains hold the same made-up persons; the canary counts for 1 and 20 (clipped) in the north.
    visits = [sum(visits_of(i) for i in range(600) if i % 3 == cell) + 20 * (cell == 0) for cell in range(3)]
    expected = [
        [region, 2 * persons, 2 * each]
        for region, persons, each in zip(("north", "south", "east"), (201, 200, 200), visits, strict=True)
    ]
    assert json.loads(out)["rows"] == expected
    assert "north" in weir("sealed", "open", total, "--key", key)[1]
    # A third table does not fit the slots, a file is never overwritten, and another key opens nothing.
    assert weir("sealed", "add", total, files[0], "--key", public, "-o", tmp_path / "more.json")[0] == 2
    assert weir("sealed", "add", *files, "--key", public, "-o", total)[0] == 2
    other = tmp_path / "other.json"
    assert weir("keys", "new", other, "--bits", 2048)[0] == 0
    assert weir("sealed", "open", total, "--key", other)[0] == 2
