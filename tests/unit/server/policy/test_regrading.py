# SPDX-License-Identifier: Apache-2.0
"""Derived datasets, and certificates that regrade them."""

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.domain import (
    Domain,
    census_card,
    contract_document,
    open_domain,
    spending_card,
    submit,
    write_snapshot,
)
from weir.agreements import format_signing_key, public_key_of
from weir.certificates import Certificate, certificate_json, is_certified, sign_certificate
from weir.errors import InvalidRequest, PolicyDenied, PublicationError, WeirError
from weir_server.catalog.basis import Anonymisation, Consent
from weir_server.catalog.card import DatasetCard, Grade, Source, modes_under
from weir_server.catalog.catalogue import Catalogue
from weir_server.catalog.snapshot import Basis, Snapshot
from weir_server.policy.consistency import check_policy
from weir_server.policy.documents import Policy, parse_documents
from weir_server.policy.regrading import effective_grade
from weir_server.services.encode import dataset_to_proto
from weir_server.state import State

SEED, OTHER_SEED = bytes(32), bytes([1] * 32)
REPORT, OTHER_REPORT = "ab" * 32, "cd" * 32
START = datetime(2026, 6, 1, tzinfo=UTC)
UNIT_TABLE = census_card(
    name="census", lineage="towns", derived_from=("spending",), anonymisation=Anonymisation(REPORT, "report.json")
)
"""A GENERAL dataset answered exactly, made from IMPORTANT data."""


def party(name: str = "hospital", *seeds: bytes, role: str = "provider") -> str:
    """A party with these keys."""
    return yaml.safe_dump({
        "kind": "party", "party": name, "role": role, "organisation": "o", "responsible": "r", "region": "CN",
        "signing_keys": [format_signing_key(public_key_of(seed)) for seed in seeds or (SEED,)],
    })  # fmt: skip


def certificate(now: datetime, *, seed: bytes = SEED, **changes: Any) -> Certificate:
    """A certificate of the hospital from yesterday on, for ten days."""
    values: dict[str, Any] = {
        "id": "r-1", "dataset": "census", "report": REPORT, "level": 3, "issued_by": "hospital",
        "valid_from": now - timedelta(days=1), "valid_until": now + timedelta(days=9), "public_key": b"",
    }  # fmt: skip
    return sign_certificate(Certificate(**(values | changes)), seed=seed)


def document(signed: Certificate, **changes: Any) -> str:
    """A certificate as a policy document."""
    return yaml.safe_dump({"kind": "certificate", **certificate_json(signed), **changes})


@pytest.fixture(name="domain")
async def _domain(tmp_path: Path) -> AsyncIterator[Domain]:
    """IMPORTANT spending, and a GENERAL census made from it, under a contract."""
    domain = open_domain(tmp_path)
    try:
        await domain.activate(spending_card())
        await domain.activate(UNIT_TABLE)
        await domain.apply(contract_document(), party())
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()


def codes(error: WeirError) -> list[str]:
    """Codes of a refusal's reasons."""
    assert isinstance(error, PolicyDenied)
    return [reason.code for reason in error.reasons]


async def refusal(domain: Domain, *documents: str) -> str:
    """Text with which the policy is refused."""
    with pytest.raises(InvalidRequest) as refused:
        await domain.apply(contract_document(), *documents)
    return refused.value.message


async def test_a_dataset_made_from_important_data_is_not_answered_exactly(domain: Domain) -> None:
    error = await domain.refused(submit())
    assert codes(error) == ["grade.technique"]
    assert domain.state.world.grade_of(UNIT_TABLE, now=domain.clock()) is Grade.IMPORTANT


async def test_a_certificate_in_force_lets_it_be_answered_until_it_ends(domain: Domain) -> None:
    now = domain.clock()
    await domain.apply(contract_document(), party(), document(certificate(now)))
    assert (await domain.pipeline.run(submit())).answer
    domain.clock.forward(days=9, seconds=1)
    assert codes(await domain.refused(submit())) == ["grade.technique"]


async def test_a_certificate_that_is_taken_back_answers_nothing_more(domain: Domain) -> None:
    await domain.apply(contract_document(), party(), document(certificate(domain.clock())))
    await domain.apply(contract_document(), party())
    assert codes(await domain.refused(submit())) == ["grade.technique"]


async def test_a_certificate_that_is_not_in_force_yet_answers_nothing(domain: Domain) -> None:
    later = certificate(domain.clock() + timedelta(days=2))
    await domain.apply(contract_document(), party(), document(later))
    assert codes(await domain.refused(submit())) == ["grade.technique"]


async def test_a_certificate_that_ends_while_a_query_runs_stops_it_before_the_charge(domain: Domain) -> None:
    await domain.apply(contract_document(), party(), document(certificate(domain.clock())))
    analyse = domain.exact.analyse

    def slow(bound: Any) -> Any:
        domain.clock.forward(days=10)
        return analyse(bound)

    domain.exact.analyse = slow  # type: ignore[method-assign]
    error = await domain.refused(submit())
    assert "grade.technique" in codes(error)
    assert domain.exact.touches == 0


async def test_a_restart_reads_certificates_again(domain: Domain) -> None:
    await domain.apply(contract_document(), party(), document(certificate(domain.clock())))
    again = State(domain.store, domain.directory, clock=domain.clock, entropy=os.urandom)
    assert again.world.grade_of(UNIT_TABLE, now=domain.clock()) is Grade.GENERAL
    assert again.world.grade_of(UNIT_TABLE, now=domain.clock() + timedelta(days=9)) is Grade.IMPORTANT


async def test_the_catalogue_tells_the_grade_that_holds_and_until_when(domain: Domain) -> None:
    now = domain.clock()
    await domain.apply(contract_document(), party(), document(certificate(now)))
    world = domain.state.world
    assert world.grade_of(UNIT_TABLE, now=now) is Grade.GENERAL
    assert world.certified_until(UNIT_TABLE, now=now) == now + timedelta(days=9)
    assert world.certified_until(spending_card(), now=now) is None
    shown = dataset_to_proto(
        world.catalogue.datasets["census"], grade=Grade.GENERAL, certified_until=now + timedelta(days=9)
    )
    assert shown.certified_until.ToDatetime(UTC) == now + timedelta(days=9)
    assert (shown.processing_basis, shown.basis_digest, list(shown.derived_from)) == (
        "anonymisation", REPORT, ["spending"],
    )  # fmt: skip


async def test_applying_a_certificate_loosens_and_names_its_report_in_the_log(domain: Domain) -> None:
    told = await domain.apply(contract_document(), party(), document(certificate(domain.clock())), dry_run=True)
    assert [(change.subject, change.loosens) for change in told.changes] == [("certificate/r-1", True)]
    await domain.apply(contract_document(), party(), document(certificate(domain.clock())))
    (event,) = [event for event in domain.events("weir.policy.added") if event["subject"] == "certificate/r-1"]
    assert (event["data"]["report"], event["data"]["level"], event["data"]["dataset"]) == (REPORT, 3, "census")


async def test_the_leaf_of_a_publication_names_what_it_rests_on(domain: Domain) -> None:
    event = domain.events("weir.dataset.published")[-1]
    assert (event["data"]["basis"], event["data"]["basis_digest"], event["data"]["level"]) == (
        "anonymisation", REPORT, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        pytest.param(lambda now: (document(certificate(now)),), "no party document", id="unknown party"),
        pytest.param(
            lambda now: (document(certificate(now)), party("hospital", role="requester")), "no party", id="a requester"
        ),
        pytest.param(lambda now: (document(certificate(now)), party("hospital", OTHER_SEED)), "no party", id="key"),
        pytest.param(
            lambda now: (document(certificate(now), valid_until="2027-12-31T00:00:00+00:00"), party()),
            "does not verify",
            id="longer than signed",
        ),
        pytest.param(
            lambda now: (document(certificate(now), dataset="spending"), party()), "does not verify", id="other dataset"
        ),
        pytest.param(
            lambda now: (document(certificate(now), signature=b64encode(bytes(64)).decode()), party()),
            "does not verify",
            id="no signature",
        ),
        pytest.param(
            lambda now: (document(certificate(now, report=OTHER_REPORT)), party()), "rests on a report", id="report"
        ),
        pytest.param(lambda now: (document(certificate(now, level=4)), party()), "another level", id="level"),
        pytest.param(
            lambda now: (document(certificate(now, dataset="spending")), party()), "derived from no other", id="origin"
        ),
        pytest.param(lambda now: (document(certificate(now), level=2), party()), "level must be", id="level 2"),
        pytest.param(lambda now: (document(certificate(now), **{"from": "CORE"}), party()), "from must", id="CORE"),
        pytest.param(lambda now: (document(certificate(now), to="IMPORTANT"), party()), "to must", id="to IMPORTANT"),
        pytest.param(
            lambda now: (document(certificate(now, valid_until=now + timedelta(days=800))), party()),
            "valid_until must",
            id="for ever",
        ),
        pytest.param(lambda now: (document(certificate(now), extra="x"), party()), "unknown key", id="unknown key"),
        pytest.param(
            lambda now: (document(certificate(now), public_key=f"ed25519:{b64encode(bytes(32)).decode()}"), party()),
            "public_key must",
            id="key of small order",
        ),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused(documents: Any, sentence: str, domain: Domain) -> None:
    now = domain.clock()
    assert sentence in await refusal(domain, *documents(now))


async def test_core_can_never_be_regraded(tmp_path: Path) -> None:
    domain = open_domain(tmp_path)
    try:
        await domain.activate(spending_card(grade=Grade.CORE, measures=(), epsilon_lifetime=0))
        await domain.activate(UNIT_TABLE)
        now = domain.clock()
        assert "red line" in await refusal(domain, party(), document(certificate(now)))
        await domain.apply(contract_document(), party())
        world = domain.state.world
        assert world.grade_of(UNIT_TABLE, now=now) is Grade.CORE
        forced = replace(world, policy=Policy({**world.policy.values, "certificate": {"r-1": certificate(now)}}))
        assert forced.grade_of(UNIT_TABLE, now=now) is Grade.CORE, "even one that slipped in would lift nothing"
        assert forced.modes_of(UNIT_TABLE, now=now) == ()
    finally:
        domain.store.close()


async def test_a_certificate_lifts_no_grade_of_the_datasets_own(domain: Domain) -> None:
    now = domain.clock()
    await domain.apply(contract_document(), party(), document(certificate(now)))
    stricter = replace(UNIT_TABLE, grade=Grade.IMPORTANT)
    world = domain.state.world
    assert world.grade_of(stricter, now=now) is Grade.IMPORTANT
    assert world.grade_of(world.catalogue.resolve("census", 1).card, now=now) is Grade.GENERAL


async def test_a_certificate_speaks_only_of_versions_that_rest_on_its_report(domain: Domain) -> None:
    now = domain.clock()
    await domain.apply(contract_document(), party(), document(certificate(now)))
    newer = replace(UNIT_TABLE, anonymisation=Anonymisation(OTHER_REPORT, "report.json"))
    await domain.activate(newer, 2)
    world = domain.state.world
    grades = [world.grade_of(world.catalogue.resolve("census", version).card, now=now) for version in (1, 2)]
    assert grades == [Grade.GENERAL, Grade.IMPORTANT]


async def test_a_later_card_cannot_forget_its_sources(domain: Domain) -> None:
    await domain.activate(replace(UNIT_TABLE, derived_from=()), 2)
    world = domain.state.world
    assert world.grade_of(world.catalogue.resolve("census", 2).card, now=domain.clock()) is Grade.IMPORTANT


async def test_grades_are_passed_on_over_any_number_of_steps(domain: Domain) -> None:
    await domain.activate(spending_card(name="totals", lineage="totals", grade=Grade.GENERAL, derived_from=("census",)))
    now, card = domain.clock(), domain.state.world.catalogue.resolve("totals", 0).card
    assert domain.state.world.grade_of(card, now=now) is Grade.IMPORTANT
    await domain.apply(contract_document(), party(), document(certificate(now)))
    assert domain.state.world.grade_of(card, now=now) is Grade.GENERAL
    assert domain.state.world.grade_of(card, now=now + timedelta(days=9)) is Grade.IMPORTANT


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([("whole", ())], ("trimmed", ("whole",)), id="a copy"),
        pytest.param([("whole", ()), ("step", ("whole",))], ("trimmed", ("step",)), id="over a step that is not exact"),
        pytest.param([("step", ()), ("whole", ("step",))], ("trimmed", ("step",)), id="two of one source"),
        pytest.param([("trimmed", ()), ("step", ("trimmed",))], ("whole", ("step",)), id="the other way round"),
    ],
)
async def test_datasets_of_one_origin_are_answered_exactly_by_one_alone(
    tmp_path: Path, first: list[tuple[str, tuple[str, ...]]], second: tuple[str, tuple[str, ...]]
) -> None:
    """Attack: a copy without one person, under another lineage; the difference of two totals is that person's value."""
    domain = open_domain(tmp_path)

    def made(name: str, sources: tuple[str, ...]) -> DatasetCard:
        card = spending_card if name == "step" else census_card
        return card(name=name, lineage=name, derived_from=sources)

    try:
        for name, sources in first:
            await domain.activate(made(name, sources))
        with pytest.raises(PublicationError) as refused:
            await domain.activate(made(*second))
        rules = [(item.rule, item.subject) for item in refused.value.violations]
        assert rules == [("lineage.exact_twice", next(name for name, _ in first if name != "step"))]
        await domain.activate(made("unrelated", ()))
    finally:
        domain.store.close()


async def test_a_source_that_names_an_origin_later_is_held_against_it_too(tmp_path: Path) -> None:
    domain = open_domain(tmp_path)
    try:
        await domain.activate(census_card(name="whole", lineage="whole"))
        await domain.activate(census_card(name="trimmed", lineage="trimmed"))
        with pytest.raises(PublicationError) as refused:
            await domain.activate(census_card(name="trimmed", lineage="trimmed", derived_from=("whole",)), 2)
        assert refused.value.rule == "lineage.exact_twice"
    finally:
        domain.store.close()


async def test_a_grade_that_was_found_before_is_that_of_the_card_the_time_and_the_documents_asked_for(
    domain: Domain,
) -> None:
    now = domain.clock()
    later = certificate(now, id="r-2", valid_from=now + timedelta(days=20), valid_until=now + timedelta(days=21))
    await domain.apply(contract_document(), party(), document(certificate(now)), document(later))
    world, other = domain.state.world, replace(UNIT_TABLE, anonymisation=Anonymisation(OTHER_REPORT, "report.json"))
    ends = [at for c in world.policy.certificates.values() for at in (c.valid_from, c.valid_until)]
    moments = [end + timedelta(microseconds=step) for end in ends for step in (-1, 0, 1)]
    for at in [*moments, *reversed(moments), *moments]:
        for card in (UNIT_TABLE, other, replace(UNIT_TABLE, grade=Grade.CORE)):
            found = effective_grade(world.catalogue, world.policy, card, now=at)
            assert (world.grade_of(card, now=at), world.modes_of(card, now=at)) == (found, modes_under(card, found))
    assert {world.grade_of(UNIT_TABLE, now=at) for at in moments} == {Grade.GENERAL, Grade.IMPORTANT}
    await domain.apply(contract_document(), party())
    assert domain.state.world.grade_of(UNIT_TABLE, now=now) is Grade.IMPORTANT


async def test_the_work_of_finding_a_grade_grows_with_the_datasets_and_not_with_the_ways_between_them(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 12 steps has two datasets of 12 versions, made from both of the step before: 24**12 ways."""
    bare, asked = domain.state.world.catalogue.datasets["spending"][0], list[str]()

    def versions(name: str, step: int) -> tuple[Snapshot, ...]:
        sources = tuple(f"{side}{step - 1}" for side in "ab") if step else ("spending",)
        card = replace(bare.card, name=name, grade=Grade.GENERAL, derived_from=sources)
        return tuple(replace(bare, card=card, version=version) for version in range(12, 0, -1))

    made = {f"{side}{step}": versions(f"{side}{step}", step) for step in range(12) for side in "ab"}
    catalogue = Catalogue({"spending": (bare,), **made})
    sources = Catalogue.sources

    def counted(self: Catalogue, name: str) -> frozenset[str]:
        asked.append(name)
        return sources(self, name)

    monkeypatch.setattr(Catalogue, "sources", counted)
    assert effective_grade(catalogue, Policy(), made["a11"][0].card, now=START) is Grade.IMPORTANT
    assert len(asked) <= 25


async def test_datasets_that_are_unknown_or_itself_are_no_sources(domain: Domain) -> None:
    for sources, rule in ((("nowhere",), "derived.unknown"), (("census",), "derived.cycle")):
        name = "spending" if rule == "derived.cycle" else "lost"
        card = spending_card(name=name, derived_from=sources)
        with pytest.raises(PublicationError) as refused:
            await domain.activate(card, 2 if name == "spending" else 1)
        assert refused.value.rule == rule


async def test_a_version_without_what_its_card_declares_is_not_activated(domain: Domain) -> None:
    card = census_card(name="bare", lineage="bare", anonymisation=Anonymisation(REPORT, "report.json"))
    write_snapshot(domain.directory, card)
    manifest = domain.directory / "snapshots" / "bare" / "1" / "manifest.json"
    content = json.loads(manifest.read_bytes())
    for basis in (None, content["basis"] | {"digest": OTHER_REPORT}, content["basis"] | {"level": 2}):
        manifest.write_bytes(json.dumps(content | {"basis": basis}).encode())
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        with pytest.raises(PublicationError) as refused:
            await domain.activate(card, digest=digest)
        assert refused.value.rule == "snapshot.basis"


async def test_personal_information_without_a_basis_is_not_activated(domain: Domain) -> None:
    card = census_card(name="bare", lineage="bare", personal_information=True, legal_basis="law")
    with pytest.raises(PublicationError) as refused:
        await domain.activate(card)
    assert [item.rule for item in refused.value.violations] == ["basis.missing"]


def test_grades_of_datasets_derived_from_each_other_are_still_found() -> None:
    card = census_card(derived_from=("census",))
    assert effective_grade(Catalogue(), Policy(), card, now=START) is Grade.GENERAL
    lost = census_card(derived_from=("nowhere",))
    assert effective_grade(Catalogue(), Policy(), lost, now=START) is Grade.CORE


def test_a_signature_fits_its_own_terms_alone() -> None:
    signed = certificate(START)
    assert is_certified(signed)
    assert not is_certified(replace(signed, valid_until=signed.valid_until + timedelta(seconds=1)))
    assert not is_certified(replace(signed, public_key=public_key_of(OTHER_SEED)))
    assert not is_certified(replace(signed, signature=b""))


async def test_a_purpose_that_the_units_did_not_agree_to_is_warned_of(tmp_path: Path) -> None:
    register = Consent(Source("csv", "r.csv"), "u", "o", "t", "c", withdrawn="w", purpose="p", purposes=("care",))
    policy = parse_documents([contract_document(purposes=["care", "research"])])
    catalogue = Catalogue().with_snapshot(
        Snapshot(census_card(consent=register), 1, START, "0" * 64, tmp_path, (), Basis("consent", "0" * 64))
    )
    told = [finding.sentence for finding in check_policy(policy, catalogue, now=START) if not finding.refuses]
    assert told == ["the units of census did not agree to research"]
