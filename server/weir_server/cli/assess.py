# SPDX-License-Identifier: Apache-2.0
"""`weir assess`: how far the units of a card's source can be told apart, as a report for the provider alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from weir.canonical import digest
from weir_server.cli.output import DATA, JSON, new_private_file, show
from weir_server.identity import pki

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("assess")
@click.argument("card", type=_FILE)
@DATA
@click.option("--quasi-identifiers", required=True, help="Names with commas: what others may know of a unit.")
@click.option("--sensitive", default="", help="Names with commas: what they would like to learn.")
@click.option("--direct-identifiers", default="", help="Columns with commas that identify people by themselves.")
@click.option("--population", type=click.IntRange(min=1), help="Units of the population that the source samples.")
@click.option("--group-size", default="", help="Column with the people behind each unit, where units are aggregates.")
@click.option("--source", type=_FILE, help="Read this file, not the card's source.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File (DATASET-report.json).")
@JSON
def assess_command(
    card: Path, data_dir: Path, source: Path | None, output: Path | None, as_json: bool, **given: Any
) -> None:
    """Assess the source of CARD: k, l-diversity, t-closeness, uniqueness, risk, level after GB/T 42460."""
    from weir_server.assess.assessment import Questions, assess
    from weir_server.catalog.card_file import load_card

    os.umask(0o077)
    declared = load_card(card, to_assess=True)
    path = Path(f"{declared.name}-report.json") if output is None else output
    with new_private_file(path) as write:  # Before the rows are read, which can take long.
        report = assess(
            declared,
            Questions(
                quasi=_names(given["quasi_identifiers"]),
                sensitive=_names(given["sensitive"]),
                direct=_names(given["direct_identifiers"]),
                population=given["population"],
                group_size=given["group_size"],
            ),
            card_directory=card.parent,
            data_dir=data_dir,
            salt=pki.load_domain(data_dir).salt,
            source_override=source,
        )
        write(report.decode())
    content = json.loads(report)
    result = {"file": str(path), "digest": digest(report), **content}
    show(result, as_json, _text(path, digest(report), content))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _text(path: Path, named: str, report: dict[str, Any]) -> str:
    """The report for people; it says counts of the source, so it is for the provider alone."""
    classes, risk = report["classes"], report["risk"]["prosecutor"]
    lines = [
        f"{report['units']:,} units in {classes['count']:,} classes; k = {classes['k']:,}; "
        f"{report['uniqueness']['units']:,} unique",
        "share of units in classes under "
        + ", ".join(f"{size}: {told['share']['decimal']}" for size, told in classes["under"].items()),
        f"re-identification risk at most {risk['most']['decimal']}, on average {risk['mean']['decimal']}",
        *(
            f"{item['name']}: l = {item['diversity']['distinct']} (entropy {item['diversity']['entropy']}), "
            f"t = {item['closeness']['t']['decimal']} ({item['closeness']['distance']} distance)"
            for item in report["sensitive"]
        ),
    ]
    if report["direct_identifiers"]:
        lines.append(f"direct identifiers: {', '.join(report['direct_identifiers'])}")
    if report["not_assessed"]:
        lines.append(f"not assessed: {', '.join(report['not_assessed'])}")
    lines.append(
        f"level {report['level']} after {report['scheme']}, at a threshold of {report['threshold']['decimal']}"
    )
    lines.append(f"{path} (keep it to yourself); card: anonymisation: {{report: {named}, file: {path.name}}}")
    return "\n".join(lines)
