# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import weir_client
from tests.support.client import FakeDomain, fake_domain, identity_file
from weir_client import cli


@pytest.fixture
def domain() -> Iterator[FakeDomain]:
    with fake_domain() as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def client(domain: FakeDomain, tmp_path: Path, state: Path) -> Iterator[weir_client.Client]:
    identity = identity_file(domain, tmp_path)
    with weir_client.connect(identity=identity, timeout=20, state_dir=state) as connected:
        yield connected


@pytest.fixture
def weir(
    domain: FakeDomain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line as alice; gives exit code, standard output and standard error."""
    monkeypatch.setenv("WEIR_SERVER", domain.address)
    monkeypatch.setenv("WEIR_IDENTITY", str(identity_file(domain, tmp_path)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("WEIR_KEY_PASSPHRASE", raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        code = cli.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def keypair() -> weir_client.KeyPair:
    return weir_client.generate_keypair(2048)
