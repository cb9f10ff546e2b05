# SPDX-License-Identifier: Apache-2.0
"""From an assessment to an exact answer: `weir assess`, `publish`, `certify`, `apply`, as people call them."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.support.exact import write_csv
from tests.support.server import make_domain
from weir.canonical import digest
from weir.errors import PublicationError, WeirError
from weir_client._signing import SigningKey
from weir_client.cli import cli
from weir_server.policy.documents import parse_documents


def run(*arguments: object) -> Result:
    """The `weir` command."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: object) -> Any:
    """What a command prints with --json."""
    result = run(*arguments, "--json")
    if isinstance(result.exception, Exception):
        raise result.exception
    return json.loads(result.output)


def card(path: Path, **changes: Any) -> Path:
    """A card of anonymised patients."""
    content = {
        "name": "patients",
        "title": "Patients",
        "description": "Made from care records.",
        "grade": "GENERAL",
        "personal_information": True,
        "legal_basis": "anonymised",
        "responsible": "office",
        "provenance": "made for a test",
        "lineage": "patients",
        "unit": {"name": "person", "column": "who"},
        "source": {"kind": "csv", "location": "patients.csv"},
        "dimensions": [{"name": "town", "type": "text", "column": "town", "cells": ["a", "b"]}],
        "measures": [{"name": "visits", "column": "visits", "mode": "exact", "lower": 0, "upper": 20}],
        "exact": {"k": 10},
    }
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


@pytest.fixture(name="domain")
def _domain(tmp_path: Path) -> Iterator[Path]:
    write_csv(tmp_path / "patients.csv", [{"who": i, "town": "ab"[i % 2], "visits": i % 7} for i in range(60)])
    mask = os.umask(0o077)  # commands set it, and here they run in this process
    yield make_domain(tmp_path)
    os.umask(mask)


def test_a_report_carries_publication_and_certificate(domain: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    told = done(
        "assess", card(tmp_path / "card.yaml"), f"--data={domain}", "--quasi-identifiers=town", "--sensitive=visits",
        "-o", report,
    )  # fmt: skip
    assert (told["level"], told["classes"]["k"], told["digest"]) == (3, 30, digest(report.read_bytes()))
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    declared = {"report": told["digest"], "file": "report.json"}
    published = done("publish", card(tmp_path / "card.yaml", anonymisation=declared), f"--data={domain}")
    manifest = json.loads((domain / "snapshots" / "patients" / "1" / "manifest.json").read_bytes())
    assert manifest["basis"] == {"kind": "anonymisation", "digest": told["digest"], "level": 3}
    assert published["report"]["units"] == 60
    assert not list((domain / "publishing").iterdir()), "nothing of the source remains"

    key = SigningKey.generate()
    key.save(tmp_path / "hospital.key")
    certificate = tmp_path / "certificate.yaml"
    signed = done(
        "certify", report, "--id=r-1", "--issued-by=hospital", f"--key={tmp_path / 'hospital.key'}", "--days=30",
        "-o", certificate,
    )  # fmt: skip
    (read,) = parse_documents([certificate.read_text(encoding="utf-8")]).certificates.values()
    assert (read.dataset, read.report, read.level, read.public_key) == ("patients", told["digest"], 3, key.public)
    assert (read.valid_until - read.valid_from).days == 30
    assert signed["signature"]


def test_a_report_cannot_be_attached_to_other_data(domain: Path, tmp_path: Path) -> None:
    told = done(
        "assess", card(tmp_path / "card.yaml"), f"--data={domain}", "--quasi-identifiers=town", "-o",
        tmp_path / "report.json",
    )  # fmt: skip
    rows = [{"who": i, "town": "ab"[i % 2], "visits": i % 7} for i in range(60)]
    write_csv(tmp_path / "patients.csv", [*rows[:59], rows[59] | {"visits": 9}])
    declared = {"report": told["digest"], "file": "report.json"}
    with pytest.raises(PublicationError) as refused:
        done("publish", card(tmp_path / "card.yaml", anonymisation=declared), f"--data={domain}")
    assert [item.rule for item in refused.value.violations] == ["anonymisation.source"]


def test_a_report_of_too_low_a_level_is_worth_nothing(domain: Path, tmp_path: Path) -> None:
    told = done(
        "assess", card(tmp_path / "card.yaml"), f"--data={domain}", "--quasi-identifiers=town,visits", "-o",
        tmp_path / "report.json",
    )  # fmt: skip
    assert told["level"] == 2
    declared = {"report": told["digest"], "file": "report.json"}
    with pytest.raises(PublicationError) as refused:
        done("publish", card(tmp_path / "card.yaml", anonymisation=declared), f"--data={domain}")
    assert {item.rule for item in refused.value.violations} == {"anonymisation.level", "anonymisation.most_risk"}
    SigningKey.generate().save(tmp_path / "hospital.key")
    with pytest.raises(WeirError, match="level 2"):
        done(
            "certify", tmp_path / "report.json", "--id=r-1", "--issued-by=hospital",
            f"--key={tmp_path / 'hospital.key'}", "-o", tmp_path / "certificate.yaml",
        )  # fmt: skip


def test_for_people_the_report_says_what_to_write_into_the_card(domain: Path, tmp_path: Path) -> None:
    result = run(
        "assess", card(tmp_path / "card.yaml"), f"--data={domain}", "--quasi-identifiers=town", "--sensitive=visits",
        "-o", tmp_path / "report.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "60 units in 2 classes; k = 30" in result.output
    assert "level 3 after GB/T 42460-2023" in result.output
    assert digest((tmp_path / "report.json").read_bytes()) in result.output
