# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from weir.checkpoint import ED25519, MLDSA44, parse_vkey
from weir.errors import InvalidRequest, Unavailable
from weir.receipts import verify_receipt
from weir_server import log
from weir_server.books import open_books
from weir_server.console.open import hosts_of
from weir_server.fsck import fsck
from weir_server.identity import pki
from weir_server.log.receipts import Receipts

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    pki.init_domain(directory, domain="test.weir", hosts=["db.internal", "10.0.0.7"], now=NOW)
    return directory


def _certificate(text: object) -> x509.Certificate:
    return x509.load_pem_x509_certificate(str(text).encode())


def test_every_secret_is_closed_to_other_users(data_dir: Path) -> None:
    secrets = data_dir / pki.SECRETS
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert len(list(secrets.iterdir())) == 6


def test_a_domain_is_never_overwritten(data_dir: Path) -> None:
    before = {path: path.read_bytes() for path in (data_dir / pki.SECRETS).iterdir()}
    with pytest.raises(InvalidRequest) as caught:
        pki.init_domain(data_dir, domain="other.weir", hosts=[], now=NOW)
    assert caught.value.rule == "domain.exists"
    assert {path: path.read_bytes() for path in (data_dir / pki.SECRETS).iterdir()} == before


def test_a_server_reads_back_what_init_wrote(data_dir: Path) -> None:
    domain = pki.load_domain(data_dir)
    assert domain.name == "test.weir"
    assert len(domain.salt) == 32
    assert [signer.verifier.vkey for signer in domain.log_signers] == pki.log_key(data_dir).split()
    keys = [parse_vkey(key) for key in pki.log_key(data_dir).split()]
    assert [(key.name, key.kind) for key in keys] == [("weir/test.weir", ED25519), ("weir/test.weir", MLDSA44)]


def test_two_domains_share_no_secret(data_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    pki.init_domain(other, domain="test.weir", hosts=[], now=NOW)
    for name in ("ca.key", "server.key", "log.key", "publication.salt"):
        assert (data_dir / "secrets" / name).read_bytes() != (other / "secrets" / name).read_bytes()


def test_the_server_certificate_names_localhost_and_every_host(data_dir: Path) -> None:
    certificate = _certificate((data_dir / "secrets" / "server.crt").read_text())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "db.internal"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.7"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_authority_signs_certificates_and_nothing_below_it_does(data_dir: Path) -> None:
    authority = _certificate((data_dir / "secrets" / "ca.crt").read_text())
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    issued = pki.issue_identity(data_dir, role="requester", name="alice", now=NOW)
    leaf = _certificate(issued["certificate"])
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False
    leaf.verify_directly_issued_by(authority)


def test_an_identity_is_for_clients_only_and_short_lived(data_dir: Path) -> None:
    leaf = _certificate(pki.issue_identity(data_dir, role="auditor", name="ann", now=NOW)["certificate"])
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_after_utc == NOW + timedelta(days=30)
    assert leaf.not_valid_before_utc < NOW


def test_an_identity_file_holds_what_a_client_needs_and_no_other_secret(data_dir: Path) -> None:
    issued = pki.issue_identity(data_dir, role="requester", name="alice", now=NOW, address="db.internal:7443")
    assert set(issued) == {
        "weir_identity", "name", "role", "domain", "certificate", "private_key", "ca", "server_name", "log_key",
        "address",
    }  # fmt: skip
    assert issued["weir_identity"] == 1
    assert issued["log_key"] == pki.log_key(data_dir)
    assert (data_dir / "secrets" / "ca.key").read_text() not in str(issued)


def test_two_identities_of_one_name_have_different_keys(data_dir: Path) -> None:
    first, second = (pki.issue_identity(data_dir, role="requester", name="alice", now=NOW) for _ in range(2))
    assert first["private_key"] != second["private_key"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"role": "root"}, "identity.role", id="unknown role"),
        pytest.param({"name": "Alice"}, "identity.name", id="capital letters"),
        pytest.param({"name": "a/b"}, "identity.name", id="a slash would forge a role"),
        pytest.param({"name": ""}, "identity.name", id="no name"),
        pytest.param({"days": 0}, "identity.days", id="no validity"),
        pytest.param({"days": 10_000}, "identity.days", id="decades"),
    ],
)
def test_a_malformed_identity_is_not_issued(data_dir: Path, change: dict[str, object], rule: str) -> None:
    arguments: dict[str, object] = {"role": "requester", "name": "alice", "days": 1, **change}
    with pytest.raises(InvalidRequest) as caught:
        pki.issue_identity(data_dir, now=NOW, **arguments)  # type: ignore[arg-type]
    assert caught.value.rule == rule


@pytest.mark.parametrize("domain", ["", "UPPER", "with space", "-x", "a" * 64, "a/b"])
def test_a_malformed_domain_is_refused(tmp_path: Path, domain: str) -> None:
    with pytest.raises(InvalidRequest):
        pki.init_domain(tmp_path / "data", domain=domain, hosts=[], now=NOW)
    assert not (tmp_path / "data").exists()


def test_a_secret_that_others_can_read_stops_the_server(data_dir: Path) -> None:
    (data_dir / "secrets" / "log.key").chmod(0o644)
    with pytest.raises(Unavailable) as caught:
        pki.load_domain(data_dir)
    assert caught.value.field == "log.key"


def test_a_directory_without_a_domain_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="weir init"):
        pki.load_domain(tmp_path)


def test_a_domain_has_no_text_form_that_shows_its_keys(data_dir: Path) -> None:
    domain = pki.load_domain(data_dir)
    assert "PRIVATE" not in repr(domain)
    assert domain.salt.hex() not in repr(domain)


def test_a_renewed_server_certificate_keeps_its_names_and_nothing_else(data_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in (data_dir / "secrets").iterdir()}
    pki.renew_server(data_dir, now=NOW + timedelta(days=800))
    after = {path.name: path.read_bytes() for path in (data_dir / "secrets").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"server.key", "server.crt"}
    old, new = (_certificate(files["server.crt"].decode()) for files in (before, after))
    kind = x509.SubjectAlternativeName
    assert old.extensions.get_extension_for_class(kind) == new.extensions.get_extension_for_class(kind)
    assert new.not_valid_after_utc > old.not_valid_after_utc
    new.verify_directly_issued_by(_certificate(after["ca.crt"].decode()))
    pki.check_permissions(data_dir)


def test_a_domain_with_one_log_key_goes_on_as_it_is(data_dir: Path) -> None:
    """Directories made before the log had two keys."""
    first = pki.load_domain(data_dir).log_signers[0]
    (data_dir / pki.SECRETS / "log.key").write_text(first.skey + "\n", encoding="ascii")
    described = json.loads((data_dir / pki.DOMAIN_FILE).read_text(encoding="utf-8"))
    (data_dir / pki.DOMAIN_FILE).write_text(json.dumps({**described, "log_key": first.verifier.vkey}), encoding="utf-8")
    domain = pki.load_domain(data_dir)
    store = open_books(data_dir, domain)
    try:
        appended = store.write_sync(lambda tx: log.append(tx, "weir.test", {}, now=NOW, entropy=os.urandom))
        message = store.read(lambda tx: Receipts(domain.log_signers).of(tx, appended.leaf_index))
    finally:
        store.close()
    assert verify_receipt(message, vkey=pki.log_key(data_dir), commitments={}).index == appended.leaf_index
    assert fsck(data_dir / "ledger", vkey=pki.log_key(data_dir)).ok


@pytest.mark.parametrize(
    "host", ["not a host!", "", "db..internal", "-db", "db.internal:7443", "[::1]", "https://db", "x" * 64, "é.example"]
)
def test_a_host_that_no_client_would_match_is_refused_and_nothing_is_made(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        pki.init_domain(tmp_path / "data", domain="test.weir", hosts=[host], now=NOW)
    assert caught.value.rule == "domain.host"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["db", "db_1.internal", "*.example.org", "10.0.0.7", "::1", "xn--bcher-kva.example"])
def test_hosts_are_dns_names_and_addresses(tmp_path: Path, host: str) -> None:
    pki.init_domain(tmp_path / "data", domain="test.weir", hosts=[host], now=NOW)
    assert host in hosts_of(pki.load_domain(tmp_path / "data").server_certificate)


def test_a_renewed_certificate_may_hold_further_names_and_loses_none(data_dir: Path) -> None:
    before = hosts_of(pki.load_domain(data_dir).server_certificate)
    pki.renew_server(data_dir, now=NOW, hosts=["new.example", "db.internal", "10.0.0.8"])
    after = hosts_of(pki.load_domain(data_dir).server_certificate)
    assert after == before | {"new.example", "10.0.0.8"}
    with pytest.raises(InvalidRequest):
        pki.renew_server(data_dir, now=NOW, hosts=["not a host!"])
    assert hosts_of(pki.load_domain(data_dir).server_certificate) == after


@pytest.mark.parametrize("name", pki.NEEDED)
def test_a_secret_that_is_missing_is_named_and_no_new_domain_advised(data_dir: Path, name: str) -> None:
    """Attack: none is needed. Who follows `run weir init` with a lost log key makes a log that looks forged."""
    (data_dir / "secrets" / name).unlink()
    with pytest.raises(Unavailable, match=f"secrets/{name} of the domain is missing: put it back") as caught:
        pki.load_domain(data_dir)
    assert (caught.value.rule, caught.value.field) == ("domain.incomplete", name)
    assert "init" not in caught.value.message


@pytest.mark.parametrize("content", ["", "\n", "nonsense\n", "\xff"])
def test_a_log_key_that_is_none_is_named(data_dir: Path, content: str) -> None:
    (data_dir / "secrets" / "log.key").write_text(content, encoding="latin-1")
    with pytest.raises(Unavailable, match=r"secrets/log\.key of the domain holds no key"):
        pki.load_domain(data_dir)


def test_half_a_domain_is_not_taken_for_none(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "domain.json").rename(tmp_path / "domain.json")
    with pytest.raises(Unavailable, match=r"domain\.json is missing or damaged: put it back"):
        pki.load_domain(data_dir)
    with pytest.raises(InvalidRequest, match=r"but no domain\.json: put that back"):
        pki.init_domain(data_dir, domain="test.weir", hosts=[], now=NOW)
    (tmp_path / "domain.json").rename(data_dir / "domain.json")
    shutil.rmtree(data_dir / "secrets")
    with pytest.raises(Unavailable, match="secrets/ of the domain is missing: put it back"):
        pki.load_domain(data_dir)
