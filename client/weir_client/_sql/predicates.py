# SPDX-License-Identifier: Apache-2.0
"""WHERE: comparisons of declared columns with constants, under AND, OR and NOT."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from sqlglot import exp

from weir.query import AllOf, AnyOf, Comparison, IsNull, Literal, Membership, Negation, Operator, Predicate
from weir_client._sql.names import bare, column_name, refusal

_COMPARISONS: dict[type[exp.Expression], Operator] = {
    exp.EQ: Operator.EQUAL,
    exp.NEQ: Operator.NOT_EQUAL,
    exp.LT: Operator.LESS,
    exp.LTE: Operator.LESS_OR_EQUAL,
    exp.GT: Operator.GREATER,
    exp.GTE: Operator.GREATER_OR_EQUAL,
}
_MIRRORED = {
    Operator.EQUAL: Operator.EQUAL,
    Operator.NOT_EQUAL: Operator.NOT_EQUAL,
    Operator.LESS: Operator.GREATER,
    Operator.LESS_OR_EQUAL: Operator.GREATER_OR_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_OR_EQUAL: Operator.LESS_OR_EQUAL,
}


def predicate(node: exp.Expression) -> Predicate:
    """A predicate; recursion is bounded, since AND and OR chains are walked in a loop and the rest nests in tokens."""
    node = bare(node)
    if isinstance(node, exp.And | exp.Or):
        kind = type(node)
        operands = tuple(predicate(operand) for operand in _chain(node, kind))
        return AllOf(operands) if kind is exp.And else AnyOf(operands)
    if isinstance(node, exp.Not):
        return Negation(predicate(node.this))
    return _leaf(node)


def _chain(node: exp.Expression, kind: type[exp.Expression]) -> Iterator[exp.Expression]:
    """Operands of a chain of one connective, left to right, without recursion: the parser leans chains leftwards."""
    found: list[exp.Expression] = []
    while isinstance(node, kind):
        found.append(node.args["expression"])
        node = node.this
    yield node
    yield from reversed(found)


def _leaf(node: exp.Expression) -> Predicate:
    operator = _COMPARISONS.get(type(node))
    if operator is not None:
        return _comparison(operator, bare(node.this), bare(node.expression))
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        column = _predicate_column(node.this)
        low, high = _literal(node.args["low"]), _literal(node.args["high"])
        return AllOf(
            (
                Comparison(column, Operator.GREATER_OR_EQUAL, low),
                Comparison(column, Operator.LESS_OR_EQUAL, high),
            )
        )
    if isinstance(node, exp.In) and not any(v for k, v in node.args.items() if k not in ("this", "expressions")):
        return Membership(_predicate_column(node.this), tuple(_literal(item) for item in node.expressions))
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return IsNull(_predicate_column(node.this))
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Boolean):
        return _is_truth(node)
    raise refusal(
        "WHERE compares declared columns with constants: = <> < <= > >= BETWEEN IN IS NULL, AND OR NOT",
        "predicate.form",
    )


def _is_truth(node: exp.Is) -> Predicate:
    """`column IS TRUE`: never unknown, so that its negation counts nulls, as SQL has it."""
    column = _predicate_column(node.this)
    equal = Comparison(column, Operator.EQUAL, Literal(bool(node.expression.this)))
    return AllOf((equal, IsNull(column, negated=True)))


def _comparison(operator: Operator, left: exp.Expression, right: exp.Expression) -> Comparison:
    if isinstance(right, exp.Column) and not isinstance(left, exp.Column):
        left, right, operator = right, left, _MIRRORED[operator]
    return Comparison(_predicate_column(left), operator, _literal(right))


def _predicate_column(node: exp.Expression) -> str:
    node = bare(node)
    if isinstance(node, exp.Column):
        return column_name(node)
    raise refusal("a comparison has a declared column on one side and a constant on the other", "predicate.column")


def _literal(node: exp.Expression) -> Literal:
    node = bare(node)
    negative = isinstance(node, exp.Neg)
    if negative:
        node = bare(node.this)
    if isinstance(node, exp.Literal):
        if not node.is_string:
            return number(str(node.this), negative=negative)
        if not negative:
            return Literal(str(node.this))
    if isinstance(node, exp.Boolean) and not negative:
        return Literal(bool(node.this))
    if isinstance(node, exp.Null):
        raise refusal("nothing equals NULL; write IS NULL or IS NOT NULL", "literal.null")
    raise refusal("a constant is an integer, a decimal, 'text', TRUE or FALSE", "literal.form")


def number(text: str, *, negative: bool) -> Literal:
    if len(text) > 64:
        raise refusal("a number has at most 40 digits", "literal.decimal")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise refusal("a number looks like 12 or 12.50", "literal.form") from None
    value = value.copy_negate() if negative else value
    return Literal(int(value)) if text.isascii() and text.isdigit() else Literal(value)
