# SPDX-License-Identifier: Apache-2.0
"""Instants: aware datetimes in the program, integer microseconds since 1970 (UTC) in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> datetime:
    """The present, in UTC. Passed as an argument everywhere else."""
    return datetime.now(UTC)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(count: int) -> datetime:
    """The instant of a count of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=count)
