# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import pytest

import weir_client
from tests.support.client import FakeDomain, fake_domain, identity_file


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


@pytest.fixture(scope="session")
def keypair() -> weir_client.KeyPair:
    return weir_client.generate_keypair(2048)
