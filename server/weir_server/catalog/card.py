# SPDX-License-Identifier: Apache-2.0
"""The dataset card as values: everything that is public about a dataset, declared by its provider.

A card says how rows become one record per privacy unit, which dimensions and measures exist, their public domains and
bounds, and how the dataset may be released. All numbers of a measure live on its declared grid: an integer count of
10**-scale steps, so that no float stands between data and answer.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from weir.query import Function, LiteralValue
from weir_server.catalog.basis import Anonymisation, Consent
from weir_server.catalog.rates import Rates

DELIMITERS = {",": ",", ";": ";", "|": "|", "tab": "\t"}
"""What separates the fields of a CSV file, by the card's word for it."""
FREQUENCIES = ("daily", "weekly", "monthly", "quarterly", "yearly", "irregular")
"""Words for how often a dataset is renewed."""
K_FLOOR = 10
"""Least number of units in an atom; a red line (DESIGN §4)."""


class Grade(enum.Enum):
    """Grade of data; the order is the strictness."""

    GENERAL = 1
    IMPORTANT = 2
    CORE = 3


class Mode(enum.Enum):
    """How a query is answered; values are the words of contracts and logs."""

    EXACT = "exact"
    DP = "dp"
    ENCRYPTED = "encrypted"


class Reduction(enum.Enum):
    """How the rows of one unit become one value."""

    CONSTANT = "constant"
    """The same in all rows of the unit, or publication is refused (dimensions)."""
    FIRST = "first"
    """The value of the unit's first row by `order`."""
    SUM = "sum"
    COUNT = "count"
    """Number of rows where the column is not null."""
    MAX = "max"


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Reduction of a column over the rows of a unit."""

    reduction: Reduction
    order: str | None = None
    """Source column that orders rows, for FIRST; ties are refused at publication."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One declared value or bin of a dimension."""

    value: LiteralValue | None
    """The value as a query writes it; for a bin its lower end; None for the null cell."""
    label: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """A public attribute to filter and group by."""

    name: str
    title: str
    type: str
    """`integer`, `text` or `boolean`: type of its literals."""
    cells: tuple[Cell, ...]
    """All declared cells, in order; at most one null cell, last."""
    column: str = ""
    """Source column; empty for a dimension that coarsens another."""
    per_unit: PerUnit = PerUnit(Reduction.CONSTANT)
    """How it becomes one value per unit. Without meaning for row-level dimensions."""
    row_level: bool = False
    """True where rows of one unit may differ: dp only."""
    edges: tuple[int, ...] = ()
    """For bins of a numeric column: len(cells) + 1 ascending integers (null cell not counted); a value v falls in
    bin i when edges[i] <= v < edges[i + 1]. Values outside are clipped into the first or last bin."""
    coarsens: str | None = None
    """Base dimension whose cells it groups; None for a base dimension."""
    mapping: tuple[int, ...] = ()
    """For a coarsening: for each cell of the base dimension, the index of this dimension's cell."""
    grade: Grade = Grade.GENERAL
    grading_scheme: str = ""
    """Scheme the grade is meant in; empty for the dataset's."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with declared bounds."""

    name: str
    title: str
    unit: str
    """Unit of measurement, for example `USD`."""
    column: str
    mode: Mode
    """EXACT or DP: a lineage never offers one measure both ways."""
    scale: int
    """Decimal digits of the grid, 0 to 18."""
    lower: int
    """Least value after clipping, in grid steps. |lower|, |upper| < 2**62."""
    upper: int
    """Greatest value after clipping, in grid steps."""
    per_unit: PerUnit = PerUnit(Reduction.SUM)
    """Exact: how it becomes one value per unit, clipped to the bounds afterwards. dp: without meaning; rows are
    clipped one by one, and the rows of a unit are bounded in number."""
    level: tuple[str, LiteralValue] | None = None
    """Exact: only rows whose column equals this value count (a measure per level of a row-level column)."""
    statistics: frozenset[Function] = frozenset({Function.SUM, Function.AVG})
    """Aggregates it can be asked for."""
    buckets: tuple[int, ...] = ()
    """Ascending edges in grid steps, first = lower, last = upper, for HISTOGRAM and QUANTILE; the last bucket
    includes its upper end."""
    width: int = 0
    """Exact: least length of the interval that must remain possible for any member of an atom, in grid steps."""
    rounding: str = "refuse"
    """What happens to source values off the grid: `refuse`, or `half_even` (exactly, on the decimal; counted)."""
    missing: int | None = None
    """Exact: value in grid steps that stands for a missing one; None: missing ones are refused. dp: nulls stay null."""
    grade: Grade = Grade.GENERAL
    grading_scheme: str = ""
    """Scheme the grade is meant in; empty for the dataset's."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Contribution bounds of the dp mode."""

    rows_per_unit: int = 1
    """Most rows of one unit that count, chosen at random by rank."""
    groups_per_unit: Mapping[str, int] = field(default_factory=dict)
    """For each row-level dimension: most of its cells that one unit may appear in."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where `publish` reads; never reachable from a query."""

    kind: str
    """`csv`, `parquet`, `duckdb`, `postgres` or `spark`."""
    location: str
    """Path (relative to the card); for postgres, the name of an environment variable with the connection string; for
    spark, `table:` with a table of the metastore or `parquet:` with a path that the cluster reads."""
    table: str = ""
    """Table, for duckdb and postgres; `schema.table` allowed."""
    delimiter: str = ","
    """csv: what separates fields, `,` `;` `|` or `tab`."""


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """Everything declared about one dataset."""

    name: str
    title: str
    description: str
    grade: Grade
    grading_scheme: str
    personal_information: bool
    legal_basis: str
    responsible: str
    provenance: str
    lineage: str
    """Name under which the lifetime privacy budget is kept, over all datasets of one origin."""
    unit_name: str
    unit_column: str
    source: Source
    dimensions: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    keywords: tuple[str, ...] = ()
    k: int = K_FLOOR
    """Least number of units in an atom."""
    coarsening: tuple[tuple[str, str | None], ...] = ()
    """Exact: public order in which small cells climb: (base dimension, coarser dimension) or (base dimension, None)
    to drop the dimension. Steps accumulate."""
    coalition: int = 1
    """Exact: members of an atom who may pool their own values; the width must hold against any that many."""
    residual: str = "drop"
    """Exact: `atom` joins what is left after the last step into one atom, `drop` leaves it out."""
    bounds: Bounds = Bounds()
    """dp: contribution bounds."""
    accounting: str = "pure"
    """dp: how losses are planned and which account of the lineage binds. `pure`: discrete Laplace, epsilon.
    `concentrated`: discrete Gaussian, zCDP, rho; a requester then states epsilon at `delta_digits`."""
    epsilon_lifetime: int = 0
    """dp, pure: lifetime privacy budget of the lineage in nano-epsilon; 0 elsewhere."""
    rho_lifetime: int = 0
    """dp, concentrated: lifetime privacy budget of the lineage in micro-rho; 0 elsewhere."""
    delta_digits: int = 9
    """dp, concentrated: one release of stated epsilon is (epsilon, 10**-delta_digits)-dp. 1 to 30."""
    report_epsilon: int = 0
    """dp: pure loss in nano-epsilon that each publication spends on saying how much the bounds drop; 0: it says
    nothing of that."""
    unit_namespace: str = ""
    """What the unit column's identifiers are names in, for example `national-id`: datasets that share it speak of the
    same units. Empty: of its own."""
    contact: str = ""
    """Where `responsible` is reached: an e-mail address or a web address; may be empty."""
    licence: str = ""
    """IRI of the licence of what is released; empty where contracts alone say."""
    quality: Mapping[str, str] = field(default_factory=dict)
    """Statements on quality: short name to sentence."""
    update_frequency: str = ""
    """How often it is renewed, one of `FREQUENCIES`; empty where nothing is said."""
    list_rates: Rates | None = None
    """List prices; what a contract states is what is charged. None where none are declared."""
    consent: Consent | None = None
    """Register of consents, applied at publication."""
    anonymisation: Anonymisation | None = None
    """Report that the source was de-identified."""
    derived_from: tuple[str, ...] = ()
    """Datasets that it was made from: it has at least their grade, unless a certificate regrades it."""

    def dimension(self, name: str) -> Dimension | None:
        """The dimension of that name, or None."""
        return next((item for item in self.dimensions if item.name == name), None)

    def measure(self, name: str) -> Measure | None:
        """The measure of that name, or None."""
        return next((item for item in self.measures if item.name == name), None)

    @property
    def concentrated(self) -> bool:
        """Whether losses add up in rho."""
        return self.accounting == "concentrated"

    @property
    def budget_metric(self) -> Literal["epsilon_nano", "rho_micro"]:
        """The account of the lineage that binds: without a lifetime budget in it, nothing is answered with dp."""
        return "rho_micro" if self.concentrated else "epsilon_nano"

    @property
    def budget_lifetime(self) -> int:
        """Lifetime budget of the lineage in `budget_metric`; 0 where nothing is released with dp."""
        return self.rho_lifetime if self.concentrated else self.epsilon_lifetime

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Modes it can be asked in under its own grade."""
        return modes_under(self, self.grade)


def declared_columns(card: DatasetCard) -> tuple[str, ...]:
    """Every source column the card names, once each, unit first."""
    columns: dict[str, None] = {card.unit_column: None}
    for dimension in card.dimensions:
        columns |= dict.fromkeys(c for c in (dimension.column, dimension.per_unit.order) if c)
    for measure in card.measures:
        level = None if measure.level is None else measure.level[0]
        columns |= dict.fromkeys(c for c in (measure.column, measure.per_unit.order, level) if c)
    return tuple(columns)


def modes_under(card: DatasetCard, grade: Grade) -> tuple[Mode, ...]:
    """Modes in which a dataset of that grade is answered, by measures declared (DESIGN §4)."""
    if grade is Grade.CORE:
        return ()
    offered = {measure.mode for measure in card.measures}
    plain = [mode for mode in (Mode.EXACT, Mode.DP) if mode in offered]
    allowed = [mode for mode in plain if mode is Mode.DP or grade is Grade.GENERAL]
    return (*allowed, Mode.ENCRYPTED) if allowed else ()
