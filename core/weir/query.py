# SPDX-License-Identifier: Apache-2.0
"""The typed query: the only form in which a question is approved, priced, charged and logged.

Nodes are frozen and validate themselves. `canonicalise` brings a query into the one form that all its rewritings
share: groups and aggregates sorted and distinct, NOT pushed into the leaves (which keeps SQL's three-valued meaning),
AND/OR flattened, sorted and distinct. Presentation (column order, aliases, ORDER BY, LIMIT) is no part of a query.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from weir.errors import InvalidQuery

MAX_NODES = 500
MAX_DEPTH = 32
MAX_LIST = 1000
MAX_LITERALS = 5000
"""Most literals in all lists of one predicate together."""
MAX_GROUPS = 8
MAX_AGGREGATES = 32
MAX_TEXT = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Function(enum.Enum):
    """What an aggregate computes; the values are the words of the canonical form."""

    COUNT = "count"
    COUNT_UNITS = "count_units"
    SUM = "sum"
    AVG = "avg"
    VARIANCE = "variance"
    STDDEV = "stddev"
    QUANTILE = "quantile"
    HISTOGRAM = "histogram"


WITHOUT_MEASURE = frozenset({Function.COUNT, Function.COUNT_UNITS})


class Operator(enum.Enum):
    """Comparison of a column with a literal."""

    EQUAL = "="
    NOT_EQUAL = "<>"
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


_CONTRARY = {
    Operator.EQUAL: Operator.NOT_EQUAL,
    Operator.NOT_EQUAL: Operator.EQUAL,
    Operator.LESS: Operator.GREATER_OR_EQUAL,
    Operator.GREATER_OR_EQUAL: Operator.LESS,
    Operator.GREATER: Operator.LESS_OR_EQUAL,
    Operator.LESS_OR_EQUAL: Operator.GREATER,
}

_TYPE_NAMES: dict[type, str] = {bool: "boolean", int: "integer", Decimal: "decimal", str: "text"}
LiteralValue = bool | int | Decimal | str
"""A constant. `bool` is not an integer here, and a Decimal is finite."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant of one of four types; equality respects the type (1 is not TRUE, nor 1.0)."""

    value: LiteralValue
    """int in [-2**63, 2**63), finite Decimal of at most 40 digits, str of at most 256 characters, or bool."""

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, bool):
            return
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InvalidQuery("an integer literal does not fit 64 bits", rule="literal.range")
        if isinstance(value, str) and (len(value) > MAX_TEXT or not value.isprintable()):
            raise InvalidQuery(
                f"a text literal must be printable and of at most {MAX_TEXT} characters", rule="literal.text"
            )
        if isinstance(value, Decimal) and not _is_short(value):
            raise InvalidQuery("a decimal literal must be finite, of at most 40 digits", rule="literal.decimal")

    def __eq__(self, other: object) -> bool:
        # Python holds True == 1 == Decimal(1); merging those would let one query stand for another.
        return isinstance(other, Literal) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(tuple(self.canonical()))

    @property
    def kind(self) -> str:
        """`boolean`, `integer`, `decimal` or `text`."""
        return _TYPE_NAMES[type(self.value)]

    def canonical(self) -> list[str | bool]:
        """JSON form; numbers as text, so that no reader rounds them."""
        if isinstance(self.value, bool):
            return ["boolean", self.value]
        if isinstance(self.value, Decimal):
            return ["decimal", _plain(self.value)]
        return [self.kind, str(self.value)]


def _is_short(value: Decimal) -> bool:
    """Whether the plain form, without exponent, has at most 40 digits."""
    if not value.is_finite() or not -40 <= value.adjusted() <= 40:
        return False
    return sum(character.isdigit() for character in format(value, "f")) <= 40


def _plain(value: Decimal) -> str:
    """Shortest plain form. Not `normalize`, which rounds at the context's precision and would merge literals."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def parse_decimal_literal(text: str) -> Literal:
    """Literal of decimal text as it travels.

    Raises:
        InvalidQuery: not a plain decimal.
    """
    if len(text) > 64 or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        raise InvalidQuery("a decimal literal must look like 12.50", rule="literal.decimal")
    try:
        return Literal(Decimal(text))
    except InvalidOperation as error:  # pragma: no cover - the pattern admits no such text
        raise InvalidQuery("a decimal literal must look like 12.50", rule="literal.decimal") from error


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column operator literal`; unknown where the column is null."""

    column: str
    operator: Operator
    literal: Literal

    def __post_init__(self) -> None:
        check_name(self.column, field="where")


@dataclass(frozen=True, slots=True)
class Membership:
    """`column [NOT] IN (literals)`; unknown where the column is null."""

    column: str
    literals: tuple[Literal, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        check_name(self.column, field="where")
        if not 1 <= len(self.literals) <= MAX_LIST:
            raise InvalidQuery(f"IN takes 1 to {MAX_LIST} literals", field="where", rule="predicate.list")


@dataclass(frozen=True, slots=True)
class IsNull:
    """`column IS [NOT] NULL`."""

    column: str
    negated: bool = False

    def __post_init__(self) -> None:
        check_name(self.column, field="where")


@dataclass(frozen=True, slots=True)
class AllOf:
    """AND of at least one operand."""

    operands: tuple[Predicate, ...]

    def __post_init__(self) -> None:
        if not self.operands:
            raise InvalidQuery("AND needs operands", field="where", rule="predicate.operands")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """OR of at least one operand."""

    operands: tuple[Predicate, ...]

    def __post_init__(self) -> None:
        if not self.operands:
            raise InvalidQuery("OR needs operands", field="where", rule="predicate.operands")


@dataclass(frozen=True, slots=True)
class Negation:
    """NOT; absent from canonical queries."""

    operand: Predicate


Predicate = Comparison | Membership | IsNull | AllOf | AnyOf | Negation


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate of a query."""

    function: Function
    measure: str | None = None
    """Measure aggregated; None exactly for COUNT and COUNT_UNITS."""
    quantile_ppm: int | None = None
    """Parts per million, 1 to 999,999, exactly for QUANTILE; 500,000 is the median."""
    weight: int = 1
    """Share of a dp budget relative to the query's other aggregates, 1 to 1000."""

    def __post_init__(self) -> None:
        if (self.measure is None) != (self.function in WITHOUT_MEASURE):
            raise InvalidQuery(
                f"{self.function.value} takes {'no' if self.measure else 'a'} measure",
                field="aggregates",
                rule="aggregate.measure",
            )
        if self.measure is not None:
            check_name(self.measure, field="aggregates")
        if (self.quantile_ppm is None) != (self.function is not Function.QUANTILE):
            raise InvalidQuery("only QUANTILE takes a rank", field="aggregates", rule="aggregate.quantile")
        if self.quantile_ppm is not None and not 0 < self.quantile_ppm < 1_000_000:
            raise InvalidQuery("a rank lies between 0 and 1", field="aggregates", rule="aggregate.quantile")
        if not 1 <= self.weight <= 1000:
            raise InvalidQuery("a weight is 1 to 1000", field="aggregates", rule="aggregate.weight")

    @property
    def name(self) -> str:
        """Name of the answer's column: `count`, `sum(visits)`, `quantile(visits,0.5)`."""
        if self.measure is None:
            return self.function.value
        if self.quantile_ppm is None:
            return f"{self.function.value}({self.measure})"
        rank = format(Decimal(self.quantile_ppm).scaleb(-6).normalize(), "f")
        return f"{self.function.value}({self.measure},{rank})"


@dataclass(frozen=True, slots=True)
class Query:
    """An aggregate query over one dataset. Validates shape and size, not meaning (that is binding)."""

    dataset: str
    aggregates: tuple[Aggregate, ...]
    group_by: tuple[str, ...] = ()
    where: Predicate | None = None
    snapshot: int = 0
    """Version to ask, or 0 for the latest."""

    def __post_init__(self) -> None:
        check_name(self.dataset, field="dataset")
        if not 1 <= len(self.aggregates) <= MAX_AGGREGATES:
            raise InvalidQuery(
                f"a query has 1 to {MAX_AGGREGATES} aggregates", field="aggregates", rule="query.aggregates"
            )
        if len(self.group_by) > MAX_GROUPS:
            raise InvalidQuery(f"at most {MAX_GROUPS} group keys", field="group_by", rule="query.groups")
        for name in self.group_by:
            check_name(name, field="group_by")
        if self.where is not None:
            check_size(self.where)


def check_name(name: str, *, field: str) -> None:
    """Refuse what cannot be a declared name; names never need quoting anywhere.

    Raises:
        InvalidQuery: not `[a-z][a-z0-9_]{0,62}`.
    """
    if not _NAME.fullmatch(name):
        raise InvalidQuery(
            "a name starts with a small letter and has at most 63 small letters, digits and underscores",
            field=field,
            rule="name.form",
        )


def check_size(predicate: Predicate) -> None:
    """Refuse a predicate of more than 500 nodes, 32 levels or 5,000 literals, before anything walks it recursively.

    Raises:
        InvalidQuery: too large or too deep.
    """
    nodes, literals, level = 0, 0, [predicate]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise InvalidQuery(f"a predicate has at most {MAX_NODES} nodes", field="where", rule="query.nodes")
        literals += sum(len(node.literals) for node in level if isinstance(node, Membership))
        if literals > MAX_LITERALS:
            raise InvalidQuery(
                f"a predicate lists at most {MAX_LITERALS} literals", field="where", rule="query.literals"
            )
        level = [child for node in level for child in children(node)]
        if not level:
            return
    raise InvalidQuery(f"a predicate is at most {MAX_DEPTH} levels deep", field="where", rule="query.depth")


def children(node: Predicate) -> tuple[Predicate, ...]:
    """Operands of a node; none for a leaf."""
    if isinstance(node, AllOf | AnyOf):
        return node.operands
    return (node.operand,) if isinstance(node, Negation) else ()


def leaves(node: Predicate | None) -> Iterator[Comparison | Membership | IsNull]:
    """The comparisons of a predicate, left to right."""
    if node is None:
        return
    if isinstance(node, Comparison | Membership | IsNull):
        yield node
    for child in children(node):
        yield from leaves(child)


def canonicalise(query: Query) -> Query:
    """The form shared by every rewriting of `query` that changes order, duplicates, NOT or nesting only."""
    return replace(
        query,
        aggregates=tuple(sorted(set(query.aggregates), key=lambda a: (a.name, a.weight))),
        group_by=tuple(sorted(set(query.group_by))),
        where=None if query.where is None else _positive(query.where, negate=False),
    )


def _positive(node: Predicate, *, negate: bool) -> Predicate:
    """`node` or its contrary, free of Negation. De Morgan holds in three-valued logic."""
    match node:
        case Comparison(column, operator, literal):
            return Comparison(column, _CONTRARY[operator], literal) if negate else node
        case Membership():
            return _canonical_membership(node, negate=negate)
        case IsNull(column, negated):
            return IsNull(column, negated != negate)
        case Negation(operand):
            return _positive(operand, negate=not negate)
        case AllOf(operands) | AnyOf(operands):
            conjunction = isinstance(node, AllOf) != negate
            return _connective(operands, conjunction=conjunction, negate=negate)


def _canonical_membership(node: Membership, *, negate: bool) -> Predicate:
    literals = tuple(sorted(set(node.literals), key=lambda literal: repr(literal.canonical())))
    negated = node.negated != negate
    if len(literals) == 1:
        return Comparison(node.column, Operator.NOT_EQUAL if negated else Operator.EQUAL, literals[0])
    return Membership(node.column, literals, negated)


def _connective(operands: tuple[Predicate, ...], *, conjunction: bool, negate: bool) -> Predicate:
    kind = AllOf if conjunction else AnyOf
    flat: dict[str, Predicate] = {}
    for operand in operands:
        child = _positive(operand, negate=negate)
        for part in child.operands if isinstance(child, kind) else (child,):
            flat[repr(predicate_json(part))] = part
    if len(flat) == 1:
        return next(iter(flat.values()))
    return kind(tuple(flat[key] for key in sorted(flat)))


def predicate_json(node: Predicate) -> list[object]:
    """JSON form of a predicate, as it is hashed and logged."""
    match node:
        case Comparison(column, operator, literal):
            return [operator.value, column, literal.canonical()]
        case Membership(column, literals, negated):
            return ["not in" if negated else "in", column, [literal.canonical() for literal in literals]]
        case IsNull(column, negated):
            return ["is not null" if negated else "is null", column]
        case Negation(operand):
            return ["not", predicate_json(operand)]
        case AllOf(operands):
            return ["and", *(predicate_json(operand) for operand in operands)]
        case AnyOf(operands):
            return ["or", *(predicate_json(operand) for operand in operands)]


def query_json(query: Query) -> dict[str, object]:
    """JSON form of a query, as it is hashed and logged. Digest it after `canonicalise`."""
    return {
        "dataset": query.dataset,
        "snapshot": query.snapshot,
        "group_by": list(query.group_by),
        "aggregates": [[a.name, a.weight] for a in query.aggregates],
        "where": None if query.where is None else predicate_json(query.where),
    }
