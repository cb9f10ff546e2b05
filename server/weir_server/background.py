# SPDX-License-Identifier: Apache-2.0
"""What runs beside the calls, follows the books and answers nobody: a round that fails ends none of those to come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from weir.errors import Unavailable
from weir_server.books import expire_holds, recover_holds
from weir_server.identity.leaves import logged_revocations
from weir_server.ledger import others_hold
from weir_server.observe import event, exception_fields
from weir_server.state import State
from weir_server.store import Store

_SWEEP_SECONDS = 30.0
_FOLLOW_SECONDS = 1.0
"""How far behind the acts of other processes a process may be where nothing is charged; what is charged is never."""


async def lead(store: Store, task: str, work: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Does what one process does for all that share the ledger: at once, or when the process that does it ends or may
    not write any more. Returns once the work has ended by itself. Where one process owns the ledger, nobody else could,
    and much of it only reads."""
    while not store.stopped:
        refused = store.refused
        if await _leads(store, task):
            running = [asyncio.create_task(start()) for start in work]
            try:
                while not store.shared or store.refused == refused:
                    _, unfinished = await asyncio.wait(running, timeout=_FOLLOW_SECONDS)
                    if not unfinished:
                        return
            finally:
                for item in running:
                    await end(item)
        await asyncio.sleep(_FOLLOW_SECONDS)


async def _leads(store: Store, task: str) -> bool:
    with suppress(Unavailable):
        return await store.write(lambda tx: tx.lead(task))
    return False


async def sweep(store: Store, state: State, now: Callable[[], datetime]) -> None:
    """Expires holds, and contracts past their validity. A store that stopped has ended the server by its own signal."""
    while not store.stopped:
        await asyncio.sleep(_SWEEP_SECONDS)
        for work in (
            partial(store.write, partial(expire_holds, now=now)),
            state.expire_contracts,
            state.update_standings,
        ):
            await once(work)


async def follow(
    store: Store, state: State, learn: Callable[[frozenset[int]], None], now: Callable[[], datetime]
) -> None:
    """Sees what other processes did, whom other machines revoked (`learn`), and gives back what those that are gone
    held."""

    async def give_back() -> None:
        if await asyncio.to_thread(store.look, others_hold):
            await store.write(partial(recover_holds, now=now))

    async def revocations() -> None:
        learn(await asyncio.to_thread(store.look, logged_revocations))

    while not store.stopped:
        await asyncio.sleep(_FOLLOW_SECONDS)
        for work in (state.catch_up, revocations, give_back):
            await once(work)


async def once(work: Callable[[], Awaitable[object]]) -> None:
    """One round of what must go on: a round that fails (a snapshot that is not on this machine yet, say) is logged,
    and neither ends those to come nor holds up what comes after it."""
    try:
        await work()
    except Exception as error:  # Of a store that stopped, too, which has ended the server by its own signal.
        event("background_failed", level=logging.ERROR, **exception_fields(error))


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits until it has ended. What one has failed of keeps nothing else from ending in order."""
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        event("background_failed", level=logging.ERROR, **exception_fields(outcome))
