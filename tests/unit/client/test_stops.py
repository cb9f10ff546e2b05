# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from weir import errors
from weir.canonical import canonical_json

WHY = ("--reason", "misuse")


def sent(domain):
    return [(request.name, request.suspended) for name, request in domain.requests if name == "SetSuspension"]


@pytest.mark.parametrize(
    "args",
    [
        ("suspend", "requester", "alicee"),
        ("suspend", "contract", "c-11"),
        ("suspend", "dataset", "censuss"),
        ("blacklist", "add", "alicee"),
    ],
    ids=" ".join,
)
def test_a_slip_of_the_pen_does_not_report_a_stop(weir, domain, args):
    """Attack: none is needed. The operator reads `stopped`, and whom it was meant for keeps asking."""
    code, out, err = weir(*args, *WHY)
    assert (code, out) == (2, "")
    assert f"{args[-1]} is known here, and nothing was stopped" in err
    assert "--unknown" in err
    assert sent(domain) == []
    assert weir(*args, "--unknown", *WHY)[0] == 0
    assert sent(domain) == [(args[-1], True)]


@pytest.mark.parametrize(
    "args",
    [
        ("suspend", "requester", "alice"),
        ("suspend", "contract", "c-1"),
        ("suspend", "dataset", "census"),
        ("suspend", "all"),
        ("blacklist", "add", "alice"),
    ],
    ids=" ".join,
)
def test_what_is_known_is_stopped_at_once_and_again(weir, domain, args):
    assert weir(*args, *WHY)[0] == 0
    assert weir(*args, *WHY)[0] == 0
    assert len(sent(domain)) == 2


def test_a_requester_that_only_the_log_knows_is_stopped(weir, domain):
    domain.log.add("weir.identity.issued", {})
    issued = {**json.loads(domain.log.leaves[-1]), "subject": "requester/bob"}
    domain.log.leaves[-1] = canonical_json(issued)
    assert weir("suspend", "requester", "bob", *WHY) == (0, "stopped: requester bob\n", "")
    assert weir("suspend", "requester", "bo", *WHY)[0] == 2


def test_a_stop_does_not_wait_for_what_cannot_be_looked_up(weir, domain):
    domain.refuse["ListStandings"] = [errors.PermissionDenied("not yours")]
    code, out, err = weir("suspend", "requester", "alicee", *WHY)
    assert (code, out) == (0, "stopped: requester alicee\n")
    assert "could not look for requester alicee" in err


def test_what_was_not_stopped_is_not_said_to_be_resumed(weir, domain):
    assert weir("suspend", "requester", "alice", "--resume", *WHY)[:2] == (0, "was not stopped: requester alice\n")
    assert weir("suspend", "all", "--resume", *WHY)[:2] == (0, "was not stopped: all\n")
    assert weir("blacklist", "lift", "alice", *WHY)[:2] == (0, "alice: was not on the blacklist\n")
    assert sent(domain) == []
    weir("suspend", "all", *WHY)
    assert json.loads(weir("suspend", "all", "--resume", "--json", *WHY)[1])["changed"] is True
    weir("blacklist", "add", "alice", *WHY)
    assert weir("blacklist", "lift", "alice", *WHY)[1] == "alice: no longer on the blacklist\n"
    assert [suspended for _, suspended in sent(domain)] == [True, False, True, False]
