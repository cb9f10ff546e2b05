# SPDX-License-Identifier: Apache-2.0
"""kill −9 of a real process between the stages, and the world that the next process finds.

At each point: privacy loss stays spent exactly once for what may have been touched, money comes back where no answer
was stored, and the same idempotency key works again.
"""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.crash import KEY, POINTS
from tests.support.domain import NANO, Domain, check_receipt, numbers, open_domain, submit_dp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("engine")


def killed_at(point: str, directory: Path) -> str:
    """Run one query in a process that kills itself at `point`; what it had written by then."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.crash", point, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    return run.stdout


@asynccontextmanager
async def restarted(directory: Path) -> AsyncIterator[Domain]:
    domain = open_domain(directory)
    try:
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        domain.store.close()


TOUCHED = ["before execute", "in execute", "in release", "before post"]


@pytest.mark.parametrize("point", TOUCHED)
async def test_after_the_reservation_the_loss_stays_and_the_money_returns(tmp_path: Path, point: str) -> None:
    killed_at(point, tmp_path)
    async with restarted(tmp_path) as domain:
        assert domain.used("lineage-money-epsilon") == domain.used("contract-d-1-epsilon") == NANO // 2
        assert domain.used("money") == domain.metered("price_micro", "d-1") == domain.metered("queries", "d-1") == 0
        assert domain.kinds()[-2:] == ["weir.query.reserved", "weir.query.expired"]


@pytest.mark.parametrize("point", TOUCHED)
async def test_the_same_key_works_again_and_is_charged_anew(tmp_path: Path, point: str) -> None:
    killed_at(point, tmp_path)
    async with restarted(tmp_path) as domain:
        answered = await domain.pipeline.run(submit_dp(key=KEY))
        check_receipt(answered.receipt, answer=answered.answer)
        assert domain.dp.draws == 1
        assert domain.used("lineage-money-epsilon") == NANO
        assert domain.used("money") == domain.metered("price_micro", "d-1") == 5_500_000


async def test_before_the_reservation_nothing_has_happened(tmp_path: Path) -> None:
    killed_at("before reserve", tmp_path)
    async with restarted(tmp_path) as domain:
        assert not domain.events("weir.query.reserved", "weir.query.released")
        assert domain.used("lineage-money-epsilon") == 0


async def test_a_reservation_that_was_not_committed_has_not_happened(tmp_path: Path) -> None:
    killed_at("while reserving", tmp_path)
    async with restarted(tmp_path) as domain:
        assert not domain.events("weir.query.reserved")
        assert domain.used("lineage-money-epsilon") == domain.used("money") == 0


async def test_an_answer_that_was_not_committed_is_not_there(tmp_path: Path) -> None:
    killed_at("while posting", tmp_path)
    async with restarted(tmp_path) as domain:
        assert domain.kinds()[-1] == "weir.query.expired"
        assert not domain.events("weir.query.released")
        again = await domain.pipeline.run(submit_dp())
        assert domain.dp.draws == 1
        check_receipt(again.receipt, answer=again.answer)


async def test_an_answer_that_was_committed_is_given_again_as_it_was(tmp_path: Path) -> None:
    stored = killed_at("before reply", tmp_path)
    async with restarted(tmp_path) as domain:
        answered = await domain.pipeline.run(submit_dp(key=KEY))
        assert answered.answer.hex() == stored.strip()
        check_receipt(answered.receipt, answer=answered.answer)
        assert domain.dp.touches == 0
        assert domain.used("lineage-money-epsilon") == NANO // 2
        assert domain.metered("price_micro", "d-1") == 5_500_000
        assert numbers(await domain.pipeline.run(submit_dp())) == numbers(answered)


async def test_a_refusal_killed_before_it_was_told_is_in_the_log(tmp_path: Path) -> None:
    killed_at("before refusal is told", tmp_path)
    async with restarted(tmp_path) as domain:
        assert domain.kinds()[-1] == "weir.query.refused"


def test_every_point_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{point}"' in text for point in POINTS)
