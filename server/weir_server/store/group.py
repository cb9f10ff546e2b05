# SPDX-License-Identifier: Apache-2.0
"""The grouping writer: one thread that turns operations arriving together into one durable transaction.

Both embedded and served stores use it; what differs is the connection behind `Engine`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from weir.errors import Unavailable, WeirError
from weir_server.store import Transaction, TryAgain
from weir_server.store.pending import GroupTransaction, Statements

T = TypeVar("T")
GROUP_LIMIT = 256
"""Most operations in one transaction: beyond it a commit's cost is shared enough, and waiting grows."""

_CROWD = 3
"""Operations of a group from which on the next one waits for company."""
_WAITS, _WAIT_SECONDS = 8, 0.001
"""How often a group waits at most while others come, and how long at a time."""


class Engine(Protocol):
    """A connection that only the writer thread uses."""

    statements: Statements

    def begin(self) -> int | None:
        """Opens the group's transaction; gives the engine's own time (microseconds since 1970) where it is not this
        machine's.

        Raises:
            Unavailable: a newer Weir has migrated the tables since they were opened; the store stops.
        """

    def abandon(self) -> None:
        """Ends a transaction in which nothing was done, and leaves to other processes what this one leads."""

    def savepoint(self) -> None:
        """Opens one operation's savepoint."""

    def release(self) -> None:
        """Keeps what the operation did."""

    def undo(self) -> None:
        """Takes back what the operation did."""

    def commit(self) -> None:
        """Makes the group durable; returns only when it is."""

    def is_fatal(self, error: BaseException) -> bool:
        """Whether an error means that the engine itself, not the operation, is at fault."""

    def close(self) -> None:
        """Frees the connection."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing may be written at this moment."""

    rule: str
    message: str
    """Public text."""


Admit = Callable[[int | None], Closed | None]
"""Asked before each group, with the engine's time: whether it may be written. Asked in the writer's thread."""


@dataclass(slots=True)
class _Job:
    operation: Callable[[Transaction], Any]
    waiter: Future[Any] | asyncio.Future[Any]


_Outcome = tuple[_Job, Any, BaseException | None]
"""A job with its result, or with what it raised."""


class GroupWriter:
    """Owns the writer thread. States: running → stopped, once and for good."""

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        seal: Callable[[Transaction], None],
        on_failure: Callable[[BaseException], None],
        group_limit: int = GROUP_LIMIT,
        admit: Admit = lambda engine_time: None,
    ) -> None:
        self._engine = open_engine()
        self._transaction = GroupTransaction(self._engine.statements, self._engine)
        self._seal = seal
        self._on_failure = on_failure
        self._admit = admit
        self._limit = group_limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._accepting = True
        self._crowded = False
        self.stopped = False
        self.refused = 0
        """Groups that were not admitted."""
        self._thread = threading.Thread(target=self._run, name="weir-ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queues an operation; the future resolves after its group is durable. Cancelling it changes nothing."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._put(_Job(operation, future))
        return future

    def submit_from_loop(self, operation: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """As `submit`, for the running event loop, which is woken once for all of its operations in a group.

        Cancelling the future drops the result and nothing else.
        """
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Job(operation, waiter))
        return waiter

    def _put(self, job: _Job) -> None:
        with self._gate:  # Together with close and fail: no job may slip in behind the last group.
            if not self._accepting:
                raise _stopped()
            self._jobs.put(job)

    def close(self) -> None:
        """Finishes what was accepted, then frees the connection."""
        with self._gate:
            if self._accepting:
                self._accepting = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                first = self._jobs.get()
                if first is None:
                    break
                if not self._commit_group(self._gather(first)):
                    break
        finally:
            self.stopped = True
            self._engine.close()

    def _gather(self, first: _Job) -> list[_Job]:
        """The first job and whatever waits behind it: while one group syncs, the next fills.

        Whoever is alone is not kept waiting. Among many, a group waits while others still come, for some milliseconds:
        what a group costs beside its operations (tree, signatures, sync) is then shared by more of them.
        """
        group = [first]
        self._take(group)
        waits = _WAITS if self._crowded else 0
        while waits and len(group) < self._limit:
            before = len(group)
            time.sleep(_WAIT_SECONDS)
            self._take(group)
            waits = waits - 1 if len(group) > before else 0
        self._crowded = len(group) >= _CROWD
        return group

    def _take(self, group: list[_Job]) -> None:
        """Adds what has arrived, up to the limit."""
        while len(group) < self._limit:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:
                self._jobs.put(None)
                return
            group.append(job)

    def _commit_group(self, group: list[_Job]) -> bool:
        """Runs, seals and commits one group. COMMIT POINT: after `commit` returns, every result below is true for ever.

        Until then nobody has heard of anything, so a crash before it loses nothing that was promised; a crash after it
        is found again by idempotency key.
        """
        outcomes: list[_Outcome] = []
        try:
            closed = self._admit(self._engine.begin())
            if closed is not None:
                # Nothing was done and nothing is in doubt: the store goes on, for when its reason is gone.
                self._engine.abandon()
                self.refused += 1
                outcomes = [(job, None, Unavailable(closed.message, rule=closed.rule)) for job in group]
            else:
                outcomes = self._write_group(group)
        except BaseException as error:  # Not swallowed: the writer ends, and every caller is told.
            self._fail(group, error)
            return False
        _tell(outcomes)
        return True

    def _write_group(self, group: list[_Job]) -> list[_Outcome]:
        self._transaction.begin()
        outcomes: list[_Outcome] = [(job, *self._attempt(job)) for job in group]
        if any(error is None for _, _, error in outcomes):
            self._seal(self._transaction)
        self._transaction.write_back()
        self._engine.commit()
        return outcomes

    def _attempt(self, job: _Job) -> tuple[Any, BaseException | None]:
        try:
            return self._transaction.run(job.operation), None
        except Exception as error:
            if self._engine.is_fatal(error):
                raise
            self._transaction.undo()
            return None, _by_itself(error)

    def _fail(self, group: list[_Job], error: BaseException) -> None:
        """Fail-stop: after a failed sync the kernel may have dropped the pages, so trying again would lie."""
        with self._gate:
            self._accepting = False
        waiting = list(group)
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None:
                waiting.append(job)
        self.stopped = True
        _tell([(job, None, _stopped()) for job in waiting])
        self._on_failure(error)


def _by_itself(error: Exception) -> Exception:
    """An error as it is told. Tracebacks hold frames, and those of the writer everything that was written in the same
    group, until the garbage collector comes by. A refusal needs none; of a defect the place is wanted.
    """
    if isinstance(error, WeirError | TryAgain):
        error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _tell(outcomes: Sequence[_Outcome]) -> None:
    """Resolves every waiter: those of a thread here, those of an event loop in one step of that loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        waiter = outcome[0].waiter
        if isinstance(waiter, Future):
            _resolve(outcome)
        else:
            by_loop.setdefault(waiter.get_loop(), []).append(outcome)
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # The loop has closed: nobody waits any more, and what was done stays done.
            loop.call_soon_threadsafe(_resolve_all, theirs)


def _resolve_all(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        if not outcome[0].waiter.cancelled():
            _resolve(outcome)


def _resolve(outcome: _Outcome) -> None:
    job, result, problem = outcome
    if problem is None:
        job.waiter.set_result(result)
    else:
        job.waiter.set_exception(problem)


def _stopped() -> Unavailable:
    return Unavailable(
        "the ledger has stopped; send the same request with the same idempotency key once it runs again",
        rule="ledger.stopped",
    )
