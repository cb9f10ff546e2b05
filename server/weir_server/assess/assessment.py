# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""`weir assess`: how far the units of a card's source can be told apart, as a report that names that very source.

Re-identification risk by class of n units, after El Emam, Guide to the De-Identification of Personal Health
Information, 2013: *prosecutor* (the adversary knows that somebody is among the units) 1/n; *journalist* (it does not;
the population has P units) estimated as N/P of that, as if the population were spread like the sample; *marketer*, the
share of units that a matching of all would get right, number of classes / N, and of the population's / P.

The level is decided by the strictest of them, the greatest prosecutor risk, so that it rests on no guess about others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from weir.canonical import canonical_json
from weir.certificates import REPORT_FORMAT
from weir.errors import InvalidRequest, PublicationError
from weir_server.assess.attributes import Attribute, attributes
from weir_server.assess.classes import Sizes, Spread, build, spread
from weir_server.assess.report import SCHEME, ratio_json
from weir_server.catalog.basis import MOST_RISK_PPM
from weir_server.catalog.card import K_FLOOR, DatasetCard, Dimension, Measure, declared_columns
from weir_server.engine.duckdb import Engine, open_engine
from weir_server.engine.relational import expression, identifier, quote
from weir_server.publish.files import temporary_directory
from weir_server.publish.grid import number_of
from weir_server.publish.grounds import source_fingerprint
from weir_server.publish.place import Place
from weir_server.publish.publisher import MEMORY
from weir_server.publish.source import RAW, read_columns, source_path

_UNDER = (2, 5, 10, 20)
_THRESHOLD = Fraction(MOST_RISK_PPM, 10**6)
_PATTERNS = {
    "email": r"[^@\s]+@[^@\s]+\.[^@\s]+",
    "mobile": r"(\+?86)?1[3-9]\d{9}",
    "resident_id": r"[1-9]\d{5}(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])\d{3}[\dXx]",
}
"""Direct identifiers that are known by their form: a column half of whose values have it is taken for one."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is to be assessed. Names as `attributes.attribute` reads them."""

    quasi: tuple[str, ...]
    """Quasi-identifiers, at least one."""
    sensitive: tuple[str, ...] = ()
    direct: tuple[str, ...] = ()
    """Source columns that identify people by themselves."""
    population: int | None = None
    """Units of the population that the source is a sample of; at least its units."""
    group_size: str = ""
    """Source column with the number of people that a unit is an aggregate of; empty where units are people."""


def assess(
    card: DatasetCard, questions: Questions, *, card_directory: Path, data_dir: Path, salt: bytes,
    source_override: Path | None = None, threads: int = 2,
) -> bytes:  # fmt: skip
    """The report, in its bytes. Reads the source as `publish` does; nothing of it remains.

    Raises:
        InvalidRequest: a name that the card does not know, or a population smaller than the source.
        PublicationError: the source is unreadable, or a row names no unit.
    """
    _check(card, questions)
    if card.source.kind == "spark":
        raise PublicationError(
            "sources on a cluster are not assessed: assess a Parquet copy, inside the domain", rule="assess.source"
        )
    quasi, sensitive = attributes(card, questions.quasi), attributes(card, questions.sensitive)
    path = source_path(card.source, card_directory=card_directory, override=source_override)
    with temporary_directory(data_dir / "publishing", f"{card.name}.assess") as work:
        engine = open_engine(
            work / "work.duckdb",
            read_only=False,
            threads=threads,
            memory_limit=MEMORY,
            temp_directory=work / "spill",
            directories=[work, *([] if path is None else [path.parent])],
        )
        with engine:
            here = Place(engine, None, salt, card.name)
            rows = read_columns(card.source, declared_columns(card), target=RAW, place=here, path=path, work=work)
            sizes = build(card, engine=engine, quasi=quasi, sensitive=sensitive)
            spreads = [spread(engine, index=i, attribute=a, units=sizes.units) for i, a in enumerate(sensitive)]
            found = _Found(rows, sizes, tuple(zip(sensitive, spreads, strict=True)), _direct(card, questions, engine))
            least_group = None if not questions.group_size else _least(questions.group_size, engine)
            named = source_fingerprint(card, engine, salt=salt)
    if questions.population is not None and questions.population < sizes.units:
        raise InvalidRequest("the population is smaller than the source", field="population", rule="assess.population")
    return canonical_json(_report(card, questions, quasi, found, least_group=least_group, fingerprint=named))


@dataclass(frozen=True, slots=True)
class _Found:
    rows: int
    sizes: Sizes
    spreads: tuple[tuple[Attribute, Spread], ...]
    direct: tuple[str, ...]


def _check(card: DatasetCard, questions: Questions) -> None:
    if not questions.quasi:
        raise InvalidRequest("name at least one quasi-identifier", field="quasi_identifiers", rule="assess.quasi")
    both = set(questions.quasi) & set(questions.sensitive)
    if both:
        raise InvalidRequest(
            f"{', '.join(sorted(both))} cannot be both quasi-identifier and sensitive", field="sensitive",
            rule="assess.both",
        )  # fmt: skip
    for name in (*questions.direct, *filter(None, [questions.group_size])):
        if name not in declared_columns(card):
            raise InvalidRequest(
                f"{name!r:.60} is no source column that the card declares: publication does not read it",
                field="direct_identifiers",
                rule="assess.column",
            )


def _direct(card: DatasetCard, questions: Questions, engine: Engine) -> tuple[str, ...]:
    """Declared columns that identify people by themselves: those named, and those known by their form."""
    found = set(questions.direct)
    for column in declared_columns(card):
        text = f"trim(CAST({identifier(column)} AS VARCHAR))"
        counts = ", ".join(
            f"count(*) FILTER (WHERE regexp_full_match({text}, {quote(pattern)}))" for pattern in _PATTERNS.values()
        )
        given, *matches = engine.query(f"SELECT count({identifier(column)}), {counts} FROM {RAW}")[0]
        if any(2 * int(count) >= int(given) > 0 for count in matches):
            found.add(column)
    return tuple(sorted(found))


def _least(column: str, engine: Engine) -> int:
    """Smallest group that a unit speaks of; 0 where any unit does not say."""
    number = expression(number_of(column))
    least = engine.one(
        f"SELECT CASE WHEN count({number}) = count(*) THEN CAST(floor(min({number})) AS HUGEINT) ELSE 0 END FROM {RAW}"
    )
    return max(int(least or 0), 0)


def level_of(*, direct: Sequence[str], risk: Fraction, least_group: int | None) -> int:
    """Level after GB/T 42460-2023: 1 directly identifying, 2 risk above the threshold, 3 at most, 4 aggregated."""
    if direct:
        return 1
    if least_group is not None:
        return 4 if least_group >= K_FLOOR else 2
    return 3 if risk <= _THRESHOLD else 2


def _report(
    card: DatasetCard, questions: Questions, quasi: Sequence[Attribute], found: _Found, *, least_group: int | None,
    fingerprint: str,
) -> dict[str, Any]:  # fmt: skip
    sizes = found.sizes
    risk = Fraction(0) if least_group is not None and least_group >= K_FLOOR else Fraction(1, sizes.least)
    level = level_of(direct=found.direct, risk=risk, least_group=least_group)
    named = {*questions.quasi, *questions.sensitive}
    declared: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    return {
        "format": REPORT_FORMAT,
        "dataset": card.name,
        "scheme": SCHEME,
        "level": level,
        "threshold": ratio_json(_THRESHOLD),
        "source": {"fingerprint": fingerprint, "columns": sorted(declared_columns(card)), "rows": found.rows},
        "units": sizes.units,
        "quasi_identifiers": [{"name": item.name, "kind": item.kind} for item in quasi],
        "sensitive": [_sensitive(attribute, spread) for attribute, spread in found.spreads],
        "direct_identifiers": list(found.direct),
        "not_assessed": sorted(item.name for item in declared if item.column and not {item.name, item.column} & named),
        "coverage": {"complete_units": sizes.complete, "share": _share(sizes.complete, sizes)},
        "classes": _classes(sizes),
        "uniqueness": {"units": sizes.units_under(2), "share": _share(sizes.units_under(2), sizes)},
        "risk": _risk(questions.population, sizes, risk),
        "aggregated_over": least_group,
    }


def _sensitive(attribute: Attribute, spread: Spread) -> dict[str, Any]:
    return {
        "name": attribute.name,
        "kind": attribute.kind,
        "values": spread.values,
        "diversity": {"distinct": spread.distinct, "entropy": str(spread.entropy)},
        "closeness": {"distance": "ordered" if attribute.ordered else "equal", "t": ratio_json(spread.t)},
    }


def _classes(sizes: Sizes) -> dict[str, Any]:
    return {
        "count": sizes.count,
        "k": sizes.least,
        "sizes": [list(pair) for pair in sizes.classes],
        "under": {
            str(size): {"units": sizes.units_under(size), "share": _share(sizes.units_under(size), sizes)}
            for size in _UNDER
        },
    }


def _risk(population: int | None, sizes: Sizes, most: Fraction) -> dict[str, Any]:
    mean = Fraction(sizes.count, sizes.units)
    above = sum(n * number for n, number in sizes.classes if most and Fraction(1, n) > _THRESHOLD)
    told: dict[str, Any] = {
        "prosecutor": {"most": ratio_json(most), "mean": ratio_json(mean), "above_threshold": _share(above, sizes)},
        "marketer": ratio_json(mean),
        "population": population,
    }
    if population is not None:
        sampled = Fraction(sizes.units, population)
        told["journalist"] = {"most": ratio_json(most * sampled), "mean": ratio_json(mean * sampled)}
        told["marketer"] = ratio_json(mean * sampled)
    return told


def _share(units: int, sizes: Sizes) -> dict[str, str]:
    return ratio_json(Fraction(units, sizes.units))
