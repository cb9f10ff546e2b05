# SPDX-License-Identifier: Apache-2.0
import zlib
from os import urandom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.queries import LITERALS, QUERIES
from weir import errors, wire
from weir._status import MAX_TRAILER_BYTES, trailer_bytes
from weir.checkpoint import ED25519, MLDSA44, Checkpoint, new_signer, sign
from weir.cose import cose_receipt
from weir.query import Aggregate, AllOf, Function, IsNull, Negation, Operator, Query, canonicalise
from weir.v1 import query_pb2 as pb
from weir.v1.receipt_pb2 import PackedReceipt, Receipt

COUNT = pb.Aggregate(function=pb.AGGREGATE_FUNCTION_COUNT)


@given(QUERIES)
def test_a_canonical_query_survives_the_wire_exactly(query):
    canonical = canonicalise(query)
    assert wire.query_from_proto(wire.query_to_proto(canonical)) == canonical


@given(QUERIES)
def test_any_query_keeps_its_canonical_form_on_the_wire(query):
    received = pb.Query.FromString(wire.query_to_proto(query).SerializeToString())
    assert canonicalise(wire.query_from_proto(received)) == canonicalise(query)


@given(LITERALS)
def test_literals_survive_the_wire(literal):
    assert wire.literal_from_proto(wire.literal_to_proto(literal)) == literal


@given(st.binary(max_size=300))
def test_hostile_bytes_give_a_query_or_a_typed_refusal(data):
    try:
        message = pb.Query.FromString(data)
    except Exception:
        return
    try:
        wire.query_from_proto(message)
    except errors.InvalidQuery as error:
        assert error.rule is not None  # noqa: PT017


def deep(levels: int, kind: str) -> pb.Predicate:
    node = pb.Predicate(is_null="a")
    for _ in range(levels - 1):
        outer = pb.Predicate()
        if kind == "negation":
            outer.negation.CopyFrom(node)
        else:
            getattr(outer, kind).operands.add().CopyFrom(node)
        node = outer
    return node


def wide(count: int) -> pb.Predicate:
    return pb.Predicate(all_of=pb.PredicateList(operands=[pb.Predicate(is_null="a")] * count))


def compared(**parts) -> pb.Predicate:
    whole = {"column": "a", "operator": pb.COMPARISON_OPERATOR_EQUAL, "literal": pb.Literal(integer=1), **parts}
    return pb.Predicate(comparison=pb.Comparison(**whole))


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (pb.Query(), "name.form"),
        (pb.Query(dataset="c"), "query.aggregates"),
        (pb.Query(dataset="c; DROP", aggregates=[COUNT]), "name.form"),
        (pb.Query(dataset="c", aggregates=[COUNT] * 33), "query.aggregates"),
        (pb.Query(dataset="c", aggregates=[COUNT], group_by=["a"] * 9), "query.groups"),
        (pb.Query(dataset="c", aggregates=[COUNT], group_by=[""]), "name.form"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate()]), "aggregate.function"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=99)]), "aggregate.function"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=3)]), "aggregate.measure"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=1, measure="x")]), "aggregate.measure"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=3, measure="x y")]), "name.form"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=7, measure="x")]), "aggregate.quantile"),
        (pb.Query(dataset="c", aggregates=[pb.Aggregate(function=1, weight=1001)]), "aggregate.weight"),
    ],
)
def test_a_malformed_message_is_refused_by_rule(message, rule):
    with pytest.raises(errors.InvalidQuery) as caught:
        wire.query_from_proto(message)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        (pb.Predicate(), "predicate.unset"),
        (pb.Predicate(all_of=pb.PredicateList()), "predicate.operands"),
        (pb.Predicate(any_of=pb.PredicateList()), "predicate.operands"),
        (pb.Predicate(all_of=pb.PredicateList(operands=[pb.Predicate()])), "predicate.unset"),
        (pb.Predicate(negation=pb.Predicate()), "predicate.unset"),
        (pb.Predicate(is_null="A"), "name.form"),
        (compared(operator=0), "comparison.operator"),
        (compared(operator=42), "comparison.operator"),
        (compared(literal=pb.Literal()), "literal.unset"),
        (compared(literal=None), "literal.unset"),
        (compared(column=""), "name.form"),
        (compared(literal=pb.Literal(decimal="1e5")), "literal.decimal"),
        (compared(literal=pb.Literal(decimal="1" * 41)), "literal.decimal"),
        (compared(literal=pb.Literal(text="x" * 257)), "literal.text"),
        (compared(literal=pb.Literal(text="a\x00b")), "literal.text"),
        (pb.Predicate(membership=pb.Membership(column="a")), "predicate.list"),
        (
            pb.Predicate(membership=pb.Membership(column="a", literals=[pb.Literal(integer=1)] * 1001)),
            "predicate.list",
        ),
        (deep(34, "negation"), "query.depth"),
        (deep(33, "all_of"), "query.depth"),
        (deep(33, "any_of"), "query.depth"),
        (deep(70, "negation"), "query.depth"),
        (wide(500), "query.nodes"),
        (wide(10_000), "query.nodes"),
    ],
)
def test_a_malformed_predicate_is_refused_by_rule(where, rule):
    with pytest.raises(errors.InvalidQuery) as caught:
        wire.query_from_proto(pb.Query(dataset="c", aggregates=[COUNT], where=where))
    assert caught.value.rule == rule


def test_the_largest_allowed_predicates_travel():
    for where in (deep(32, "all_of"), deep(32, "any_of"), deep(32, "negation"), wide(499)):
        message = pb.Query(dataset="c", aggregates=[COUNT], where=where)
        assert wire.query_from_proto(pb.Query.FromString(message.SerializeToString()))


def test_nesting_beyond_any_query_never_recurses():
    where = deep(64, "negation")
    wrapped = pb.Query(dataset="c", aggregates=[COUNT], where=where)
    with pytest.raises(errors.InvalidQuery):
        wire.query_from_proto(wrapped)
    query = Query("c", (Aggregate(Function.COUNT),), where=AllOf((Negation(IsNull("a")), IsNull("b", negated=True))))
    assert wire.query_from_proto(wire.query_to_proto(query)).where == AllOf(
        (IsNull("a", negated=True), IsNull("b", negated=True))
    )


def test_every_enum_value_has_a_meaning_and_back():
    functions = set(pb.AggregateFunction.values()) - {0}
    assert {wire.function_to_proto(function) for function in Function} == functions
    assert {wire.function_from_proto(number) for number in functions} == set(Function)
    operators = {
        wire.query_from_proto(pb.Query(dataset="c", aggregates=[COUNT], where=compared(operator=number))).where.operator
        for number in set(pb.ComparisonOperator.values()) - {0}
    }
    assert operators == set(Operator)


def refused(*, reasons: int, words: int, depth: int, leaf: int) -> errors.PolicyDenied:
    """A refusal with a receipt of a log of 2**depth entries, signed with both keys."""
    signers = [
        new_signer("weir/finance.example.com", seed=bytes([kind]) * 32, kind=kind) for kind in (ED25519, MLDSA44)
    ]
    path, size = [urandom(32) for _ in range(depth)], 1 << depth
    text = urandom(leaf // 4).hex() + "a" * (leaf // 2)
    body = Receipt(
        leaf_index=0, leaf=text.encode(), salt=urandom(32), inclusion_path=path,
        checkpoint=sign(Checkpoint("weir/finance.example.com", size, urandom(32)), signers, time=1_800_000_000),
    )  # fmt: skip
    body.cose_receipt = cose_receipt(index=0, size=size, path=path, root=urandom(32), signer=signers[0])
    sentence = "w" * words
    error = errors.PolicyDenied(
        sentence, reasons=[errors.DenialReason("contract.dimension", sentence) for _ in range(reasons)], rule="r"
    )
    error.receipt = body
    return error


def test_a_refusal_in_a_log_of_a_million_entries_carries_both_forms_of_its_receipt():
    error = refused(reasons=2, words=80, depth=20, leaf=800)
    status = wire.error_to_status(error)
    assert trailer_bytes(status) <= MAX_TRAILER_BYTES
    assert error.receipt.ByteSize() * 4 / 3 > MAX_TRAILER_BYTES - 500  # Unpacked it would not have fitted.
    received = wire.error_from_status(status)
    assert received.receipt == error.receipt
    assert received.reasons == error.reasons


def test_what_does_not_fit_is_given_up_in_order_and_the_receipt_last():
    for words, reasons in ((80, 16), (300, 16), (400, 1)):
        error = refused(reasons=reasons, words=words, depth=30, leaf=900)
        status = wire.error_to_status(error)
        assert trailer_bytes(status) <= MAX_TRAILER_BYTES
        received = wire.error_from_status(status)
        assert received.reasons
        assert received.receipt is not None
        error.receipt.ClearField("cose_receipt")
        received.receipt.ClearField("cose_receipt")
        assert received.receipt == error.receipt


def test_a_packed_receipt_that_is_none_is_left_out_and_never_grows_without_bound():
    status = wire.error_to_status(errors.PolicyDenied("x"))
    status.details.add().Pack(PackedReceipt(zlib=b"no"))
    assert wire.error_from_status(status).receipt is None
    status.details[-1].Pack(PackedReceipt(zlib=zlib.compress(bytes(10_000_000), 9)))
    assert wire.error_from_status(status).receipt is None
