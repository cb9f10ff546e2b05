# SPDX-License-Identifier: Apache-2.0
"""`weir datasets`: the catalogue, a card, an export for other catalogues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from weir.amounts import format_epsilon, format_price, format_rho
from weir_client._catalogue import Dataset, Dimension, Measure, Snapshot
from weir_client._values import RateCard
from weir_client.cli.new_files import demand_new_file
from weir_client.cli.output import Session, connected, table

_SHOW = "show"


def register(group: click.Group) -> None:
    """Adds the commands."""
    group.add_command(datasets)


class _Datasets(click.Group):
    """A first word that is no command is a dataset's name: `weir datasets clinic` is `weir datasets show clinic`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As a group, with `show` put in front where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = [_SHOW, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Datasets)
def datasets() -> None:
    """List datasets, show the card of one, or export them for other catalogues."""


@datasets.command(_SHOW)
@click.argument("name", required=False)
@click.option("--search", help="Only datasets in whose card all these words stand.")
@connected
def show(session: Session, name: str | None, search: str | None) -> None:
    """List datasets, or show the card of one; what `weir datasets` does by itself."""
    with session.client() as client:
        if name is not None:
            card = client.dataset(name)
            session.show(card, lambda: _card(card))
            return
        found = client.datasets(search)
    names = ("name", "title", "grade", "modes", "snapshot", "published")
    rows = [(card.name, card.title, _grade(card), " ".join(card.modes), *_newest(card)) for card in found]
    session.show(found, lambda: table(names, rows, empty="No dataset fits."))


@datasets.command("export")
@click.argument("name", required=False)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["dcat", "odcs"]),
    default="dcat",
    show_default=True,
    help="dcat: DCAT-3 as JSON-LD. odcs: one dataset as an Open Data Contract in YAML.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it here; a new file.")
@connected
def export(session: Session, name: str | None, kind: str, output: Path | None) -> None:
    """Export the catalogue, or one dataset of it. Public facts only."""
    if output is not None:
        demand_new_file(output)
    with session.client() as client:
        document = client.export_catalogue(kind, name)
    if output is None:
        click.echo(document, nl=False)
        return
    output.write_text(document, encoding="utf-8")
    session.show({"file": str(output), "format": kind, "dataset": name or ""}, f"written to {output}")


def _newest(card: Dataset) -> tuple[object, object]:
    return (card.snapshots[0].version, _day(card.snapshots[0])) if card.snapshots else (None, None)


def _day(snapshot: Snapshot) -> str:
    return "" if snapshot.published is None else f"{snapshot.published:%Y-%m-%d %H:%M}"


def _grade(card: Dataset) -> str:
    held = card.effective_grade or card.grade
    return held if held == card.grade else f"{held} (card: {card.grade})"


def _card(card: Dataset) -> str:
    return "\n".join(
        (
            f"{card.name}: {card.title}",
            card.description,
            "",
            *(f"{name:<22}{text}" for name, text in _facts(card) if text),
            "",
            table(
                ("dimension", "type", "cells", "grade", "title"),
                [(d.name, _kind(d), _cells(d.cells), _column_grade(card, d), d.title) for d in card.dimensions],
                empty="No dimensions.",
            ),
            "",
            table(
                ("measure", "mode", "from", "to", "unit", "aggregates", "grade", "title"),
                [
                    (m.name, m.mode, m.lower, m.upper, m.unit, " ".join(m.aggregates), _column_grade(card, m), m.title)
                    for m in card.measures
                ],
                empty="No measures.",
            ),
            "",
            table(
                ("snapshot", "published", "manifest"),
                [(s.version, _day(s), f"sha256:{s.manifest_digest[:16]}…") for s in card.snapshots],
                empty="No snapshots.",
            ),
        )
    )


def _facts(card: Dataset) -> Iterator[tuple[str, str]]:
    """Lines of a card in the order of what a reader decides by; empty ones are left out."""
    yield "grade", f"{_grade(card)} ({card.grading_scheme})"
    if card.certified_until is not None:
        yield "regraded until", f"{card.certified_until:%Y-%m-%d %H:%M}"
    yield "modes", " ".join(card.modes) or "none: catalogued only"
    yield "unit", card.unit + (f" ({card.unit_namespace})" if card.unit_namespace else "")
    yield "personal information", "yes" if card.personal_information else "no"
    yield "legal basis", card.legal_basis
    if card.processing_basis:
        yield "rests on", f"{card.processing_basis} {card.basis_digest[:16]}…"
    yield "responsible", card.responsible
    yield "from", card.provenance
    yield "derived from", ", ".join(card.derived_from)
    yield "renewed", card.update_frequency
    yield "keywords", ", ".join(card.keywords)
    yield "lineage", card.lineage
    yield "privacy budget", _account(card)
    yield "list prices", "" if card.list_rates is None else _prices(card.list_rates)
    for name in sorted(card.quality):
        yield f"quality: {name}", card.quality[name]


def _account(card: Dataset) -> str:
    account = card.privacy_account
    if account is None:
        return ""
    if account.accounting == "pure":
        return f"ε {format_epsilon(account.lifetime)} for life, pure"
    return f"ρ {format_rho(account.lifetime)} for life (zCDP); a query states ε at δ = 1e-{account.delta_digits}"


def _prices(rates: RateCard) -> str:
    parts = (
        ("query", rates.per_query_micro),
        ("cell", rates.per_cell_micro),
        ("ε", rates.per_epsilon_micro),
        ("encrypted operation", rates.per_encrypted_operation_micro),
    )
    return f"{rates.currency} " + (
        ", ".join(f"{format_price(price)} a {what}" for what, price in parts if price) or "0"
    )


def _kind(dimension: Dimension) -> str:
    if dimension.coarsens:
        return f"{dimension.type}, of {dimension.coarsens}"
    return f"{dimension.type}, by row" if dimension.row_level else dimension.type


def _column_grade(card: Dataset, column: Dimension | Measure) -> str:
    grade = column.grade if column.grade != "unspecified" else card.grade
    return f"{grade} ({column.grading_scheme})" if column.grading_scheme else grade


def _cells(cells: tuple[object, ...]) -> str:
    shown = ", ".join("null" if cell is None else str(cell) for cell in cells[:6])
    return shown if len(cells) <= 6 else f"{shown}, … ({len(cells)})"
