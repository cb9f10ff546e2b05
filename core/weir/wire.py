# SPDX-License-Identifier: Apache-2.0
"""Between Weir's values and their wire form: typed queries and errors, both ways, for client and server alike.

A query from the wire is checked by an iterative walk before anything recurses into it. An error travels as
google.rpc.Status: one ErrorInfo that is never lost, then as much detail as fits into the trailers of a call.
"""

from __future__ import annotations

from typing import Any

from weir._status import DOMAIN, MAX_TRAILER_BYTES, error_from_status, error_to_status, status_code, trailer_bytes
from weir.errors import InvalidQuery
from weir.query import (
    MAX_DEPTH,
    MAX_LIST,
    MAX_NODES,
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
from weir.v1 import query_pb2 as pb

__all__ = [
    "DOMAIN",
    "MAX_TRAILER_BYTES",
    "error_from_status",
    "error_to_status",
    "function_from_proto",
    "function_to_proto",
    "literal_from_proto",
    "literal_to_proto",
    "query_from_proto",
    "query_to_proto",
    "status_code",
    "trailer_bytes",
]

_FUNCTIONS: dict[Function, Any] = {
    function: pb.AggregateFunction.Value(f"AGGREGATE_FUNCTION_{function.name}") for function in Function
}
_FUNCTIONS_BACK = {number: function for function, number in _FUNCTIONS.items()}
_OPERATORS: dict[Operator, Any] = {
    operator: pb.ComparisonOperator.Value(f"COMPARISON_OPERATOR_{operator.name}") for operator in Operator
}
_OPERATORS_BACK = {number: operator for operator, number in _OPERATORS.items()}


def function_to_proto(function: Function) -> Any:
    """Enum number of an aggregate function."""
    return _FUNCTIONS[function]


def function_from_proto(number: int) -> Function:
    """Aggregate function of an enum number.

    Raises:
        InvalidQuery: unspecified or unknown.
    """
    function = _FUNCTIONS_BACK.get(number)
    if function is None:
        raise InvalidQuery("an aggregate names no known function", field="aggregates", rule="aggregate.function")
    return function


def query_to_proto(query: Query) -> pb.Query:
    """Wire form of a query, as it stands: callers canonicalise first."""
    message = pb.Query(dataset=query.dataset, snapshot=query.snapshot, group_by=query.group_by)
    for aggregate in query.aggregates:
        message.aggregates.add(
            function=_FUNCTIONS[aggregate.function],
            measure=aggregate.measure or "",
            quantile_ppm=aggregate.quantile_ppm or 0,
            weight=aggregate.weight,
        )
    if query.where is not None:
        message.where.CopyFrom(_predicate_to_proto(query.where))
    return message


def query_from_proto(message: pb.Query) -> Query:
    """The query that a wire message means.

    Raises:
        InvalidQuery: any part is unset, unknown, malformed or too large; `field` says where.
    """
    if message.HasField("where"):
        _check_wire_size(message.where)
    return Query(
        dataset=message.dataset,
        snapshot=message.snapshot,
        group_by=tuple(message.group_by),
        aggregates=tuple(_aggregate_from_proto(aggregate) for aggregate in message.aggregates),
        where=_predicate_from_proto(message.where) if message.HasField("where") else None,
    )


def literal_to_proto(literal: Literal) -> pb.Literal:
    """Wire form of a constant."""
    value = literal.value
    if isinstance(value, bool):
        return pb.Literal(boolean=value)
    if isinstance(value, int):
        return pb.Literal(integer=value)
    if isinstance(value, str):
        return pb.Literal(text=value)
    return pb.Literal(decimal=format(value, "f"))


def literal_from_proto(message: pb.Literal) -> Literal:
    """The constant that a wire message means.

    Raises:
        InvalidQuery: none is set, or it is malformed.
    """
    match message.WhichOneof("value"):
        case "integer":
            return Literal(message.integer)
        case "decimal":
            return parse_decimal_literal(message.decimal)
        case "text":
            return Literal(message.text)
        case "boolean":
            return Literal(message.boolean)
    raise InvalidQuery("a literal has no value; test for null with IS NULL", field="where", rule="literal.unset")


def _aggregate_from_proto(message: pb.Aggregate) -> Aggregate:
    return Aggregate(
        function=function_from_proto(message.function),
        measure=message.measure or None,
        quantile_ppm=message.quantile_ppm or None,
        weight=message.weight or 1,
    )


def _predicate_to_proto(node: Predicate) -> pb.Predicate:
    match node:
        case Comparison(column, operator, literal):
            comparison = pb.Comparison(column=column, operator=_OPERATORS[operator], literal=literal_to_proto(literal))
            return pb.Predicate(comparison=comparison)
        case Membership(column, literals, negated):
            membership = pb.Membership(column=column, literals=[literal_to_proto(item) for item in literals])
            return _negated(pb.Predicate(membership=membership), negated)
        case IsNull(column, negated):
            return _negated(pb.Predicate(is_null=column), negated)
        case Negation(operand):
            return pb.Predicate(negation=_predicate_to_proto(operand))
        case AllOf(operands):
            return pb.Predicate(all_of=_list_to_proto(operands))
        case AnyOf(operands):
            return pb.Predicate(any_of=_list_to_proto(operands))


def _list_to_proto(operands: tuple[Predicate, ...]) -> pb.PredicateList:
    return pb.PredicateList(operands=[_predicate_to_proto(operand) for operand in operands])


def _negated(message: pb.Predicate, negated: bool) -> pb.Predicate:
    return pb.Predicate(negation=message) if negated else message


def _check_wire_size(root: pb.Predicate) -> None:
    """Refuse what cannot become an allowed predicate, level by level, before anything recurses.

    The bounds are twice those of `weir.query`, since `NOT IN` and `IS NOT NULL` are one node there and two here; the
    exact bounds are checked by `Query` itself.
    """
    nodes, level = 0, [root]
    for _ in range(2 * MAX_DEPTH):
        nodes += len(level)
        if nodes > 2 * MAX_NODES:
            raise InvalidQuery(f"a predicate has at most {MAX_NODES} nodes", field="where", rule="query.nodes")
        level = [child for message in level for child in _wire_children(message)]
        if not level:
            return
    raise InvalidQuery(f"a predicate is at most {MAX_DEPTH} levels deep", field="where", rule="query.depth")


def _wire_children(message: pb.Predicate) -> list[pb.Predicate]:
    match message.WhichOneof("node"):
        case "all_of":
            return list(message.all_of.operands)
        case "any_of":
            return list(message.any_of.operands)
        case "negation":
            return [message.negation]
    return []


def _predicate_from_proto(message: pb.Predicate) -> Predicate:
    match message.WhichOneof("node"):
        case "comparison":
            return _comparison_from_proto(message.comparison)
        case "membership":
            return _membership_from_proto(message.membership)
        case "is_null":
            return IsNull(message.is_null)
        case "all_of":
            return AllOf(tuple(_predicate_from_proto(operand) for operand in message.all_of.operands))
        case "any_of":
            return AnyOf(tuple(_predicate_from_proto(operand) for operand in message.any_of.operands))
        case "negation":
            return _negation_from_proto(message.negation)
    raise InvalidQuery("a predicate has no node", field="where", rule="predicate.unset")


def _negation_from_proto(message: pb.Predicate) -> Predicate:
    operand = _predicate_from_proto(message)
    match operand:
        case Membership(column, literals, False):
            return Membership(column, literals, negated=True)
        case IsNull(column, False):
            return IsNull(column, negated=True)
    return Negation(operand)


def _comparison_from_proto(message: pb.Comparison) -> Comparison:
    operator = _OPERATORS_BACK.get(message.operator)
    if operator is None:
        raise InvalidQuery("a comparison names no known operator", field="where", rule="comparison.operator")
    return Comparison(message.column, operator, literal_from_proto(message.literal))


def _membership_from_proto(message: pb.Membership) -> Membership:
    if len(message.literals) > MAX_LIST:  # before a tuple of that size is built
        raise InvalidQuery(f"IN takes 1 to {MAX_LIST} literals", field="where", rule="predicate.list")
    return Membership(message.column, tuple(literal_from_proto(literal) for literal in message.literals))
