# SPDX-License-Identifier: Apache-2.0
"""Whoever controls the clock of a server (its time service, say) wants limits by day anew, contracts and holds to end.

Ledger time only moves forward and is shared by all that use the books, so one moment with a wrong clock would be
enough, for good. What such a person gets: `clock.max_skew_seconds` once for each process, and `clock.max_pause_hours`
for each restart of the machine.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.ledger import ALICE, LEDGER_SERVER, request, reserving, schema_of
from tests.support.server import make_domain
from tests.support.time import Machine
from weir.errors import QuotaExceeded, Unavailable
from weir_server import books, log
from weir_server.clock import Timekeeper, from_micros, steady_seconds
from weir_server.config import ClockSettings, LedgerSettings
from weir_server.health import pulse
from weir_server.health.latch import Latch
from weir_server.identity import pki
from weir_server.ledger import Quota, Reservation, set_quota
from weir_server.store import Store, Transaction, integer
from weir_server.store.sqlite import SqliteStore

CHARGE = {"queries": 1}
TERMS = ClockSettings()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_domain(tmp_path)


def settings_of(data: Path) -> LedgerSettings:
    server = os.environ.get(LEDGER_SERVER)
    return LedgerSettings() if server is None else LedgerSettings(server, schema_of(data))


def opened(data: Path, machine: Machine) -> Store:
    """A server's books, on that machine."""
    domain = pki.load_domain(data)
    return books.open_books(data, domain, settings=settings_of(data), time=TERMS, latch=Latch(machine.keeper()))


def mark(store: Store) -> datetime:
    """Ledger time."""
    return store.read(lambda tx: from_micros(integer(tx.execute("SELECT mark FROM ledger_clock")[0][0])))


def spend(store: Store, keeper: Timekeeper, key: str) -> Reservation:
    asked = reserving(request(CHARGE, key=key), keeper)  # type: ignore[arg-type]
    made = store.write_sync(asked)
    assert isinstance(made, Reservation)
    return made


def limit_by_day(store: Store, keeper: Timekeeper) -> None:
    quota = Quota(id="day", metric="queries", limit=1, requester=ALICE.requester, window="day")
    store.write_sync(lambda tx: set_quota(tx, quota, reason="test", actor="operator", now=keeper(), entropy=os.urandom))


def test_a_clock_set_ahead_opens_no_limit_by_day(engine: str, data: Path) -> None:
    machine = Machine.now()
    latch = Latch(machine.keeper())
    store = books.open_books(data, pki.load_domain(data), settings=settings_of(data), latch=latch)
    limit_by_day(store, latch.keeper)
    spend(store, latch.keeper, "first-of-the-day")
    before = mark(store)
    machine.set(days=400)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            spend(store, latch.keeper, "second-of-the-day")
        assert caught.value.rule == "clock.jump"
    assert mark(store) == before
    assert not store.stopped
    machine.set(days=-400)
    with pytest.raises(QuotaExceeded):
        spend(store, latch.keeper, "second-of-the-day")
    store.close()


def test_the_mutant_without_a_latch_gives_the_day_again_and_never_takes_it_back(data: Path) -> None:
    """That the attack is one: the ledger as it was before."""
    machine = Machine.now()
    directory = data / "mutant"
    directory.mkdir()
    signer = pki.load_domain(data).log_signers
    store = SqliteStore(directory, seal=log.sealer(signer, now=lambda: machine.shown))
    wall: Timekeeper = lambda: machine.shown  # type: ignore[assignment]  # noqa: E731
    store.write_sync(partial(log.initialise, origin=signer[0].name))
    limit_by_day(store, wall)
    spend(store, wall, "first-of-the-day")
    machine.set(days=400)
    spend(store, wall, "second-of-the-day")
    machine.set(days=-400)
    assert mark(store) > datetime.now(UTC) + timedelta(days=399)
    store.close()


def test_a_clock_set_while_a_group_is_written_moves_nothing(engine: str, data: Path) -> None:
    """Mutant: asked before the group only, and the operation takes what the system's clock shows."""
    machine = Machine.now()
    latch = Latch(machine.keeper())
    store = books.open_books(data, pki.load_domain(data), settings=settings_of(data), latch=latch)

    def hit(tx: Transaction) -> None:
        machine.set(days=400)
        reserving(request(CHARGE, key="in-the-middle"), latch.keeper)(tx)  # type: ignore[arg-type]
        machine.set(days=-400)

    store.write_sync(hit)
    assert mark(store) <= machine.shown + timedelta(seconds=30)
    store.close()


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_clock_that_differs_from_the_database_s_writes_nothing(
    ledger_server: str, data: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    right = opened(data, Machine.now())
    before = mark(right)
    wrong = Machine(datetime.now(UTC) + timedelta(seconds=ahead))
    with pytest.raises(Unavailable) as caught:
        books.open_books(
            data,
            pki.load_domain(data),
            settings=settings_of(data),
            time=ClockSettings(max_pause_hours=24),
            latch=Latch(wrong.keeper()),
        )
    assert caught.value.rule in {"clock.skew", "clock.behind", "clock.jump"}
    assert mark(right) == before
    right.close()


def test_a_restart_does_not_make_a_clock_right_that_was_set(
    engine: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: each start believes the clock that it finds, so that a supervisor that restarts accepts the attack."""
    monkeypatch.setattr(pulse, "boot", lambda: "this start")
    machine = Machine.now()
    opened(data, machine).close()
    machine.passes(seconds=20)
    machine.set(hours=2)
    with pytest.raises(Unavailable) as caught:
        opened(data, machine)
    assert caught.value.rule == "clock.jump"
    assert "weir clock accept" in caught.value.message
    machine.set(hours=-2)
    opened(data, machine).close()


def test_a_start_does_not_take_a_clock_that_will_have_to_be_set_ahead(
    engine: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: it starts an hour behind, and closes its books for good in the moment in which the clock is put right."""
    monkeypatch.setattr(pulse, "boot", lambda: "this start")
    machine = Machine.now()
    opened(data, machine).close()
    machine.passes(hours=2)
    machine.set(hours=-1)
    with pytest.raises(Unavailable) as caught:
        opened(data, machine)
    assert caught.value.rule == "clock.behind"


@pytest.mark.parametrize(("hours", "rule"), [(23, None), (25, "clock.pause"), (-1, "clock.behind")])
def test_a_restart_of_the_machine_moves_time_by_the_longest_pause_at_most(
    data: Path, monkeypatch: pytest.MonkeyPatch, hours: int, rule: str | None
) -> None:
    machine = Machine.now()
    monkeypatch.setattr(pulse, "boot", lambda: "first start")
    opened(data, machine).close()
    monkeypatch.setattr(pulse, "boot", lambda: "second start")
    machine.set(hours=hours)
    machine.counted = 5.0
    if rule is None:
        opened(data, machine).close()
    else:
        with pytest.raises(Unavailable) as caught:
            opened(data, machine)
        assert caught.value.rule == rule


def test_a_real_pause_is_accepted_by_a_person_and_stands_in_the_log(data: Path) -> None:
    from weir_server.cli.clock import clock_command

    machine = Machine(datetime.now(UTC) - timedelta(days=30))
    opened(data, machine).close()
    with pytest.raises(Unavailable):
        opened(data, Machine.now())
    done = CliRunner().invoke(clock_command, ["accept", "--data", str(data), "--reason", "moved house", "--json"])
    assert done.exit_code == 0, done.output
    store = opened(data, Machine(datetime.now(UTC), counted=steady_seconds()))
    ((_, leaf),) = store.read(lambda tx: list(log.entries(tx, type="weir.clock.accepted")))
    assert b'"reason":"moved house"' in leaf
    store.close()


def test_a_person_is_believed_as_far_as_a_server_is(
    ledger_server: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a machine two minutes from its database, with a bound of five, starts and can never be accepted."""
    monkeypatch.setenv(LEDGER_SERVER, ledger_server)
    monkeypatch.setattr(books, "Timekeeper", lambda *, bound=timedelta(seconds=30): machine.keeper(bound=bound.seconds))
    machine = Machine(datetime.now(UTC) - timedelta(minutes=2))
    domain, time = pki.load_domain(data), ClockSettings(max_skew_seconds=300)
    books.open_books(data, domain, settings=settings_of(data), time=time).close()
    books.accept_time(data, domain, settings=settings_of(data), time=time, reason="test", actor="olga")


def test_a_time_service_that_slews_for_a_fortnight_is_no_attack() -> None:
    """Mutant: an allowance of 500 ppm, which is what `ntpd -x` slews by, on top of what the crystal is off."""
    machine = Machine.now()
    keeper = machine.keeper()
    for _ in range(14 * 24):
        machine.passes(hours=1)
        machine.set(seconds=3600 * 580e-6)
        assert keeper.keeps_pace()


def test_a_clock_that_is_slewed_is_believed_by_its_drift_alone() -> None:
    machine = Machine.now()
    keeper = machine.keeper()
    machine.passes(days=10)
    machine.set(seconds=400)  # 463 ppm: what an honest crystal may do at worst
    assert keeper.keeps_pace()
    machine.set(seconds=100)
    assert not keeper.keeps_pace()


def test_what_may_be_set_at_once_does_not_grow_with_the_time_that_a_process_runs() -> None:
    """Mutant: an allowance for drift that is saved up, so that after a hundred days an hour may be set at once."""
    machine = Machine.now()
    keeper = machine.keeper()
    for _ in range(2400):
        machine.passes(hours=1)
        assert keeper.keeps_pace()
    machine.set(seconds=40)
    assert not keeper.keeps_pace()
    assert keeper() <= machine.shown - timedelta(seconds=38)
