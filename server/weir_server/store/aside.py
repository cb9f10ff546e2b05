# SPDX-License-Identifier: Apache-2.0
"""Reading from within an event loop.

A read of the embedded store takes less than handing it to a thread would; one of a served store waits for the network,
and everybody else's calls would wait with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from weir_server.store import Store, Transaction

T = TypeVar("T")


async def read_aside(store: Store, operation: Callable[[Transaction], T]) -> T:
    """As `store.read`, never holding up the event loop for a way to a server and back."""
    return await asyncio.to_thread(store.read, operation) if store.shared else store.read(operation)
