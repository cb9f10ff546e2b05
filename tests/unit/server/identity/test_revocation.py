# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.server import make_domain
from weir.errors import Unavailable
from weir_server.identity import pki, revocation
from weir_server.identity.revocation import FILE_NAME, Revoked, read_revoked, revoke, watch_revoked

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return make_domain(tmp_path, now=NOW)


def test_a_domain_begins_with_nothing_revoked(data_dir: Path) -> None:
    assert watch_revoked(data_dir).get() == frozenset()


def test_what_is_revoked_stays_so_and_keeps_its_time(data_dir: Path) -> None:
    watched = watch_revoked(data_dir)
    later = NOW + timedelta(hours=1)
    assert revoke(data_dir, [1, 2, 1], now=NOW) == [1, 2]
    assert watched.get() == {1, 2}
    assert revoke(data_dir, [2, 3], now=later) == [3]
    assert watched.get() == {1, 2, 3}
    assert read_revoked(data_dir) == {1: NOW, 2: NOW, 3: later}


def test_other_tools_verify_the_list(data_dir: Path) -> None:
    revoke(data_dir, [0xABC], now=NOW)
    done = subprocess.run(
        [
            "openssl",
            "crl",
            "-in",
            data_dir / FILE_NAME,
            "-CAfile",
            data_dir / pki.SECRETS / "ca.crt",
            "-noout",
            "-text",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "verify OK" in done.stderr
    assert "Serial Number: 0ABC" in done.stdout


def test_a_deleted_list_brings_nothing_back_while_the_server_runs(data_dir: Path) -> None:
    revoke(data_dir, [7], now=NOW)
    watched = watch_revoked(data_dir)
    assert watched.get() == {7}
    (data_dir / FILE_NAME).unlink()
    assert watched.get() == {7}


def test_a_list_that_began_while_the_server_ran_is_not_lost_by_deleting_it(data_dir: Path) -> None:
    watched = watch_revoked(data_dir)
    revoke(data_dir, [7], now=NOW)
    assert watched.get() == {7}
    (data_dir / FILE_NAME).unlink()
    assert watched.get() == {7}


def test_what_the_log_knows_is_revoked_with_a_list_and_without(data_dir: Path) -> None:
    watched = watch_revoked(data_dir, known=frozenset({5}))
    assert watched.get() == {5}
    revoke(data_dir, [7], now=NOW)
    assert watched.get() == {5, 7}
    assert watch_revoked(data_dir, known=frozenset({5})).get() == {5, 7}


def test_an_older_list_put_back_brings_nothing_back_while_the_server_runs(data_dir: Path) -> None:
    revoke(data_dir, [7], now=NOW)
    older = (data_dir / FILE_NAME).read_bytes()
    watched = watch_revoked(data_dir)
    revoke(data_dir, [8], now=NOW)
    assert watched.get() == {7, 8}
    (data_dir / FILE_NAME).unlink()
    (data_dir / FILE_NAME).write_bytes(older)
    assert watched.get() == {7, 8}


def _of_another_domain(data_dir: Path) -> bytes:
    other = make_domain(data_dir.parent / "other", now=NOW)
    revoke(other, [], now=NOW)
    return (other / FILE_NAME).read_bytes()


def _altered(data_dir: Path) -> bytes:
    der = bytearray(
        x509.load_pem_x509_crl((data_dir / FILE_NAME).read_bytes()).public_bytes(serialization.Encoding.DER)
    )
    at = bytes(der).index(b"\x02\x01\x07")
    der[at + 2] = 8
    return x509.load_der_x509_crl(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_of_another_domain, id="of another authority"),
        pytest.param(_altered, id="with another number in it"),
        pytest.param(lambda d: b"", id="empty"),
        pytest.param(lambda d: (d / FILE_NAME).read_bytes()[:100], id="torn"),
    ],
)
def test_a_list_that_cannot_be_trusted_stops_a_start_and_changes_nothing_later(data_dir: Path, content: object) -> None:
    revoke(data_dir, [7], now=NOW)
    watched = watch_revoked(data_dir)
    (data_dir / FILE_NAME).write_bytes(content(data_dir))  # type: ignore[operator]
    assert watched.get() == {7}
    with pytest.raises(Unavailable):
        watch_revoked(data_dir)
    with pytest.raises(Unavailable):
        revoke(data_dir, [9], now=NOW)


def test_revoking_needs_the_authority_and_checking_does_not(data_dir: Path) -> None:
    revoke(data_dir, [7], now=NOW)
    (data_dir / pki.SECRETS / "ca.key").unlink()
    assert revocation.watch_revoked(data_dir).get() == {7}
    with pytest.raises(Unavailable):
        revoke(data_dir, [8], now=NOW)


def test_what_other_machines_revoked_joins_what_this_one_did(data_dir: Path) -> None:
    """Mutant: a server that reads the log at its start alone would take certificates that another machine revoked."""
    revoked = Revoked(watch_revoked(data_dir))
    assert revoked() == frozenset()
    revoked.learn(frozenset({7}))
    assert revoked() == {7}
    revoke(data_dir, [1], now=NOW)
    assert revoked() == {1, 7}
    assert revoked() is revoked(), "joined once: every call asks"
    revoked.learn(frozenset({8}))
    revoked.learn(frozenset())
    assert revoked() == {1, 7, 8}, "nothing is forgotten"
