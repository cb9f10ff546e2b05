# SPDX-License-Identifier: Apache-2.0
"""What a statement reads from a text several times, read once.

Readings by the grammar (`readings`) are long, and engines plan and compile an expression as often as it is written: on
Spark the conditions over a few columns became more code than it takes, and DuckDB took three times as long for a small
source. In a step of their own below the relation they are columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

READINGS = frozenset({"NUMBER", "EPOCH_MICROS"})
"""Functions of the language that are long and fail on no text, so that they may be worked out before they are asked
for."""
STEP = "weir_reading"
"""What such columns are named after."""


def read_once(tree: exp.Query) -> exp.Query:
    """A query that gives the same, where a SELECT from one relation alone says a reading of its columns once."""
    tree = tree.copy()
    for select in reversed(list(tree.find_all(exp.Select))):  # from within: what is without is made of it
        relation = _only_relation(select)
        if relation is not None:
            _read_below(select, relation)
    return tree


def _only_relation(select: exp.Select) -> exp.Table | exp.Subquery | None:
    """What a SELECT is from. None where that is nothing or a join, or where all columns are asked for: they would be
    more with ours."""
    source = select.args.get("from_")
    if source is None or select.args.get("joins") or any(item.is_star for item in select.expressions):
        return None
    relation = source.this
    return relation if isinstance(relation, exp.Table | exp.Subquery) and relation.alias_or_name else None


def _read_below(select: exp.Select, relation: exp.Table | exp.Subquery) -> None:
    found: dict[str, list[exp.Anonymous]] = {}
    for node in _readings(select):
        found.setdefault(node.sql(), []).append(node)
    step = exp.select("*")
    for index, nodes in enumerate(nodes for nodes in found.values() if len(nodes) > 1 or _orders(nodes[0], select)):
        name = f"{STEP}_{index}"
        step = step.select(exp.alias_(nodes[0].copy(), name))
        for node in nodes:
            node.replace(exp.column(name))
    if len(step.expressions) > 1:
        name = relation.alias_or_name
        quoted = isinstance(relation, exp.Table) and bool(relation.this.args.get("quoted"))
        inner = step.from_(relation.copy())
        relation.replace(inner.subquery(exp.to_identifier(name, quoted=quoted)))


def _orders(node: exp.Anonymous, select: exp.Select) -> bool:
    """Whether rows are ordered by the reading: Sail orders by columns, and not by an expression with names in it."""
    above = node.find_ancestor(exp.Order, exp.Select)
    return isinstance(above, exp.Order) and above.find_ancestor(exp.Select) is select


def _readings(select: exp.Select) -> Iterator[exp.Anonymous]:
    """The readings of columns that the SELECT itself says, not what it is from."""
    for node in select.walk(prune=lambda node: node is not select and isinstance(node, exp.Query)):
        if isinstance(node, exp.Anonymous) and str(node.this).upper() in READINGS:
            columns = list(node.find_all(exp.Column))
            if columns and not any(column.table for column in columns) and node.find(exp.AggFunc) is None:
                yield node
