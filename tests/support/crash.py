# SPDX-License-Identifier: Apache-2.0
"""A process that asks its own domain one dp query and kills itself at a named point.

Run as `python -m tests.support.crash POINT DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tests.support.domain import DOCUMENTS, Domain, open_domain, populate, quota_document, submit_dp
from weir.errors import WeirError
from weir_server import ledger

KEY = "key-of-the-crash-test"
MONEY = quota_document("money", metric="price_micro", limit=10**9)


def die(*_: Any) -> NoReturn:
    """SIGKILL: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _inside(name: str) -> None:
    """Die in the transaction that `ledger.<name>` belongs to: after its statements, before the commit."""
    honest = getattr(ledger, name)

    def dying(*arguments: Any, **more: Any) -> NoReturn:
        honest(*arguments, **more)
        die()

    setattr(ledger, name, dying)


async def _die_in(*_: Any, **__: Any) -> NoReturn:
    die()


def _after(owner: Any, name: str, report: Callable[[Any], None]) -> None:
    honest = getattr(owner, name)

    async def dying(*arguments: Any, **more: Any) -> NoReturn:
        report(await honest(*arguments, **more))
        die()

    setattr(owner, name, dying)


def _print_answer(answered: Any) -> None:
    sys.stdout.write(answered.answer.hex() + "\n")
    sys.stdout.flush()


POINTS: dict[str, Callable[[Domain], None]] = {
    "before reserve": lambda domain: setattr(domain.pipeline, "reserve", _die_in),
    "while reserving": lambda domain: _inside("reserve"),
    "before execute": lambda domain: setattr(domain.pipeline, "execute_and_release", _die_in),
    "in execute": lambda domain: setattr(domain.dp, "on_execute", die),
    "in release": lambda domain: setattr(domain.dp, "on_release", die),
    "before post": lambda domain: setattr(domain.pipeline, "post", _die_in),
    "while posting": lambda domain: _inside("post"),
    "before reply": lambda domain: _after(domain.pipeline, "_post", _print_answer),
    "before refusal is told": lambda domain: _after(domain.pipeline, "refuse", lambda none: None),
}


async def _main(point: str, directory: Path) -> None:
    domain = open_domain(directory)
    await populate(domain, documents=(*DOCUMENTS, MONEY))
    POINTS[point](domain)
    purpose = "sale" if point == "before refusal is told" else ""
    try:
        await domain.pipeline.run(submit_dp(key=KEY, purpose=purpose))
    except WeirError as error:
        sys.exit(f"not killed at {point}: {error!r}")
    sys.exit(f"not killed at {point}")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2])))
