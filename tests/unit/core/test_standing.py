# SPDX-License-Identifier: Apache-2.0
"""An operator cannot lower, or keep up, anybody's standing without entries that show why."""

from typing import Any

import pytest

from weir.canonical import canonical_json
from weir.errors import ReplayError
from weir.replay import Books, follow

ORIGIN, DAY = "log.weir.test", "2026-11-22"


class Log:
    """Entries as a server writes them, followed one by one."""

    def __init__(self) -> None:
        self.books, self.size = Books(), 0

    def add(self, kind: str, subject: str, data: dict[str, Any], *, day: str = DAY) -> None:
        event = {
            "specversion": "1.0",
            "id": str(self.size),
            "source": ORIGIN,
            "type": kind,
            "time": f"{day}T12:00:00.000000Z",
            "subject": subject,
            "data": data,
        }
        follow(self.books, self.size, canonical_json(event))
        self.size += 1

    def refuse(self, times: int = 1, *, who: str = "alice", day: str = DAY, **record: Any) -> None:
        told = {"reason": "POLICY_DENIED", "reasons": ["contract.purpose"]} | record
        for _ in range(times):
            subject = {"requester": who, "contract": "c-1", "dataset": "d", "lineage": "l"}
            data = {"subject": subject, "charge": {}, "record": told}
            self.add("weir.query.refused", "contract/c-1", data, day=day)

    def case(self, state: str, *, case: str = "case-1", against: str = "alice") -> None:
        self.add(f"weir.case.{state}", f"case/{case}", {"against": against})

    def limit(self, name: str, **scope: str) -> None:
        data = {"id": name, "metric": "queries", "scope": scope, "window": "lifetime", "zone": "UTC", "limit": "1"}
        self.add("weir.quota.set", f"quota/{name}", data)

    def change(self, *, day: str = DAY, **changes: Any) -> None:
        data = {
            "from": "good",
            "to": "watched",
            "refusals": 3,
            "disputes": 0,
            "overdue_duties": 0,
            "since": "2026-10-24",
            "counted_to": str(self.size),
            "thresholds": {"watched": [3, 1, 1], "restricted": [6, 3, 3]},
        }
        self.add("weir.standing.changed", "requester/alice", data | changes, day=day)


@pytest.fixture
def log() -> Log:
    return Log()


def refused(log: Log, **changes: Any) -> str:
    with pytest.raises(ReplayError) as caught:
        log.change(**changes)
    assert caught.value.rule == "replay.standing"
    return caught.value.message


def test_a_level_with_its_facts_follows(log: Log) -> None:
    log.refuse(3)
    log.change()
    log.refuse(3)
    log.change(**{"from": "watched", "to": "restricted", "refusals": 6})
    log.change(**{"from": "restricted", "to": "good", "refusals": 0, "since": "2026-12-23"}, day="2027-01-21")


@pytest.mark.parametrize("stated", [2, 4])
def test_refusals_that_are_not_there_or_left_out_are_found(log: Log, stated: int) -> None:
    log.refuse(3)
    assert "refusals" in refused(log, refusals=stated, to="watched" if stated > 2 else "good")


def test_refusals_of_others_old_ones_and_honest_ones_do_not_count(log: Log) -> None:
    log.refuse(day="2026-10-23")
    log.refuse(2)
    log.refuse(who="bob")
    for code in ("price.limit", "contract.changed", "contract.state", "approval.revoked"):
        log.refuse(reasons=[code])
    log.refuse(reason="INVALID_QUERY")
    log.refuse(reason="QUOTA_EXCEEDED", limits=["shared"])
    assert "refusals" in refused(log)


def test_a_limit_of_ones_own_may_count_and_a_shared_one_may_not(log: Log) -> None:
    log.limit("own", requester="alice")
    log.limit("share", contract="c-1")
    log.limit("shared", dataset="d")
    log.refuse(reason="QUOTA_EXCEEDED", limits=["own"])
    log.refuse(reason="BUDGET_EXHAUSTED", limits=["shared", "share"])
    log.refuse(reason="QUOTA_EXCEEDED", limits=["shared"])
    log.refuse()
    log.change()
    assert "refusals" in refused(log, refusals=4, **{"from": "watched"})


def test_refusals_behind_the_place_counted_to_do_not_count(log: Log) -> None:
    log.refuse(2)
    place = str(log.size)
    log.refuse()
    assert "refusals" in refused(log, counted_to=place)


def test_disputes_are_cases_accepted_and_not_closed(log: Log) -> None:
    log.case("received")
    assert "disputes" in refused(log, refusals=0, disputes=1)
    log = Log()
    log.case("received")
    log.case("accepted")
    log.case("accepted", case="case-2", against="bob")
    log.change(refusals=0, disputes=1)
    log.case("handled")
    log.case("closed")
    log.change(refusals=0, disputes=0, **{"from": "watched", "to": "good"})


@pytest.mark.parametrize("change", [{"to": "good"}, {"to": "restricted"}, {"from": "watched"}])
def test_a_level_that_its_counts_do_not_make_is_found(log: Log, change: dict[str, str]) -> None:
    log.refuse(3)
    assert "does not follow" in refused(log, **change)


def test_an_entry_without_its_facts_is_found(log: Log) -> None:
    with pytest.raises(ReplayError):
        log.add("weir.standing.changed", "requester/alice", {"to": "watched"})
