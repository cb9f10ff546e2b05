# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Equivalence classes of units, and what is measured on them, out of core and without a float.

The engine sums 128-bit integers; ratios are formed from them here. For a class of n of N units:

* *distinct l*: number of values (Machanavajjhala et al., l-Diversity, 2007, section 4).
* *entropy l*: e^H = n / Π c^(c/n) over the counts c of its values. Logarithms are integers of 10^-18.
* *t* of unordered values: half the sum of |c/n - C/N| over all values, C counted over all units; of ordered values: the
  mean of |P - Q| over all but the last of the m distinct values, P and Q the cumulated shares (Li, Li and
  Venkatasubramanian, t-Closeness, 2007, sections 5.1 and 5.2). Between two values that a class holds, P is constant, so
  the sum needs the cumulated counts at the ends and at the one place where P - Q changes its sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from weir.errors import PublicationError, Violation
from weir_server.assess.attributes import Attribute
from weir_server.catalog.card import DatasetCard
from weir_server.engine.duckdb import Engine
from weir_server.publish.grid import unit_key
from weir_server.publish.source import RAW

_UNITS, _CLASSES, _MEMBERS = "assess_units", "assess_classes", "assess_members"
_ENDS = "assess_ends"
_LOG_UNIT = 10**18
_DIGITS = 60


@dataclass(frozen=True, slots=True)
class Sizes:
    """Classes by size."""

    units: int
    """Units in all."""
    complete: int
    """Units that lack no quasi-identifier."""
    classes: tuple[tuple[int, int], ...]
    """(size, number of classes of it), by size; sizes of at least 1."""

    @property
    def count(self) -> int:
        """Number of classes."""
        return sum(number for _, number in self.classes)

    @property
    def least(self) -> int:
        """k: size of the smallest class."""
        return self.classes[0][0]

    def units_under(self, size: int) -> int:
        """Units in classes of fewer than `size`."""
        return sum(n * number for n, number in self.classes if n < size)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a sensitive attribute varies within classes; each is the worst class's."""

    values: int
    """Distinct values over all units."""
    distinct: int
    entropy: Decimal
    """e^H to six digits."""
    t: Fraction


def build(card: DatasetCard, *, engine: Engine, quasi: Sequence[Attribute], sensitive: Sequence[Attribute]) -> Sizes:
    """One row a unit, then classes, from `source_raw`.

    Raises:
        PublicationError: a row names no unit, or there is none.
    """
    missing = int(engine.one(f"SELECT count(*) FROM {RAW} WHERE {unit_key(card)} IS NULL"))
    if missing:
        violation = Violation("unit.missing", card.unit_column, missing, "every row names its unit")
        raise PublicationError("rows without a unit", violations=(violation,), rule="unit.missing")
    values = [f"{item.value} AS weir_q_{i}" for i, item in enumerate(quasi)]
    values += [f"{item.value} AS weir_s_{i}" for i, item in enumerate(sensitive)]
    values.append(f"{' OR '.join(item.missing for item in quasi)} AS weir_lacks")
    engine.run(f"CREATE TABLE {_UNITS} AS SELECT {', '.join(values)} FROM {RAW} GROUP BY {unit_key(card)}")
    keys = ", ".join(f"weir_q_{i}" for i in range(len(quasi)))
    engine.run(
        f"CREATE TABLE {_CLASSES} AS SELECT {keys}, count(*) AS n, row_number() OVER () AS class "
        f"FROM {_UNITS} GROUP BY {keys}"
    )
    chosen = "".join(f", weir_s_{i}" for i in range(len(sensitive)))
    engine.run(f"CREATE TABLE {_MEMBERS} AS SELECT class, n{chosen} FROM {_UNITS} JOIN {_CLASSES} USING ({keys})")
    found = engine.query(f"SELECT n, count(*) FROM {_CLASSES} GROUP BY n ORDER BY n")
    if not found:
        raise PublicationError("the source holds no unit", rule="assess.empty")
    complete = int(engine.one(f"SELECT count(*) FROM {_UNITS} WHERE NOT weir_lacks"))
    classes = tuple((int(n), int(count)) for n, count in found)
    return Sizes(sum(n * count for n, count in classes), complete, classes)


def spread(engine: Engine, *, index: int, attribute: Attribute, units: int) -> Spread:
    """How the sensitive attribute `index` varies within classes."""
    engine.run(
        f"CREATE OR REPLACE TABLE assess_counts AS SELECT class, any_value(n) AS n, weir_s_{index} AS v, count(*) AS c "
        f"FROM {_MEMBERS} GROUP BY class, v"
    )
    engine.run(
        "CREATE OR REPLACE TABLE assess_totals AS SELECT v, sum(c) AS total, "
        "sum(sum(c)) OVER (ORDER BY v) AS upto, row_number() OVER (ORDER BY v) AS rank FROM assess_counts GROUP BY v"
    )
    values = int(engine.one("SELECT count(*) FROM assess_totals"))
    distinct = int(engine.one("SELECT min(d) FROM (SELECT count(*) AS d FROM assess_counts GROUP BY class)"))
    t = _ordered(engine, units, values) if attribute.ordered else _unordered(engine, units)
    return Spread(values, distinct, _entropy(engine), t)


def _worst(engine: Engine, per_class: str, units: int) -> Fraction:
    """The largest of e / (n N) over classes, of integers e in rows (n, e)."""
    rows = engine.query(f"SELECT n, max(e) FROM ({per_class}) GROUP BY n")
    return max(Fraction(int(e), int(n) * units) for n, e in rows)


def _unordered(engine: Engine, units: int) -> Fraction:
    # Values that a class lacks add C·n each: all of them together n·N, less what the present ones would have added.
    per_class = (
        f"SELECT any_value(n) AS n, sum(abs(CAST(c AS HUGEINT) * {units} - CAST(total AS HUGEINT) * n) "
        f"- CAST(total AS HUGEINT) * n) + CAST({units} AS HUGEINT) * any_value(n) AS e "
        "FROM assess_counts JOIN assess_totals USING (v) GROUP BY class"
    )
    return _worst(engine, per_class, units) / 2


def _ordered(engine: Engine, units: int, values: int) -> Fraction:
    if values == 1:
        return Fraction(0)
    # below: sum of the cumulated counts of all ranks before this one.
    engine.run(
        "CREATE OR REPLACE TABLE assess_sums AS SELECT rank, CAST(upto AS BIGINT) AS upto, "
        "CAST(coalesce(sum(upto) OVER (ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS HUGEINT) "
        "AS below FROM assess_totals"
    )
    # A segment: ranks first to next - 1, where the class has reached `a` of its n. It turns where upto·n >= a·N.
    engine.run(
        f"CREATE OR REPLACE TABLE assess_segments AS WITH present AS (SELECT class, n, c, rank FROM assess_counts "
        f"JOIN assess_totals USING (v)), "
        "steps AS (SELECT class, n, rank AS first, CAST(sum(c) OVER w AS BIGINT) AS a, "
        f"coalesce(lead(rank) OVER w, {values + 1}) AS next FROM present "
        "WINDOW w AS (PARTITION BY class ORDER BY rank) "
        "UNION ALL SELECT class, any_value(n), 1, 0, min(rank) FROM present GROUP BY class) "
        f"SELECT class, n, first, next, a, CAST((CAST(a AS HUGEINT) * {units} + n - 1) // n AS BIGINT) AS turn "
        "FROM steps WHERE first < next"
    )
    engine.run(
        f"CREATE OR REPLACE TABLE {_ENDS} AS SELECT rank, below FROM assess_sums "
        f"UNION ALL SELECT {values + 1}, CAST(max(below) + max(upto) AS HUGEINT) FROM assess_sums"
    )
    turned = (
        "SELECT s.class, s.n, s.first, s.next, CAST(s.a AS HUGEINT) AS a, "
        f"least(greatest(coalesce(u.rank, {values + 1}), s.first), s.next) AS middle "
        "FROM assess_segments s ASOF LEFT JOIN assess_sums u ON s.turn <= u.upto"
    )
    # Before `middle` the class is ahead (a·N - n·upto), from there on behind.
    per_class = (
        f"SELECT t.n AS n, a * {units} * ((middle - first) - (next - middle)) "
        "+ t.n * ((z.below - y.below) - (y.below - x.below)) AS part, class "
        f"FROM ({turned}) t JOIN {_ENDS} x ON x.rank = first JOIN {_ENDS} y ON y.rank = middle "
        f"JOIN {_ENDS} z ON z.rank = next"
    )
    summed = f"SELECT any_value(n) AS n, sum(part) AS e FROM ({per_class}) GROUP BY class"
    return _worst(engine, summed, units) / (values - 1)


def _entropy(engine: Engine) -> Decimal:
    """e^H of the class where it is least, to six digits."""
    engine.run("CREATE OR REPLACE TABLE assess_logs (c BIGINT, l HUGEINT)")
    counts = [int(row[0]) for row in engine.query("SELECT DISTINCT c FROM assess_counts ORDER BY c")]
    for start in range(0, len(counts), 1000):
        pairs = ", ".join(f"({c}, CAST('{_count_log(c)}' AS HUGEINT))" for c in counts[start : start + 1000])
        engine.run(f"INSERT INTO assess_logs VALUES {pairs}")
    rows = engine.query(
        "SELECT n, max(e) FROM (SELECT any_value(n) AS n, sum(l) AS e FROM assess_counts JOIN assess_logs USING (c) "
        "GROUP BY class) GROUP BY n"
    )
    with localcontext(prec=_DIGITS):
        least = min(Fraction(_count_log(int(n)) - int(e), int(n) * _LOG_UNIT) for n, e in rows)
        return (Decimal(least.numerator) / Decimal(least.denominator)).exp().quantize(Decimal("0.000001"))


def _count_log(count: int) -> int:
    """count · ln(count) in steps of 10^-18, to the nearest."""
    with localcontext(prec=_DIGITS):
        return int((count * Decimal(count).ln() * _LOG_UNIT).to_integral_value())
