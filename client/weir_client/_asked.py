# SPDX-License-Identifier: Apache-2.0
"""A question as the service keeps it: its canonical JSON read back, shown as SQL and in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from weir.errors import InvalidReceipt, WeirError
from weir.query import (
    Aggregate,
    AllOf,
    AnyOf,
    Comparison,
    Function,
    IsNull,
    Literal,
    Membership,
    Negation,
    Operator,
    Predicate,
    Query,
    parse_decimal_literal,
)
from weir_client._sql import Output, ParsedQuery, Presentation

_AGGREGATE = re.compile(r"([a-z_]+)(?:\(([a-z][a-z0-9_]*)(?:,(0\.[0-9]+))?\))?")
_KEYWORDS = frozenset({
    "all", "and", "as", "asc", "between", "by", "count", "desc", "distinct", "false", "for", "from", "group", "having",
    "in", "is", "join", "limit", "not", "null", "offset", "on", "or", "order", "select", "sum", "table", "true",
    "union", "version", "where", "with",
})  # fmt: skip
_SQL_NAMES = {Function.VARIANCE: "VAR_POP", Function.STDDEV: "STDDEV_POP"}
_WORDS = {
    Operator.EQUAL: "is",
    Operator.NOT_EQUAL: "is not",
    Operator.LESS: "is less than",
    Operator.LESS_OR_EQUAL: "is at most",
    Operator.GREATER: "is more than",
    Operator.GREATER_OR_EQUAL: "is at least",
}
_FUNCTIONS = {
    Function.COUNT: "how many",
    Function.COUNT_UNITS: "how many units",
    Function.SUM: "the sum of {}",
    Function.AVG: "the average of {}",
    Function.VARIANCE: "the variance of {}",
    Function.STDDEV: "the standard deviation of {}",
    Function.HISTOGRAM: "the histogram of {}",
}


def asked_query(text: str) -> ParsedQuery:
    """The question of its canonical JSON, shown as it is: group keys first, columns under their canonical names.

    Raises:
        InvalidReceipt: it is none.
    """
    try:
        content = json.loads(text)
        query = Query(
            dataset=content["dataset"],
            aggregates=tuple(_aggregate(name, weight) for name, weight in content["aggregates"]),
            group_by=tuple(content["group_by"]),
            where=None if content["where"] is None else _predicate(content["where"]),
            snapshot=content["snapshot"],
        )
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, WeirError):
        raise InvalidReceipt("the service shows a question in no known form", rule="approval.query") from None
    keys = [Output(name, name, None) for name in query.group_by]
    shown = [Output(aggregate.name, None, aggregate.name) for aggregate in query.aggregates]
    return ParsedQuery(query, Presentation((*keys, *shown)))


def sql_of(query: Query) -> str:
    """The question in the query language. What its unit is called is not part of it, and neither are shares."""
    columns = [*(_name(name) for name in query.group_by), *(_sql_aggregate(item) for item in query.aggregates)]
    source = f'"{query.dataset}@{query.snapshot}"' if query.snapshot else _name(query.dataset)
    parts = [f"SELECT {', '.join(columns)} FROM {source}"]  # noqa: S608 - shown to people, parsed by the client alone
    if query.where is not None:
        parts.append(f"WHERE {_sql(query.where)}")
    if query.group_by:
        parts.append(f"GROUP BY {', '.join(_name(name) for name in query.group_by)}")
    return " ".join(parts)


def words_of(query: Query) -> str:
    """The question in one sentence, for whoever decides on it."""
    asked = _joined([_words_of_aggregate(item) for item in query.aggregates], "and")
    each = f", for each {_joined(query.group_by, 'and')}" if query.group_by else ""
    where = "" if query.where is None else f", where {_words(query.where)}"
    version = f" version {query.snapshot}" if query.snapshot else ""
    return f"{asked} in {query.dataset}{version}{each}{where}"


def _aggregate(name: str, weight: int) -> Aggregate:
    found = _AGGREGATE.fullmatch(name)
    if found is None:
        raise ValueError(name)
    function, measure, rank = found.groups()
    ppm = None if rank is None else int(Decimal(rank).scaleb(6))
    return Aggregate(Function(function), measure, ppm, weight)


def _predicate(node: list[Any]) -> Predicate:
    word = node[0]
    if word in ("and", "or"):
        operands = tuple(_predicate(operand) for operand in node[1:])
        return AllOf(operands) if word == "and" else AnyOf(operands)
    if word == "not":
        return Negation(_predicate(node[1]))
    if word in ("in", "not in"):
        return Membership(node[1], tuple(_literal(item) for item in node[2]), word == "not in")
    if word in ("is null", "is not null"):
        return IsNull(node[1], word == "is not null")
    return Comparison(node[1], Operator(word), _literal(node[2]))


def _literal(item: list[Any]) -> Literal:
    kind, value = item
    if kind == "decimal":
        return parse_decimal_literal(value)
    return Literal(int(value) if kind == "integer" else value)


def _sql_aggregate(aggregate: Aggregate) -> str:
    if aggregate.function is Function.COUNT:
        return "COUNT(*)"
    if aggregate.function is Function.COUNT_UNITS:
        return "COUNT(DISTINCT unit)"
    measure = _name(aggregate.measure or "")
    if aggregate.function is Function.QUANTILE:
        return f"QUANTILE({measure}, {_rank(aggregate)})"
    return f"{_SQL_NAMES.get(aggregate.function, aggregate.function.name)}({measure})"


def _sql(node: Predicate) -> str:
    match node:
        case Comparison(column, operator, literal):
            return f"{_name(column)} {operator.value} {_sql_literal(literal)}"
        case Membership(column, literals, negated):
            listed = ", ".join(_sql_literal(literal) for literal in literals)
            return f"{_name(column)} {'NOT IN' if negated else 'IN'} ({listed})"
        case IsNull(column, negated):
            return f"{_name(column)} IS {'NOT ' if negated else ''}NULL"
        case Negation(operand):
            return f"NOT ({_sql(operand)})"
        case AllOf(operands) | AnyOf(operands):
            word = " AND " if isinstance(node, AllOf) else " OR "
            return word.join(
                f"({_sql(operand)})" if isinstance(operand, AllOf | AnyOf) else _sql(operand) for operand in operands
            )


def _sql_literal(literal: Literal) -> str:
    value = literal.value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    text = str(literal.canonical()[1])
    return f"{text}.0" if literal.kind == "decimal" and "." not in text else text


def _name(name: str) -> str:
    return f'"{name}"' if name in _KEYWORDS else name


def _rank(aggregate: Aggregate) -> str:
    return format(Decimal(aggregate.quantile_ppm or 0).scaleb(-6).normalize(), "f")


def _words_of_aggregate(aggregate: Aggregate) -> str:
    share = f" (share {aggregate.weight})" if aggregate.weight != 1 else ""
    if aggregate.function is Function.QUANTILE:
        return f"the {_rank(aggregate)} quantile of {aggregate.measure}{share}"
    return _FUNCTIONS[aggregate.function].format(aggregate.measure) + share


def _words(node: Predicate) -> str:
    match node:
        case Comparison(column, operator, literal):
            return f"{column} {_WORDS[operator]} {literal.canonical()[1]}"
        case Membership(column, literals, negated):
            listed = _joined([str(literal.canonical()[1]) for literal in literals], "or")
            return f"{column} is {'not ' if negated else ''}one of {listed}"
        case IsNull(column, negated):
            return f"{column} is {'known' if negated else 'unknown'}"
        case Negation(operand):
            return f"not ({_words(operand)})"
        case AllOf(operands) | AnyOf(operands):
            word = " and " if isinstance(node, AllOf) else " or "
            return word.join(
                f"({_words(operand)})" if isinstance(operand, AllOf | AnyOf) else _words(operand)
                for operand in operands
            )


def _joined(items: Iterable[str], word: str) -> str:
    listed = list(items)
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} {word} {listed[-1]}"
