# SPDX-License-Identifier: Apache-2.0
"""Whether this process should be sent calls, and if not, which of a few public reasons it has.

    weir.live     the process answers at all: its event loop turns. What is not live is started again
    weir.ledger   the books take durable writes: the last one that did is at most ten seconds old
    weir.clock    the system's clock keeps pace with the time that passes, and with the books' database
    weir.log      the log in the store continues the one that was signed; it never comes back from not doing so
    (all)         ready: all of these, and the process is not stopping

One probe each second looks at the log and writes the pulse of the books, through the same writer as every charge.
Whoever asks for health reads what it found and never causes a write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from weir.errors import Unavailable, VerificationError, WeirError
from weir_server.books import present
from weir_server.health import pulse
from weir_server.health.latch import Latch
from weir_server.log.continuity import Seen, look
from weir_server.observe import event, exception_fields
from weir_server.store import Store
from weir_server.store.group import Closed

SERVING = "serving"
STOPPING, LEDGER, CLOCK, LOG = "stopping", "ledger", "clock", "log"
STATES = (SERVING, STOPPING, LEDGER, CLOCK, LOG)
"""All there are, public: on the wire, in metrics and in log lines. Where several hold, the first is told."""
LIVE = "weir.live"
PARTS = {f"weir.{part}": part for part in (LEDGER, CLOCK, LOG)} | {LIVE: ""}
"""Names under which a part alone can be asked for, and what must not be failing then. Liveness asks for nothing: that
it is answered is the answer."""
PROBE_SECONDS = 1.0
STALLED_SECONDS = 60.0
"""For which the event loop may not turn: nothing that is done in it takes a tenth of that."""
STALE_SECONDS = 10.0
"""How old the last durable write may be: a disk that stalls for longer, or a turn that does not come, is no ledger."""


class Health:
    """What the probe found. Read from any thread."""

    def __init__(
        self,
        store: Store,
        latch: Latch,
        *,
        log_key: str,
        stopping: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """`clock`: monotonic seconds. The store has taken a write just now, as it does when it is opened."""
        self._store, self._latch, self._log_key = store, latch, log_key
        self._stopping, self._clock = stopping, clock
        self._written = clock()
        self._skewed = self._foreign = False
        self._seen: Seen | None = None
        self._told = SERVING
        self._turned = clock()
        # Of its own: queries take all of the others, and a server that has much to do is not one that cannot do it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-probe")
        self.write_seconds: Callable[[float], None] = lambda seconds: None
        """Told how long each pulse took to become durable."""

    def failing(self) -> frozenset[str]:
        """Everything that keeps this process from being ready."""
        late = self._clock() - self._written > STALE_SECONDS
        found = {
            STOPPING: self._stopping(),
            CLOCK: self._skewed or not self._latch.keeper.keeps_pace(),
            LOG: self._foreign,
        }
        # A clock or a log that closes the books says so itself: only what is left is the ledger's.
        found[LEDGER] = self._store.stopped or (late and not (found[CLOCK] or found[LOG]))
        return frozenset(state for state, holds in found.items() if holds)

    def state(self) -> str:
        """One of `STATES`."""
        failing = self.failing()
        return next((state for state in STATES if state in failing), SERVING)

    def live(self) -> bool:
        """Whether the event loop has turned of late: all that a new process could mend. One that stops may finish."""
        return self._stopping() or self._clock() - self._turned <= STALLED_SECONDS

    def clock_ahead(self) -> float:
        """Seconds by which the system's clock is ahead of the time that has passed."""
        return self._latch.keeper.ahead().total_seconds()

    def entries(self) -> int:
        """Entries of the log, as of the last look."""
        return 0 if self._seen is None else self._seen.head.size

    def ready(self) -> bool:
        """Whether calls should be sent here."""
        return not self.failing()

    def serves(self, service: str) -> bool:
        """Whether a part (a name of `PARTS`) is well; whether calls should be sent here, for any other name."""
        part = PARTS.get(service)
        return self.ready() if part is None else part not in self.failing()

    async def keep_probed(self) -> None:
        """Probes once a second until the store stops or the task is cancelled."""
        turning = asyncio.create_task(self._turn())
        try:
            while not self._store.stopped:
                await self.probe()
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            turning.cancel()

    async def _turn(self) -> None:
        """Apart from the probe, which may wait for the disk while the loop turns."""
        while True:
            self._turned = self._clock()
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self) -> None:
        """Looks at the log, then writes the pulse and waits until it is durable."""
        try:
            await self._look_at_log()
            started = self._clock()
            await self._store.write(partial(pulse.beat, pulse=present(self._latch.keeper)))
            self._written, self._skewed = self._clock(), False
            self.write_seconds(self._written - started)
        except Exception as error:  # Whatever failed this one must not end those to come: nothing else would be ready.
            self._skewed = isinstance(error, WeirError) and (error.rule or "").startswith("clock.")
            if not isinstance(error, Unavailable):
                event("probe_failed", level=logging.ERROR, **exception_fields(error))
        self._tell()

    async def _look_at_log(self) -> None:
        if self._foreign:
            return
        try:
            operation = partial(look, vkey=self._log_key, seen=self._seen)
            loop = asyncio.get_running_loop()
            self._seen = await loop.run_in_executor(self._thread, self._store.read, operation)
        except VerificationError as error:
            self._foreign = True
            self._latch.shut(Closed("log.foreign", "the service's log is not the one that it has signed"))
            event("log_foreign", level=logging.CRITICAL, rule=error.rule or "", **exception_fields(error))

    def _tell(self) -> None:
        """One line in the operator log whenever the state changes."""
        state = self.state()
        if state != self._told:
            level = logging.INFO if state == SERVING else logging.ERROR
            event("health", level=level, reason=state, seconds=round(self.clock_ahead(), 3))
            self._told = state
