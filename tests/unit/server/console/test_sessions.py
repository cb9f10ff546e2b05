# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from weir_server.config import ConsoleSettings
from weir_server.console.sessions import MAX_SESSIONS, Sessions
from weir_server.plan.values import Principal

OLGA = Principal("olga", "operator", "weir.test")


@dataclass
class Seconds:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def sessions(clock: Seconds) -> Sessions:
    return Sessions(
        ConsoleSettings(idle_minutes=15, session_hours=1, confirm_minutes=10), clock=clock, entropy=os.urandom
    )


def test_a_session_ends_when_nothing_is_done(sessions: Sessions, clock: Seconds) -> None:
    token, _ = sessions.begin(OLGA, certificate=b"")
    clock.now += 15 * 60 - 1
    assert sessions.find(token, certificate=b"") is not None
    clock.now += 15 * 60
    assert sessions.find(token, certificate=b"") is None


def test_what_a_page_does_by_itself_keeps_nobody_signed_in(sessions: Sessions, clock: Seconds) -> None:
    token, _ = sessions.begin(OLGA, certificate=b"")
    for _ in range(14):
        clock.now += 60
        assert sessions.find(token, certificate=b"", touch=False) is not None
    clock.now += 60
    assert sessions.find(token, certificate=b"", touch=False) is None


def test_a_session_ends_whatever_is_done(sessions: Sessions, clock: Seconds) -> None:
    token, _ = sessions.begin(OLGA, certificate=b"")
    for _ in range(5):
        clock.now += 10 * 60
        assert sessions.find(token, certificate=b"") is not None
    clock.now += 10 * 60
    assert sessions.find(token, certificate=b"") is None


def test_a_session_is_worth_nothing_over_a_connection_with_another_certificate(sessions: Sessions) -> None:
    token, _ = sessions.begin(OLGA, certificate=b"mine")
    assert sessions.find(token, certificate=b"mine") is not None
    assert sessions.find(token, certificate=b"other") is None
    assert sessions.find(token, certificate=b"") is None


def test_a_proof_is_fresh_for_some_minutes_and_again_after_it_is_renewed(sessions: Sessions, clock: Seconds) -> None:
    token, session = sessions.begin(OLGA, certificate=b"")
    assert sessions.is_fresh(session)
    clock.now += 10 * 60
    assert not sessions.is_fresh(session)
    csrf = session.csrf
    renewed = sessions.renew(token)
    assert sessions.is_fresh(session)
    assert renewed != token
    assert session.csrf != csrf
    assert sessions.find(token, certificate=b"") is None
    assert sessions.find(renewed, certificate=b"") is session


def test_every_session_has_a_token_of_its_own_and_ends_by_signing_out(sessions: Sessions) -> None:
    tokens = {sessions.begin(OLGA, certificate=b"")[0] for _ in range(50)}
    assert len(tokens) == 50
    gone = tokens.pop()
    sessions.end(gone)
    sessions.end(gone)
    assert sessions.find(gone, certificate=b"") is None
    assert all(sessions.find(token, certificate=b"") for token in tokens)


def test_there_are_at_most_so_many_and_the_one_that_was_idle_longest_gives_way(
    sessions: Sessions, clock: Seconds
) -> None:
    oldest, _ = sessions.begin(OLGA, certificate=b"")
    clock.now += 1
    second, _ = sessions.begin(OLGA, certificate=b"")
    for _ in range(MAX_SESSIONS - 1):
        sessions.begin(OLGA, certificate=b"")
    assert sessions.find(oldest, certificate=b"") is None
    assert sessions.find(second, certificate=b"") is not None


@pytest.mark.parametrize("token", ["", "nonsense", "\udcff"])
def test_no_other_token_finds_anybody(sessions: Sessions, token: str) -> None:
    sessions.begin(OLGA, certificate=b"")
    assert sessions.find(token, certificate=b"") is None
