# SPDX-License-Identifier: Apache-2.0
import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from weir import errors, wire
from weir.errors import WeirError, tree
from weir.v1 import error_reason_pb2

# Errors of checks that clients make themselves (weir.replay) never travel.
CLASSES = [kind for kind in tree() if kind.__module__ == errors.__name__]
LEAVES = [kind for kind in CLASSES if not kind.__subclasses__() or kind is errors.PublicationError]
REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118


def made(kind: type[WeirError]) -> WeirError:
    if kind is errors.LogInconsistent:
        return kind("text", older="a", newer="b")
    return kind("text", rule="some.rule")


def test_every_reason_of_the_proto_has_a_class_and_every_class_a_reason():
    assert {kind.reason for kind in CLASSES} == REASONS


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_has_a_grpc_code_that_is_an_error(kind):
    code = wire.status_code(made(kind))
    assert code in {status.value[0] for status in grpc.StatusCode} - {0, code_pb2.UNKNOWN}
    assert wire.error_to_status(made(kind)).code == code


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_every_raised_class_comes_back_as_itself(kind):
    found = wire.error_from_status(wire.error_to_status(made(kind)))
    assert type(found) is kind
    assert found.message == "text"
    assert found.rule == made(kind).rule


@pytest.mark.parametrize("kind", sorted(set(CLASSES) - set(LEAVES), key=lambda kind: kind.__name__), ids=str)
def test_a_class_between_comes_back_as_the_class_of_its_reason(kind):
    assert wire.error_from_status(wire.error_to_status(made(kind))).reason == kind.reason


def test_an_unknown_reason_is_a_defect_nobody_can_act_on():
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="new")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain=wire.DOMAIN))
    assert type(wire.error_from_status(status)) is errors.InternalError


def test_a_reason_of_another_domain_is_not_ours():
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="proxy")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="POLICY_DENIED", domain="proxy.example"))
    assert type(wire.error_from_status(status)) is errors.Unavailable


@pytest.mark.parametrize("code", [status for status in grpc.StatusCode if status.value[0]], ids=lambda code: code.name)
def test_every_foreign_code_has_a_class_and_no_foreign_text(code):
    found = wire.error_from_status(status_pb2.Status(code=code.value[0], message="rows of a table"))
    assert isinstance(found, WeirError)
    assert "rows" not in found.message
    assert found.rule in ("transport", "deadline")


def test_oversize_and_quota_are_told_apart_though_they_share_a_code():
    quota = wire.error_to_status(errors.QuotaExceeded("limit"))
    oversize = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED)
    assert quota.code == oversize.code
    assert type(wire.error_from_status(quota)) is errors.QuotaExceeded
    assert type(wire.error_from_status(oversize)) is errors.InvalidRequest
