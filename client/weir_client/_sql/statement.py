# SPDX-License-Identifier: Apache-2.0
"""From a SELECT tree to the typed query and its presentation."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from weir.query import Aggregate, Query, canonicalise
from weir_client._sql.aggregates import ALLOWED, aggregate_of
from weir_client._sql.names import bare, column_name, identifier, refusal
from weir_client._sql.predicates import predicate
from weir_client._sql.presentation import Order, Output, ParsedQuery, Presentation
from weir_client._sql.tokens import statement

_CLAUSES = {
    "with_": ("WITH", "query one dataset directly"),
    "joins": ("JOIN", "query one dataset; linked data is published as one dataset"),
    "laterals": ("LATERAL", "query one dataset"),
    "pivots": ("PIVOT", "GROUP BY declared dimensions"),
    "having": ("HAVING", "filter the returned cells in the client"),
    "qualify": ("QUALIFY", "filter the returned cells in the client"),
    "windows": ("WINDOW", "GROUP BY declared dimensions"),
    "distinct": ("SELECT DISTINCT", "GROUP BY the columns"),
    "offset": ("OFFSET", "LIMIT alone"),
    "sample": ("TABLESAMPLE", "query the whole dataset"),
    "into": ("INTO", "keep the answer in the client"),
    "locks": ("FOR UPDATE", "a query reads only"),
    "hint": ("A hint", "leave it out"),
}
_LIMIT_PARTS = ("offset", "expressions", "limit_options")
_KNOWN_PARTS = frozenset({"expressions", "from_", "where", "group", "order", "limit"})


def parse(sql: str) -> ParsedQuery:
    """The typed query and presentation that a statement means.

    Raises:
        InvalidQuery: anything outside the language; the text names the rule and the nearest thing that is allowed.
    """
    select = statement(sql)
    _refuse_clauses(select)
    dataset, snapshot = _dataset(select)
    group_by = _group_by(select)
    outputs, aggregates, unit = _outputs(select, group_by)
    presentation = Presentation(
        columns=outputs, order=_order(select, outputs, group_by), limit=_limit(select.args.get("limit"))
    )
    where = select.args.get("where")
    query = Query(
        dataset=dataset,
        snapshot=snapshot,
        group_by=group_by,
        aggregates=aggregates,
        where=None if where is None else predicate(where.this),
    )
    return ParsedQuery(canonicalise(query), presentation, unit)


def _refuse_clauses(select: exp.Select) -> None:
    for part, value in select.args.items():
        if not value or part in _KNOWN_PARTS:
            continue
        word, nearest = _CLAUSES.get(part, (part.rstrip("_").upper(), "SELECT, FROM, WHERE, GROUP BY, ORDER BY, LIMIT"))
        raise refusal(f"{word} is not allowed; nearest: {nearest}", "query.clause")


def _dataset(select: exp.Select) -> tuple[str, int]:
    """Name and pinned snapshot; 0 for the latest."""
    source = select.args.get("from_")
    if source is None:
        raise refusal("FROM names the dataset", "query.from")
    table = source.this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise refusal("FROM names one dataset; no subqueries or functions", "query.from")
    name, _, version = identifier(table.this).partition("@")
    rest = {key: value for key, value in table.args.items() if value and key != "this"}
    pins = [version] if version else []
    if "version" in rest:
        pins.append(_version(rest.pop("version")))
    if "alias" in rest and isinstance(rest["alias"].this, exp.Parameter):
        pins.append(str(rest.pop("alias").this.this.this))
    if rest:
        raise refusal("FROM names one dataset, without schema, alias, join or sample", "query.from")
    if len(pins) > 1 or not all(pin.isascii() and pin.isdigit() and 0 < int(pin) < 2**32 for pin in pins):
        raise refusal('a snapshot is pinned as FROM "census@3"', "query.snapshot")
    return name, int(pins[0]) if pins else 0


def _version(version: exp.Expression) -> str:
    if version.args.get("kind") != "AS OF" or not isinstance(version.expression, exp.Literal):
        return ""
    return str(version.expression.this) if version.name == "VERSION" else ""


def _group_by(select: exp.Select) -> tuple[str, ...]:
    group = select.args.get("group")
    if group is None:
        return ()
    if any(value for key, value in group.args.items() if key != "expressions"):
        raise refusal("GROUP BY lists dimensions; no ALL, ROLLUP, CUBE or GROUPING SETS", "query.group_by")
    names = [_group_key(select, key) for key in group.expressions]
    return tuple(dict.fromkeys(names))


def _group_key(select: exp.Select, key: Any) -> str:
    if isinstance(key, exp.Literal) and not key.is_string:
        key = _position(select.expressions, key, "GROUP BY")
    key = key.unalias()
    if isinstance(key, exp.Column):
        name = column_name(key)
        return _aliased_dimension(select, name)
    raise refusal("GROUP BY lists dimensions by name or position", "query.group_by")


def _aliased_dimension(select: exp.Select, name: str) -> str:
    """The dimension that an alias of the SELECT list stands for, else the name itself."""
    for item in select.expressions:
        if isinstance(item, exp.Alias) and item.alias == name and isinstance(item.this, exp.Column):
            return column_name(item.this)
    return name


def _position(items: list[Any], number: exp.Expression, clause: str) -> Any:
    text = number.name
    if not text.isdigit() or not 1 <= int(text[:9]) <= len(items):
        raise refusal(f"a position in {clause} counts the columns of SELECT, from 1", "query.position")
    return items[int(text) - 1]


def _outputs(
    select: exp.Select, group_by: tuple[str, ...]
) -> tuple[tuple[Output, ...], tuple[Aggregate, ...], str | None]:
    outputs: list[Output] = []
    aggregates: list[Aggregate] = []
    units: set[str] = set()
    for item in select.expressions:
        alias = item.alias if isinstance(item, exp.Alias) else None
        value = bare(item.unalias())
        if isinstance(value, exp.Column):
            outputs.append(_key_output(column_name(value), alias, group_by))
            continue
        aggregate, unit = aggregate_of(value)
        aggregates.append(aggregate)
        units |= {unit} if unit is not None else set()
        outputs.append(Output(alias or aggregate.name, None, aggregate.name))
    _check_outputs(outputs, aggregates, units)
    return tuple(outputs), tuple(aggregates), units.pop() if units else None


def _check_outputs(outputs: list[Output], aggregates: list[Aggregate], units: set[str]) -> None:
    if not aggregates:
        raise refusal(f"SELECT holds at least one aggregate: {ALLOWED}", "query.aggregates")
    if len({output.name for output in outputs}) < len(outputs):
        raise refusal("two columns have one name; give one an alias with AS", "select.duplicate")
    if len(units) > 1:
        raise refusal("COUNT(DISTINCT …) counts the dataset's one unit", "aggregate.unit")


def _key_output(name: str, alias: str | None, group_by: tuple[str, ...]) -> Output:
    if name not in group_by:
        raise refusal(f"{name} is neither aggregated nor in GROUP BY; add GROUP BY {name}", "select.ungrouped")
    return Output(alias or name, name, None)


def _order(select: exp.Select, outputs: tuple[Output, ...], group_by: tuple[str, ...]) -> tuple[Order, ...]:
    order = select.args.get("order")
    if order is None:
        return ()
    terms = []
    for term in order.expressions:
        ordered = term if isinstance(term, exp.Ordered) else exp.Ordered(this=term)
        if ordered.args.get("with_fill"):
            raise refusal("ORDER BY takes ASC or DESC only", "query.order_by")
        key = _order_key(ordered.this, outputs, group_by)
        if (key.aggregate or "").startswith("histogram("):
            raise refusal("a histogram has several columns; order by another one", "query.order_by")
        terms.append(Order(key, descending=bool(ordered.args.get("desc"))))
    return tuple(terms)


def _order_key(node: exp.Expression, outputs: tuple[Output, ...], group_by: tuple[str, ...]) -> Output:
    if isinstance(node, exp.Literal) and not node.is_string:
        found: Output = _position(list(outputs), node, "ORDER BY")
        return found
    node = bare(node)
    if isinstance(node, exp.Column):
        return _named_output(node, outputs, group_by)
    aggregate, _ = aggregate_of(node)
    for output in outputs:
        if output.aggregate == aggregate.name:
            return output
    raise refusal("ORDER BY names columns of SELECT, or group keys", "query.order_by")


def _named_output(column: exp.Column, outputs: tuple[Output, ...], group_by: tuple[str, ...]) -> Output:
    written = column.this.name if isinstance(column.this, exp.Identifier) else ""
    for output in outputs:
        if output.name == written:
            return output
    name = column_name(column)
    for output in outputs:
        if name in (output.name, output.dimension):
            return output
    if name in group_by:
        return Output(name, name, None)
    raise refusal("ORDER BY names columns of SELECT, or group keys", "query.order_by")


def _limit(limit: exp.Expression | None) -> int | None:
    if limit is None:
        return None
    count = limit.args.get("expression")
    plain = isinstance(limit, exp.Limit) and not any(limit.args.get(part) for part in _LIMIT_PARTS)
    if plain and isinstance(count, exp.Literal) and not count.is_string and str(count.this).isdigit():
        return min(int(str(count.this)[:18]), 2**53)
    raise refusal("LIMIT takes a whole number", "query.limit")
