# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from weir.canonical import canonical_json
from weir.errors import ReplayError
from weir.replay import Books, Use, follow, follow_all

SUBJECT = {"requester": "alice", "contract": "c-1", "dataset": "census", "lineage": "people"}
Event = dict[str, Any]


def event(index: int, kind: str, data: Event, *, time: str = "2026-11-22T12:00:00.000000Z") -> Event:
    return {
        "specversion": "1.0",
        "id": str(index),
        "source": "log.weir.test",
        "type": kind,
        "time": time,
        "data": data,
    }


def quota(limit: int, **changes: object) -> Event:
    data = {"id": "q", "metric": "queries", "scope": {}, "window": "day", "zone": "UTC", "limit": str(limit)}
    return {**data, **changes}


def charge(queries: int = 1) -> Event:
    return {"subject": dict(SUBJECT), "charge": {"queries": str(queries), "epsilon_nano": "5"}}


def story() -> list[Event]:
    """A quota, two reservations, an answer, a void, a refusal."""
    return [
        event(0, "weir.quota.set", quota(2)),
        event(1, "weir.query.reserved", charge()),
        event(2, "weir.query.reserved", charge()),
        event(3, "weir.query.released", {**charge(), "reservation": "1"}),
        event(4, "weir.query.voided", {"subject": dict(SUBJECT), "reservation": "2", "reason": "x"}),
        event(5, "weir.query.refused", {"subject": dict(SUBJECT), "charge": {"queries": "0"}}),
        event(6, "weir.dataset.published", {"snapshot": 1}),
    ]


def leaves(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(index, canonical_json(item)) for index, item in enumerate(events)]


def test_the_books_follow_from_the_entries() -> None:
    books = follow_all(leaves(story()))
    assert books.size == 7
    assert books.states == {1: "posted", 2: "voided"}
    assert books.holds == {}
    assert books.answers == {3: 1}
    assert books.totals == {("c-1", "alice", "census", "queries"): 1, ("c-1", "alice", "census", "epsilon_nano"): 10}
    assert books.use == {("q", "2026-11-22"): Use(spent=1, held=0)}


def change(index: int, path: str, value: object) -> Callable[[list[Event]], None]:
    def apply(events: list[Event]) -> None:
        *parents, last = path.split(".")
        target = events[index]
        for name in parents:
            target = target[name]
        target[last] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "index", "rule"),
    [
        pytest.param(change(3, "id", "4"), 3, "replay.index", id="another index"),
        pytest.param(change(3, "source", "other"), 3, "replay.origin", id="another log"),
        pytest.param(change(3, "time", "2026-11-22T11:00:00Z"), 3, "replay.time", id="time runs back"),
        pytest.param(change(3, "time", "yesterday"), 3, "replay.time", id="no time"),
        pytest.param(change(3, "time", "2026-11-22T13:00:00"), 3, "replay.time", id="no zone"),
        pytest.param(change(3, "data.reservation", "7"), 3, "replay.reservation", id="answer to nothing"),
        pytest.param(change(4, "data.reservation", "1"), 4, "replay.reservation", id="resolved twice"),
        pytest.param(change(3, "data.charge", {"queries": "2"}), 3, "replay.charge", id="another charge"),
        pytest.param(change(3, "data.subject.contract", "c-2"), 3, "replay.charge", id="another payer"),
        pytest.param(change(4, "data.subject.contract", "c-2"), 4, "replay.subject", id="void for another"),
        pytest.param(change(5, "data.charge", {"queries": "1"}), 5, "replay.charge", id="a refusal that costs"),
        pytest.param(change(0, "data.limit", "1"), 2, "replay.overdrawn", id="limit overdrawn"),
        pytest.param(change(1, "data.charge", {"queries": "-1"}), 1, "replay.event", id="negative charge"),
        pytest.param(change(1, "data", {}), 1, "replay.event", id="no subject"),
        pytest.param(change(1, "data.charge", "much"), 1, "replay.event", id="charge that is text"),
        pytest.param(change(0, "data.zone", "Mars"), 0, "replay.quota", id="unknown zone"),
    ],
)  # fmt: skip
def test_the_first_entry_that_does_not_follow_is_named(
    damage: Callable[[list[Event]], None], index: int, rule: str
) -> None:
    events = deepcopy(story())
    damage(events)
    with pytest.raises(ReplayError) as caught:
        follow_all(leaves(events))
    assert (caught.value.index, caught.value.rule) == (index, rule)
    assert caught.value.metadata["index"] == str(index)


def test_a_missing_entry_is_a_gap() -> None:
    entries = leaves(story())
    with pytest.raises(ReplayError) as caught:
        follow_all(entries[:3] + entries[4:])
    assert caught.value.rule == "replay.index"


def test_an_entry_that_is_not_canonical_is_named() -> None:
    with pytest.raises(ReplayError) as caught:
        follow(Books(), 0, json.dumps(story()[0], indent=1).encode())
    assert caught.value.rule == "replay.event"


@pytest.mark.parametrize("changed", [{"metric": "cells"}, {"scope": {"requester": "bob"}}, {"window": "month"}])
def test_a_quota_cannot_change_its_shape(changed: dict[str, object]) -> None:
    events = [event(0, "weir.quota.set", quota(2)), event(1, "weir.quota.set", quota(2, **changed))]
    with pytest.raises(ReplayError) as caught:
        follow_all(leaves(events))
    assert (caught.value.index, caught.value.rule) == (1, "replay.quota")


def test_a_quota_that_is_removed_twice_is_named() -> None:
    removed = "weir.quota.removed"
    events = [event(0, "weir.quota.set", quota(2)), event(1, removed, {"id": "q"}), event(2, removed, {"id": "q"})]
    with pytest.raises(ReplayError) as caught:
        follow_all(leaves(events))
    assert caught.value.index == 2


def test_a_quota_set_late_counts_its_window_and_nothing_before_it() -> None:
    late = "2026-11-23T01:00:00Z"
    events = [
        event(0, "weir.query.reserved", charge(3)),
        event(1, "weir.query.reserved", charge(4), time="2026-11-23T00:30:00Z"),
        event(2, "weir.quota.set", quota(9), time=late),
        event(3, "weir.quota.set", quota(9, id="l", window="lifetime"), time=late),
        event(4, "weir.quota.set", quota(9, id="b", scope={"requester": "bob"}), time=late),
        event(5, "weir.query.released", {**charge(3), "reservation": "0"}, time=late),
    ]
    books = follow_all(leaves(events))
    assert books.use == {
        ("q", "2026-11-23"): Use(0, 4),
        ("l", ""): Use(3, 4),
        ("b", "2026-11-23"): Use(0, 0),
    }
