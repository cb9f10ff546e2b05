# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from weir.errors import Overloaded
from weir_server.services import strangers
from weir_server.services.strangers import BURST, PER_SECOND, Strangers, stranger


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def failures(found: Strangers, who: bytes, tries: int) -> int:
    """How many of so many failures were looked at."""
    looked = 0
    for _ in range(tries):
        try:
            found.check(who)
        except Overloaded:
            continue
        found.failed(who)
        looked += 1
    return looked


def test_failures_empty_a_bucket_that_refills_at_its_rate() -> None:
    clock = Time()
    found = Strangers(clock=clock)
    assert failures(found, b"a", 1000) == BURST
    clock.seconds += 2.0
    assert failures(found, b"a", 1000) == 2 * PER_SECOND
    clock.seconds += 1000.0
    assert failures(found, b"a", 1000) == BURST


def test_nobody_else_is_held_up() -> None:
    found = Strangers(clock=Time())
    failures(found, b"a", 1000)
    found.check(b"b")
    assert stranger(b"cert-1", "ipv4:10.0.0.1:4000") == stranger(b"cert-1", "ipv4:10.0.0.1:4001")
    assert stranger(b"cert-1", "ipv4:10.0.0.1:4000") != stranger(b"cert-2", "ipv4:10.0.0.1:4000")
    assert stranger(b"cert-1", "ipv4:10.0.0.1:4000") != stranger(b"cert-1", "ipv4:10.0.0.2:4000")


def test_who_has_a_network_of_addresses_has_one_bucket() -> None:
    """Mutant: a bucket for each of 2**64 addresses, so that one revoked certificate is looked at without end."""
    here, there, elsewhere = (
        f"ipv6:%5B2001:db8:0:{host}%5D:{port}" for port, host in enumerate(("1::1", "1::2", "2::1"))
    )
    assert stranger(b"cert", here) == stranger(b"cert", there) != stranger(b"cert", elsewhere)
    assert stranger(b"cert", "ipv6:%5B::ffff:10.0.0.1%5D:1") != stranger(b"cert", "ipv6:%5B::ffff:10.0.0.2%5D:1")
    assert stranger(b"cert", "ipv6:[fe80::1%25eth0]:1") == stranger(b"cert", "ipv6:[fe80::2%25eth0]:1")
    assert stranger(b"cert", "unix:/run/a") != stranger(b"cert", "unix:/run/b")


def test_however_many_there_are_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_MOST", 50)
    found = Strangers(clock=Time())
    for number in range(1000):
        found.failed(str(number).encode())
    assert len(found) == 50
    assert failures(found, b"999", 1000) == BURST - 1
