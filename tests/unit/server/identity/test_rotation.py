# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from tests.support.server import make_domain
from weir.errors import Unavailable
from weir_server.identity import pki
from weir_server.identity.rotation import Shown, read_shown, watch_certificates
from weir_server.identity.watched import Watched

NOW = datetime.now(UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return make_domain(tmp_path, now=NOW)


@pytest.fixture
def watched(data_dir: Path) -> Watched[Shown]:
    return watch_certificates(data_dir, now=lambda: NOW)


def secret(data_dir: Path, name: str) -> Path:
    return data_dir / pki.SECRETS / name


def test_what_was_renewed_is_shown_from_then_on(data_dir: Path, watched: Watched[Shown]) -> None:
    before = watched.get()
    pki.renew_server(data_dir, now=NOW, days=7)
    after = watched.get()
    assert after.certificate == secret(data_dir, "server.crt").read_bytes() != before.certificate
    assert after.key == secret(data_dir, "server.key").read_bytes() != before.key
    assert after.not_after == (NOW + timedelta(days=7)).replace(microsecond=0)


def test_half_a_renewal_is_never_shown(data_dir: Path, watched: Watched[Shown], tmp_path: Path) -> None:
    before = watched.get()
    old_certificate = secret(data_dir, "server.crt").read_bytes()
    pki.renew_server(data_dir, now=NOW)
    new_certificate = secret(data_dir, "server.crt").read_bytes()
    secret(data_dir, "server.crt").write_bytes(old_certificate)
    assert watched.get() == before
    secret(data_dir, "server.crt").write_bytes(new_certificate)
    assert watched.get().certificate == new_certificate


def _of_another_domain(data_dir: Path) -> None:
    other = make_domain(data_dir.parent / "other", now=NOW)
    for name in ("server.key", "server.crt"):
        shutil.copy(secret(other, name), secret(data_dir, name))


def _key_of_another_kind(data_dir: Path) -> None:
    pem = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret(data_dir, "server.key").write_bytes(pem)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_of_another_domain, id="a pair of another authority"),
        pytest.param(_key_of_another_kind, id="a key of another kind"),
        pytest.param(lambda d: secret(d, "server.key").write_bytes(b""), id="an empty key"),
        pytest.param(lambda d: secret(d, "server.crt").write_bytes(b"-----BEGIN"), id="a torn certificate"),
        pytest.param(lambda d: secret(d, "ca.crt").write_bytes(b"x"), id="no authority"),
        pytest.param(lambda d: secret(d, "server.crt").unlink(), id="no certificate"),
        pytest.param(lambda d: pki.renew_server(d, now=NOW - timedelta(days=9), days=1), id="one that has ended"),
        pytest.param(lambda d: pki.renew_server(d, now=NOW + timedelta(days=9)), id="one that has not begun"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_the_start_and_passed_over_later(
    data_dir: Path, watched: Watched[Shown], spoil: object
) -> None:
    before = watched.get()
    spoil(data_dir)  # type: ignore[operator]
    with pytest.raises(Unavailable) as caught:
        read_shown(data_dir, now=NOW)
    assert caught.value.rule == "domain.certificates"
    assert watched.get() == before


def test_a_second_authority_may_take_over_from_the_first(data_dir: Path, watched: Watched[Shown]) -> None:
    other = make_domain(data_dir.parent / "other", now=NOW)
    both = secret(other, "ca.crt").read_bytes() + secret(data_dir, "ca.crt").read_bytes()
    secret(data_dir, "ca.crt").write_bytes(both)
    assert watched.get().authorities == both
    for name in ("server.key", "server.crt"):
        shutil.copy(secret(other, name), secret(data_dir, name))
    assert watched.get().certificate == secret(other, "server.crt").read_bytes()
