# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import make_domain
from weir.errors import InvalidRequest, Unavailable, UnknownName
from weir_server.identity import identities, pki, revocation
from weir_server.identity.holder import Certificate, read_certificate
from weir_server.identity.revocation import watch_revoked
from weir_server.identity.rotation import read_shown

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return make_domain(tmp_path, now=NOW)


def issue(data_dir: Path, role: str = "requester", name: str = "alice", **given: Any) -> dict[str, Any]:
    return identities.issue(data_dir, role=role, name=name, **{"now": NOW, "days": 7, **given})


def certificate(identity: dict[str, Any]) -> Certificate:
    return read_certificate(identity["certificate"].encode())


def test_what_is_issued_stands_in_the_record_and_the_record_holds_no_secret(data_dir: Path) -> None:
    issued = issue(data_dir)
    (act,) = identities.read_acts(data_dir)
    assert act == identities.Act(
        act="issued",
        serial=f"{certificate(issued).serial:x}",
        role="requester",
        name="alice",
        at=NOW.isoformat(),
        until=(NOW + timedelta(days=7)).isoformat(),
    )
    path = data_dir / identities.FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" not in path.read_text()


@pytest.mark.parametrize(
    ("given", "lasts"), [({"days": 3}, timedelta(days=3)), ({"hours": 8}, timedelta(hours=8))], ids=["days", "hours"]
)
def test_an_identity_lasts_as_long_as_asked(data_dir: Path, given: dict[str, int], lasts: timedelta) -> None:
    assert certificate(issue(data_dir, **given)).not_after == NOW + lasts


@pytest.mark.parametrize("given", [{"hours": 0}, {"hours": -5}, {"hours": 825 * 24 + 1}, {"days": 826}, {"days": 0}])
def test_a_validity_out_of_range_is_refused_and_recorded_nowhere(data_dir: Path, given: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        issue(data_dir, **given)
    assert caught.value.rule == "identity.days"
    assert identities.read_acts(data_dir) == []


def test_renewing_gives_the_same_holder_a_new_key(data_dir: Path) -> None:
    old = issue(data_dir, address="db.internal:7443")
    new = identities.renew(data_dir, old, now=NOW + timedelta(days=6), days=7)
    assert certificate(new).principal == certificate(old).principal
    assert certificate(new).not_after == NOW + timedelta(days=13)
    assert new["private_key"] != old["private_key"]
    assert {**new, "certificate": "", "private_key": ""} == {**old, "certificate": "", "private_key": ""}


def test_renewing_asks_the_certificate_and_not_the_file_who_the_holder_is(data_dir: Path) -> None:
    new = identities.renew(data_dir, {**issue(data_dir), "name": "olga", "role": "operator"}, now=NOW, days=1)
    assert (new["name"], new["role"]) == ("alice", "requester")
    assert certificate(new).principal.role == "requester"


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        pytest.param(lambda d, i: {}, "identity.form", id="an empty file"),
        pytest.param(lambda d, i: {**i, "certificate": 3}, "identity.form", id="no certificate"),
        pytest.param(
            lambda d, i: issue(make_domain(d.parent / "other", now=NOW)),
            "identity.form",
            id="of another domain of that name",
        ),
        pytest.param(lambda d, i: issue(d, now=NOW - timedelta(days=8)), "identity.ended", id="one that has ended"),
        pytest.param(
            lambda d, i: identities.revoke(d, "requester/alice", reason="lost", now=NOW) and i,
            "identity.revoked",
            id="one that was revoked",
        ),
    ],
)
def test_only_a_good_identity_of_this_domain_is_renewed(data_dir: Path, spoil: Any, rule: str) -> None:
    spoilt = spoil(data_dir, issue(data_dir))
    before = len(identities.issued(data_dir))
    with pytest.raises(InvalidRequest) as caught:
        identities.renew(data_dir, spoilt, now=NOW, days=7)
    assert caught.value.rule == rule
    assert len(identities.issued(data_dir)) == before


def test_revoking_a_holder_takes_back_all_that_it_has_in_that_role(data_dir: Path) -> None:
    mine = {certificate(issue(data_dir)).serial for _ in range(2)}
    issue(data_dir, role="auditor")
    issue(data_dir, name="bob")
    issue(data_dir, now=NOW - timedelta(days=30))
    acts = identities.revoke(data_dir, "requester/alice", reason="the laptop was lost", now=NOW)
    assert {int(act.serial, 16) for act in acts} == mine == set(watch_revoked(data_dir).get())
    assert {(act.role, act.name, act.reason) for act in acts} == {("requester", "alice", "the laptop was lost")}
    assert identities.revoke(data_dir, "requester/alice", reason="again", now=NOW) == []
    assert certificate(issue(data_dir)).serial not in watch_revoked(data_dir).get()


def test_revoking_a_number_works_for_certificates_that_the_record_does_not_know(data_dir: Path) -> None:
    unknown = certificate(pki.issue_identity(data_dir, role="operator", name="olga", now=NOW)).serial
    (act,) = identities.revoke(data_dir, f"{unknown:X}", reason="stolen", now=NOW)
    assert (act.role, act.name) == ("", "")
    assert watch_revoked(data_dir).get() == {unknown}


@pytest.mark.parametrize(
    ("target", "reason", "error"),
    [
        pytest.param("requester/carol", "lost", UnknownName, id="nobody"),
        pytest.param("king/alice", "lost", InvalidRequest, id="no role"),
        pytest.param("alice", "lost", InvalidRequest, id="no number"),
        pytest.param("", "lost", InvalidRequest, id="nothing"),
        pytest.param("0", "lost", InvalidRequest, id="the number zero"),
        pytest.param("f" * 40, "lost", InvalidRequest, id="a number that no certificate has"),
        pytest.param("f" * 41, "lost", InvalidRequest, id="longer than a serial number"),
        pytest.param("requester/alice", "", InvalidRequest, id="no reason"),
        pytest.param("requester/alice", "a\nb", InvalidRequest, id="a reason of two lines"),
    ],
)
def test_what_cannot_be_revoked_is_refused(data_dir: Path, target: str, reason: str, error: type[Exception]) -> None:
    issue(data_dir)
    with pytest.raises(error):
        identities.revoke(data_dir, target, reason=reason, now=NOW)
    assert watch_revoked(data_dir).get() == frozenset()


def test_the_torn_end_of_the_record_is_dropped_and_damage_within_it_is_not_passed_over(data_dir: Path) -> None:
    issue(data_dir)
    path = data_dir / identities.FILE_NAME
    with path.open("a") as file:
        file.write('{"act": "issued", "ser')
    assert len(identities.read_acts(data_dir)) == 1
    issue(data_dir)
    assert len(identities.read_acts(data_dir)) == 2
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(Unavailable, match="line 1"):
        identities.read_acts(data_dir)


def test_another_authority_takes_over_as_the_manual_says(data_dir: Path) -> None:
    old = issue(data_dir)
    identities.revoke(data_dir, "requester/alice", reason="lost", now=NOW)
    kept = issue(data_dir, name="bob")
    other, secrets = make_domain(data_dir.parent / "other", now=NOW) / pki.SECRETS, data_dir / pki.SECRETS
    before = (secrets / "ca.crt").read_text()
    (secrets / "ca.crt").write_text((other / "ca.crt").read_text() + before)
    (secrets / "ca.key").write_bytes((other / "ca.key").read_bytes())
    # What was issued before still counts, and is renewed under the new authority.
    renewed = identities.renew(data_dir, kept, now=NOW, days=7)
    assert renewed["ca"] == (secrets / "ca.crt").read_text()
    assert read_shown(data_dir, now=NOW).certificate == (secrets / "server.crt").read_bytes()
    pki.renew_server(data_dir, now=NOW)
    revocation.sign_anew(data_dir, now=NOW)
    (secrets / "ca.crt").write_text((other / "ca.crt").read_text())
    assert read_shown(data_dir, now=NOW).certificate == (secrets / "server.crt").read_bytes()
    assert watch_revoked(data_dir).get() == {certificate(old).serial}
    identities.renew(data_dir, renewed, now=NOW, days=7)
    with pytest.raises(InvalidRequest):
        identities.renew(data_dir, kept, now=NOW, days=7)


def test_a_key_that_is_not_the_authoritys_issues_nothing(data_dir: Path) -> None:
    other = make_domain(data_dir.parent / "other", now=NOW) / pki.SECRETS
    (data_dir / pki.SECRETS / "ca.key").write_bytes((other / "ca.key").read_bytes())
    with pytest.raises(Unavailable) as caught:
        issue(data_dir)
    assert caught.value.rule == "domain.authority"
