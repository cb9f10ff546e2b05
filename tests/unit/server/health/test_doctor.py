# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.server import make_domain
from tests.support.tokens import SETTINGS, Issuer
from weir_server import clock
from weir_server.catalog.remote_rows import RemoteRows, rows_to_json
from weir_server.engine.relational import statement
from weir_server.engine.spark import Cluster, open_spark
from weir_server.health.doctor import Check, diagnose
from weir_server.identity import identities, pki
from weir_server.publish.bounded import fingerprint_of_rows, rank_key

NOW = datetime.now(UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return make_domain(tmp_path, now=NOW)


def check(data_dir: Path, name: str) -> Check:
    return next(item for item in diagnose(data_dir) if item.name == name)


def test_a_fresh_domain_has_nothing_to_mend(data_dir: Path) -> None:
    assert [item.name for item in diagnose(data_dir) if not item.passed] == []


def test_a_server_certificate_that_ends_soon_is_named_with_the_command_that_renews_it(data_dir: Path) -> None:
    pki.renew_server(data_dir, now=NOW, days=29)
    found = check(data_dir, "certificates")
    assert not found.passed
    assert "ends in 28 days: weir init DATA --renew" in found.detail
    pki.renew_server(data_dir, now=NOW, days=60)
    assert check(data_dir, "certificates").passed


def test_a_certificate_that_is_not_its_keys_is_found_before_a_start_finds_it(data_dir: Path) -> None:
    (data_dir / pki.SECRETS / "server.key").write_bytes((data_dir / pki.SECRETS / "ca.key").read_bytes())
    found = check(data_dir, "certificates")
    assert (found.passed, "no pair" in found.detail) == (False, True)


def test_an_authority_that_ends_soon_is_found(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = NOW + timedelta(days=3650 - 100)
    pki.renew_server(data_dir, now=later)
    monkeypatch.setattr(clock, "now", lambda: later)
    found = check(data_dir, "certificates")
    assert (found.passed, "authority ends in" in found.detail) == (False, True)


def test_holders_whose_last_certificate_ends_soon_are_named_and_others_are_not(data_dir: Path) -> None:
    def issue(name: str, **lasting: int) -> None:
        identities.issue(data_dir, role="operator", name=name, now=NOW, **{"days": 30, **lasting})

    issue("olga", hours=10)
    issue("renewed", hours=10)
    issue("renewed")
    issue("gone", hours=10)
    identities.revoke(data_dir, "operator/gone", reason="left", now=NOW)
    found = check(data_dir, "identities")
    assert found.passed
    assert found.detail == ("2 holders on record, 1 certificates revoked; these end within 3 days: operator/olga")


def test_a_damaged_list_of_revoked_certificates_is_found(data_dir: Path) -> None:
    (data_dir / "revoked.crl").write_text("")
    assert not check(data_dir, "identities").passed


def test_the_file_of_token_keys_is_looked_at(data_dir: Path) -> None:
    assert check(data_dir, "tokens").detail == "no tokens are taken"
    (data_dir / "weir.toml").write_text(SETTINGS)
    assert not check(data_dir, "tokens").passed
    Issuer().write_jwks(data_dir / "jwks.json")
    assert check(data_dir, "tokens").detail == "tokens of https://idp.example for 2 requesters"


def test_rows_that_lie_on_a_cluster_need_one(data_dir: Path) -> None:
    assert check(data_dir, "cluster").passed
    snapshot = data_dir / "snapshots" / "visits" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "rows.json").write_bytes(rows_to_json(RemoteRows("spark", "nowhere", "0" * 64)))
    found = check(data_dir, "cluster")
    assert not found.passed
    assert "1 snapshots" in found.detail
    assert "spark.remote" in found.detail


def test_rows_on_a_cluster_are_held_against_their_fingerprint(data_dir: Path, sail: str, tmp_path: Path) -> None:
    cluster = Cluster(sail, str(tmp_path / "cluster"))
    (data_dir / "weir.toml").write_text(
        f'[spark]\nremote = "{sail}"\ndirectory = "{cluster.directory}"\n', encoding="utf-8"
    )
    key = rank_key(pki.load_domain(data_dir).salt, dataset="visits", version=1)
    engine = open_spark(cluster)
    engine.save("made", statement("SELECT 7 AS u, 0 AS r"), path=f"{cluster.directory}/rows")
    snapshot = data_dir / "snapshots" / "visits" / "1"
    snapshot.mkdir(parents=True)
    for name, passed in (("made", True), ("other", False)):
        engine.load("other", {"u": "INT", "r": "INT"}, [(8, 0)])
        named = RemoteRows("spark", f"{cluster.directory}/rows", fingerprint_of_rows(engine, name, key=key))
        (snapshot / "rows.json").write_bytes(rows_to_json(named))
        found = next(item for item in diagnose(data_dir, rows=True) if item.name == "cluster")
        assert (found.passed, "visits version 1" in found.detail) == (passed, not passed)
        assert check(data_dir, "cluster").passed
    engine.close()


@pytest.mark.parametrize(("address", "passed"), [("0.0.0.0:7447", False), ("127.0.0.1:7447", True)])
def test_an_address_that_serve_refuses_is_not_said_to_be_well(data_dir: Path, address: str, passed: bool) -> None:
    (data_dir / "weir.toml").write_text(f'[listen]\nlog = "{address}"\n')
    found = check(data_dir, "configuration")
    assert (found.passed, "listen.log" in found.detail) == (passed, not passed)


def test_a_lost_key_is_named(data_dir: Path) -> None:
    (data_dir / "secrets" / "log.key").unlink()
    found = check(data_dir, "certificates")
    assert (found.passed, found.detail.startswith("secrets/log.key of the domain is missing")) == (False, True)
