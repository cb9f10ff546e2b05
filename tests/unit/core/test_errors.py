# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import errors, wire
from weir.errors import DenialReason, LimitHit, Violation, WeirError, tree
from weir.v1 import receipt_pb2

CLASSES = list(tree())


def made(kind: type[WeirError], message: str = "text", **parts) -> WeirError:
    if kind is errors.LogInconsistent:
        return kind(message, older="older note", newer="newer note")
    return kind(message, **parts)


def test_the_docstring_draws_the_whole_tree():
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in drawn] == []


def test_the_tree_is_found_whole_and_private_classes_are_not_shown():
    assert CLASSES[0] is WeirError
    assert {kind.__name__ for kind in CLASSES} == {
        name
        for name, member in vars(errors).items()
        if isinstance(member, type) and issubclass(member, WeirError) and not name.startswith("_")
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_texts_and_parts_are_kept(kind):
    error = made(kind)
    assert str(error) == error.message == "text"
    assert isinstance(error.metadata, dict)


def test_metadata_is_copied():
    given_metadata = {"a": "b"}
    error = errors.InvalidRequest("x", metadata=given_metadata)
    given_metadata["a"] = "c"
    assert error.metadata == {"a": "b"}


def test_only_what_waiting_can_help_is_retryable():
    assert {kind.__name__ for kind in CLASSES if kind.retryable} == {"Overloaded", "Unavailable"}


TEXTS = st.text(max_size=3000)


@given(TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=20))
def test_no_error_is_too_large_for_a_call_s_trailers_or_loses_its_reason(message, field, rule, metadata):
    for kind in (errors.InvalidQuery, errors.PolicyDenied, errors.QuotaExceeded):
        error = kind(message, field=field, rule=rule, metadata=metadata)
        status = wire.error_to_status(error)
        assert wire.trailer_bytes(status) <= wire.MAX_TRAILER_BYTES
        assert type(wire.error_from_status(status)) is kind


@given(st.integers(0, 200), st.integers(0, 5000))
def test_long_lists_are_shortened_from_the_end(count, length):
    reasons = [DenialReason(f"contract.r{at}", "界" * length) for at in range(count)]
    found = wire.error_from_status(wire.error_to_status(errors.PolicyDenied("no", reasons=reasons)))
    assert isinstance(found, errors.PolicyDenied)
    assert [reason.code for reason in found.reasons] == [reason.code for reason in reasons[: len(found.reasons)]]
    assert (len(found.reasons) > 0) == (count > 0)
    limits = [LimitHit(f"q-{at}", "queries", at, at, 1, None) for at in range(count)]
    again = wire.error_from_status(wire.error_to_status(errors.QuotaExceeded("no", limits=limits)))
    assert isinstance(again, errors.QuotaExceeded)
    assert list(again.limits) == limits[: len(again.limits)]
    assert (len(again.limits) > 0) == (count > 0)


def test_limits_travel_exactly():
    limit = LimitHit("q-1", "epsilon_nano", 2**62, 2**62 - 1, 7, "2026-01-01T00:00:00+08:00")
    error = errors.BudgetExhausted("spent", limits=[limit], metadata={"remaining_nano": "1"})
    found = wire.error_from_status(wire.error_to_status(error))
    assert isinstance(found, errors.BudgetExhausted)
    assert found.limits == (limit,)
    assert found.metadata == {"remaining_nano": "1"}


def test_violations_travel_exactly():
    violations = [Violation("measure.not_integer", "income of year", 12, "declare a grid")]
    error = errors.CardError("the card is refused", violations=violations, field="measures", rule="card.measures")
    found = wire.error_from_status(wire.error_to_status(error))
    assert isinstance(found, errors.CardError)
    assert found.violations == tuple(violations)
    assert (found.field, found.rule) == ("measures", "card.measures")


def test_an_inconsistent_log_keeps_its_evidence():
    found = wire.error_from_status(wire.error_to_status(errors.LogInconsistent("fork", older="a", newer="b")))
    assert isinstance(found, errors.LogInconsistent)
    assert (found.older, found.newer) == ("a", "b")


def test_a_refusal_carries_its_receipt_whole_or_not_at_all():
    error = errors.QuotaExceeded("limit")
    error.receipt = receipt_pb2.Receipt(leaf_index=5, leaf=b"x" * 1000, salt=b"s" * 32, checkpoint="note")
    found = wire.error_from_status(wire.error_to_status(error))
    assert isinstance(found, errors.QuotaExceeded)
    assert found.receipt == error.receipt
    error.receipt = receipt_pb2.Receipt(leaf=os.urandom(60_000))
    found = wire.error_from_status(wire.error_to_status(error))
    assert isinstance(found, errors.QuotaExceeded)
    assert found.receipt is None


def test_only_public_parts_reach_the_wire():
    error = errors.InternalError("the service failed", metadata={"incident": "9f31c2"})
    error.__cause__ = ValueError("cell value 4711")
    assert b"4711" not in wire.error_to_status(error).SerializeToString()


def test_reasons_are_documented_in_the_proto():
    proto = Path("protos/weir/v1/error_reason.proto").read_text(encoding="utf-8")
    assert [kind.reason for kind in CLASSES if f"ERROR_REASON_{kind.reason} =" not in proto] == []
