# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.attacks.test_exact_versions import named, people, rows, town_card
from tests.support.cards import consented, parse
from tests.support.exact import NOW, SALT, Bench, write_csv
from weir.errors import CardError, PublicationError
from weir_server.catalog.basis import Consent
from weir_server.catalog.card import DatasetCard, Source
from weir_server.catalog.codec import card_from_json, card_to_json
from weir_server.catalog.snapshot import Basis, open_snapshot
from weir_server.publish.publisher import Published, publish

BEFORE, AFTER = "2026-11-21T23:59:59+00:00", "2026-11-22T00:00:01+00:00"
"""Just before and just after the moment of every publication here."""


def register_card(**changes: Any) -> DatasetCard:
    """Towns on consent."""
    values: dict[str, Any] = {
        "source": Source("csv", "register.csv"),
        "unit": "person",
        "order": "recorded",
        "text_version": "text",
        "channel": "channel",
        "status": "state",
        "in_force": ("given",),
        "valid_from": "since",
        "valid_until": "until",
        "withdrawn": "withdrawn",
    }
    return replace(town_card(), personal_information=True, legal_basis="consent", consent=Consent(**values | changes))


def entry(person: str, **changes: Any) -> dict[str, Any]:
    """A row of a register: a consent in force."""
    return {
        "person": person, "recorded": 1, "text": "t-1", "channel": "app", "state": "given", "since": BEFORE,
        "until": None, "withdrawn": None, "purpose": "research",
    } | changes  # fmt: skip


def counted(bench: Bench) -> int:
    """Units behind all atoms of the newest version."""
    return sum(atom.n for atom in bench.atoms())


NAMES = named("p", 30)
DATA = rows(people("a", NAMES))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        pytest.param({}, True, id="given"),
        pytest.param({"state": "refused"}, False, id="another word"),
        pytest.param({"state": None}, False, id="no word"),
        pytest.param({"since": AFTER}, False, id="not yet valid"),
        pytest.param({"since": None}, False, id="no beginning"),
        pytest.param({"until": AFTER}, True, id="still valid"),
        pytest.param({"until": BEFORE}, False, id="expired"),
        pytest.param({"until": "2026-11-22"}, False, id="ends at this instant"),
        pytest.param({"withdrawn": BEFORE}, False, id="withdrawn"),
        pytest.param({"withdrawn": AFTER}, True, id="withdrawal to come"),
        pytest.param({"since": "2026-11-22T08:00:00+08:00"}, True, id="time of another zone"),
        pytest.param({"since": "2026-11-22T08:00:01+08:00"}, False, id="second too late in another zone"),
    ],
)
def test_only_units_with_a_consent_in_force_enter(changes: dict[str, Any], counts: bool, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    register = [entry(name) for name in NAMES[:-1]] + [entry(NAMES[-1], **changes)]
    report = bench.publish(register_card(), DATA, register=register).report
    assert (counted(bench), report.without_consent) == ((30, 0) if counts else (29, 1))


def test_units_that_the_register_does_not_know_are_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    report = bench.publish(register_card(), DATA, register=[entry(name) for name in NAMES[:20]]).report
    assert (counted(bench), report.without_consent, report.units) == (20, 10, 20)


def test_the_latest_row_of_a_unit_decides(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    register = [entry(name) for name in NAMES]
    register += [entry("p0", recorded=2, state="withdrawn"), entry("p1", recorded=2, state="no")]
    register += [entry("p1", recorded=10)]
    bench.publish(register_card(), DATA, register=register)
    assert counted(bench) == 29, "10 is later than 2, as numbers go"


@pytest.mark.parametrize("name", ["place", "Place", "consent_decided", "WEIR"])
@pytest.mark.parametrize("key", ["unit", "order", "status"])
def test_the_latest_row_decides_whatever_its_columns_are_called(name: str, key: str, tmp_path: Path) -> None:
    """Were a rank or a condition of ours taken for the column, or the other way round, one who withdrew would count."""
    bench = Bench(tmp_path)
    old = {"unit": "person", "order": "recorded", "status": "state"}[key]
    register = [entry(person) for person in NAMES] + [entry("p0", recorded=2, state="withdrawn")]
    renamed = [{name if column == old else column: value for column, value in row.items()} for row in register]
    bench.publish(register_card(**{key: name}), DATA, register=renamed)
    assert counted(bench) == 29


def test_rows_are_ordered_by_instants_whatever_the_zone_they_are_written_in(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    given = {"recorded": "2026-03-01T20:00:00+08:00"}  # noon, UTC
    register = [entry(name, **given) for name in NAMES]
    register += [entry("p0", recorded="2026-03-01T13:00:00+00:00", state="withdrawn")]
    register += [entry("p1", recorded="2026-03-01T14:00:00+08:00", state="withdrawn")]
    bench.publish(register_card(), DATA, register=register)
    assert counted(bench) == 29, "p0 withdrew an hour later, p1 six hours before consenting"


def test_equal_rows_are_one_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(register_card(), DATA, register=[entry(name) for name in [*NAMES, *NAMES]])
    assert counted(bench) == 30


def test_rows_of_another_purpose_are_not_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    card = register_card(purpose="purpose", purposes=("research", "care"))
    register = [entry(name, purpose="care" if name == "p1" else "research") for name in NAMES[:-1]]
    register += [entry(NAMES[-1], purpose="advertising"), entry("p0", purpose="advertising", recorded=9, state="no")]
    bench.publish(card, DATA, register=register)
    assert counted(bench) == 29


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        pytest.param(entry("p0", state="refused"), "consent.ties", id="as late, and contradicting"),
        pytest.param(entry("p0", recorded=2, since="soon"), "consent.time", id="no time"),
        pytest.param(entry("p0", recorded=2, until="infinity"), "consent.time", id="a time that never comes"),
        pytest.param(entry("p0", recorded="late"), "consent.order", id="no order"),
        pytest.param(entry("p0", recorded=None), "consent.order", id="order missing"),
        pytest.param(entry("p0", recorded="2026-03-01"), "consent.order", id="a date among numbers"),
        pytest.param({**entry("p0"), "person": None}, "consent.unit", id="nobody"),
        pytest.param(entry("p0", recorded=2, text=None), "consent.evidence", id="no text version"),
        pytest.param(entry("p0", recorded=2, channel=None), "consent.evidence", id="no channel"),
    ],
)
def test_nobodys_consent_is_guessed(row: dict[str, Any], rule: str, tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as refused:
        Bench(tmp_path).publish(register_card(), DATA, register=[*(entry(name) for name in NAMES), row])
    assert [(item.rule, item.count) for item in refused.value.violations] == [(rule, 1)]
    assert not (tmp_path / "data" / "snapshots" / "towns" / "1").exists()
    assert "p0" not in str(refused.value)


def test_a_register_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as refused:
        Bench(tmp_path).publish(register_card(channel="medium"), DATA, register=[entry(name) for name in NAMES])
    assert [item.subject for item in refused.value.violations] == ["medium"]


def test_an_absent_register_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError) as refused:
        Bench(tmp_path).publish(register_card(), DATA)
    assert refused.value.rule == "source.missing"


def test_the_manifest_names_the_register_and_says_nothing_of_it(tmp_path: Path) -> None:
    first, second, third = (Bench(tmp_path / name) for name in "abc")
    for bench in (first, second, third):
        bench.directory.mkdir()
    register = [entry(name) for name in NAMES]
    first.publish(register_card(), DATA, register=register)
    second.publish(register_card(), DATA, register=register[::-1])
    third.publish(register_card(), DATA, register=[*register[1:], entry("p0", channel="paper")])
    bases = [bench.snapshots[0].basis for bench in (first, second, third)]
    assert bases[0] is not None
    assert bases[0].kind == "consent"
    assert bases[0] == bases[1] != bases[2]
    first.publish(register_card(), DATA, register=register)
    assert first.snapshots[1].basis != bases[0], "another version, another digest: that nothing changed is not told"


def test_the_evidence_of_each_consent_is_kept_by_salted_hash(tmp_path: Path) -> None:
    published = Bench(tmp_path).publish(register_card(), DATA, register=[entry(name) for name in NAMES])
    (kept,) = (tmp_path / "data" / "private" / "towns" / "consent").iterdir()
    assert kept.name == f"1-{published.manifest_digest[:32]}.parquet"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with duckdb.connect() as connection:
        evidence = dict(connection.execute(f"SELECT unit, evidence FROM read_parquet('{kept}')").fetchall())
    columns = ["p0", "1", "t-1", "app", "given", BEFORE, None, None]
    encoded = "|".join("-" if value is None else f"{len(value)}:{value}" for value in columns)
    expected = hashlib.sha256(f"row|{SALT.hex()}|{encoded}".encode()).hexdigest()
    assert evidence[hashlib.sha256(f"{SALT.hex()}|p0".encode()).hexdigest()] == expected
    assert len(evidence) == 30


def test_data_and_register_may_lie_in_one_database(tmp_path: Path) -> None:
    base = tmp_path / "base.duckdb"
    write_csv(tmp_path / "d.csv", DATA)
    write_csv(tmp_path / "r.csv", [entry(name) for name in NAMES[:25]])
    with duckdb.connect(str(base)) as connection:
        for table, file in (("visits", "d"), ("consents", "r")):
            connection.execute(f"CREATE TABLE {table} AS FROM read_csv('{tmp_path / file}.csv', all_varchar = true)")
    card = register_card(source=Source("duckdb", "base.duckdb", "consents"))
    published = run(replace(card, source=Source("duckdb", "base.duckdb", "visits")), tmp_path)
    assert (published.report.units, published.report.without_consent) == (25, 5)


def run(card: DatasetCard, directory: Path) -> Published:
    return publish(
        card, card_directory=directory, data_dir=directory / "data", version=1, previous=None, now=NOW, salt=SALT
    )


def test_a_dataset_answered_with_dp_reports_nobody(tmp_path: Path) -> None:
    measure = {"name": "cost", "column": "spend", "mode": "dp", "lower": 0, "upper": 90, "round": "half_even"}
    card = parse(consented() | {"measures": [measure], "dp": {"epsilon_lifetime": "4"}})
    data = [
        {"who": i, "region": "north", "member": 1, "age": 20, "day": 1, "spend": 5, "pain": 1, "ward": 1}
        for i in range(30)
    ]
    bench = Bench(tmp_path)
    report = bench.publish(card, data, register=[entry(str(i)) for i in range(20)]).report
    assert (report.without_consent, report.units, report.rows) == (0, 0, 0)
    with duckdb.connect(str(bench.snapshots[0].directory / "bounded.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (20,)


def test_a_card_with_a_register_survives_its_json() -> None:
    card = parse(consented())
    assert card.consent is not None
    assert card.consent.purposes == ("research",)
    assert card_from_json(json.loads(json.dumps(card_to_json(card)))) == card


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"consent": None}, "basis.missing", id="no basis"),
        pytest.param({"anonymisation": {"report": "0" * 64, "file": "r.json"}}, "basis.both", id="both"),
        pytest.param({"consent": {"status": None}}, "consent.status", id="words without a column"),
        pytest.param({"consent": {"purpose": None}}, "consent.purposes", id="purposes without a column"),
        pytest.param(
            {"consent": {"status": None, "in_force": [], "withdrawn": None}}, "consent.withdrawal", id="no way to end"
        ),
        pytest.param({"consent": {"unit": ""}}, "consent.column", id="no unit"),
        pytest.param({"consent": {"colour": "red"}}, "card.unknown_key", id="unknown key"),
        pytest.param({"derived_from": ["clinic"]}, "derived.names", id="from itself"),
        pytest.param({"derived_from": ["a", "a"]}, "derived.names", id="twice from one"),
        pytest.param({"derived_from": ["A b"]}, "derived.name", id="from no name"),
    ],
)
def test_a_broken_rule_of_the_basis_is_named(change: dict[str, Any], rule: str) -> None:
    content = consented()
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(content.get(key), dict) and value else value
    with pytest.raises(CardError) as refused:
        parse(content)
    assert rule in {item.rule for item in refused.value.violations}


def test_core_data_needs_no_basis_since_it_is_never_read() -> None:
    content = consented() | {"grade": "CORE", "measures": []}
    del content["consent"]
    assert parse(content).personal_information


def test_a_version_of_before_opens_and_has_no_basis(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    published = bench.publish(town_card(), DATA)
    manifest = json.loads((published.directory / "manifest.json").read_bytes())
    for key in ("consent", "anonymisation", "derived_from"):
        del manifest["card"][key]
    written = json.dumps(manifest).encode()
    (published.directory / "manifest.json").chmod(0o600)
    (published.directory / "manifest.json").write_bytes(written)
    opened = open_snapshot(published.directory, expected_digest=hashlib.sha256(written).hexdigest())
    assert (opened.basis, opened.card) == (None, town_card())
    assert Basis("consent", "0" * 64).level == 0
