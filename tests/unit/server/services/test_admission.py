# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import ExitStack

import pytest

from weir.errors import Overloaded
from weir_server.config import Limits
from weir_server.services.admission import Admission


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_empties_and_refills_at_its_rate() -> None:
    clock = Time()
    admission = Admission(Limits(requests_per_second=2, burst=3), clock=clock)

    def granted(tries: int) -> int:
        count = 0
        for _ in range(tries):
            try:
                with admission.seat("alice"):
                    count += 1
            except Overloaded:
                pass
        return count

    assert granted(10) == 3
    clock.seconds += 1.0
    assert granted(10) == 2
    clock.seconds += 1_000.0
    assert granted(10) == 3


def test_one_callers_flood_takes_no_token_of_another() -> None:
    admission = Admission(Limits(requests_per_second=1, burst=1), clock=Time())
    with admission.seat("alice"):
        pass
    with pytest.raises(Overloaded), admission.seat("alice"):
        pass
    with admission.seat("bob"):
        pass


def test_seats_are_bounded_per_caller_and_over_all_and_given_back_on_errors() -> None:
    admission = Admission(Limits(max_in_flight=3, max_in_flight_per_requester=2), clock=Time())
    with ExitStack() as held:
        held.enter_context(admission.seat("alice"))
        held.enter_context(admission.seat("alice"))
        with pytest.raises(Overloaded) as own, admission.seat("alice"):
            pass
        held.enter_context(admission.seat("bob"))
        with pytest.raises(Overloaded) as all_callers, admission.seat("carol"):
            pass
    assert own.value.rule == "limits.max_in_flight_per_requester"
    assert all_callers.value.rule == "limits.max_in_flight"
    with pytest.raises(ValueError, match="inside"), admission.seat("alice"):
        raise ValueError("inside")
    assert admission.in_flight == 0


@pytest.mark.parametrize("role", ["operator", "approver", "auditor"])
def test_requesters_that_hold_every_seat_keep_out_nobody_who_may_stop_them(role: str) -> None:
    admission = Admission(Limits(max_in_flight=2, max_in_flight_per_requester=2), clock=Time())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.seat("requester/alice"))
        with pytest.raises(Overloaded), admission.seat("requester/bob"):
            pass
        for _ in range(2):
            stack.enter_context(admission.seat(f"{role}/olga"))
        with pytest.raises(Overloaded), admission.seat(f"{role}/olga"):
            pass


def test_names_that_have_gone_away_are_forgotten_and_busy_ones_are_not() -> None:
    """A gateway carries as many names as it likes. Mutant: whoever asks under new names grows the server for ever; or
    whoever makes it forget gets a full bucket back."""
    clock = Time()
    admission = Admission(Limits(requests_per_second=1, burst=2), clock=clock)
    with admission.seat("busy"):
        for number in range(5_000):
            with admission.seat(f"gone-{number}"):
                clock.seconds += 1.0
        assert len(admission._callers) <= 2_100
        with admission.seat("spent"), admission.seat("spent"):
            pass
        for number in range(5_000):
            with admission.seat(f"more-{number}"):
                pass
        with pytest.raises(Overloaded), admission.seat("spent"):
            pass
    assert admission.in_flight == 0
