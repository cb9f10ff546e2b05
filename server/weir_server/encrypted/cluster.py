# SPDX-License-Identifier: Apache-2.0
"""Long vectors of ciphertexts on a Spark cluster, by partitions, with the kernels that worker processes run.

The vector goes up in chunks of bounded size, two at a time; a chunk is a job of some partitions, each of which
gives one product a column back; they are joined here. What leaves the process are ciphertexts, the public modulus, and
cells that are a release; a chunk is gone from the cluster when its job is done. One vector is worked on at a time.

A cluster that is away, slow or broken is a typed error: the engine's words stay in neither text nor cause, since they
quote plans and values. The client's threads may hang on a dead cluster; nothing waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weir.errors import InternalError, InvalidRequest, Unavailable, WeirError
from weir.paillier import PublicKey, add_all, decode_ciphertexts, encode_ciphertexts, matrix_dot
from weir_server.encrypted.partitions import RESULT, Vector, write_kernels
from weir_server.observe import event, exception_fields

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

_T = TypeVar("_T")
CHUNK_BYTES = 32 * 1024 * 1024
"""Ciphertexts that one job takes up: what the cluster's front and this process hold at a time is a few times this."""
_AHEAD = 2
"""Chunks of one vector in work: one goes up while the other is worked on."""
_FEWEST = 1024
"""Ciphertexts in a partition at least; below that a second one costs more than it saves."""
_CHECK_SECONDS = 60.0
_CHECKED_SECONDS = 60.0
"""How long a check that went well counts."""
_IDLE_SECONDS = 600.0
"""After so long without use a session is not used again: clusters end idle ones."""
_CLOSE_SECONDS = 5.0
_SETTINGS = {
    "spark.sql.session.localRelationCacheThreshold": str(4 * CHUNK_BYTES),
    "spark.connect.session.planCache.enabled": "false",
}
"""A chunk goes with its plan and is gone with it. Else the cluster would keep each until the session ends, or the last
sixteen plans with the chunks in them: two gigabytes of its front's memory."""


class SparkReducer:
    """Reduces vectors on the cluster that `open_session` reaches. Owned by the application, which closes it; used from
    its event loop only."""

    def __init__(
        self,
        open_session: Callable[[], SparkSession],
        *,
        partitions: int,
        seconds: float,
        chunk_bytes: int = CHUNK_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_session` gives a new session, and may block. `partitions`: of one chunk, at most. `seconds`: for one
        vector, the wait for others included. `clock`: monotonic seconds."""
        self._open_session, self._partitions, self._seconds = open_session, partitions, seconds
        self._chunk_bytes, self._clock = chunk_bytes, clock
        self._turn, self._checking = asyncio.Lock(), asyncio.Lock()
        self._session: SparkSession | None = None
        self._used = 0.0
        """When the session last did what it should."""
        self._checked: float | None = None

    async def matrix_dot(self, key: PublicKey, ciphertexts: bytes, columns: Sequence[Sequence[int]]) -> bytes:
        """`weir.paillier.matrix_dot`, one ciphertext a column, equal to what worker processes give.

        Raises:
            InvalidRequest: not one integer for each ciphertext.
            Unavailable: the cluster is away, unfit, or not done in time.
            InternalError: it gave back something else than asked for.
        """
        vector = Vector(key, ciphertexts, columns)
        if any(len(column) != vector.count for column in columns):
            raise InvalidRequest("there must be one weight for each cell", field="weights", rule="paillier.lengths")
        return await self._within(self._seconds, self._reduce(vector))

    async def check(self) -> None:
        """Whether the cluster is there and its executors work out a small product right; remembered for a minute.

        Raises: Unavailable, InternalError.
        """
        async with self._checking:
            # Where a vector is in work, it is the trial.
            if self._turn.locked() or (self._checked is not None and self._clock() - self._checked <= _CHECKED_SECONDS):
                return
            used_before = self._session is not None
            try:
                await self._within(_CHECK_SECONDS, self._try_out())
            except WeirError:
                if not used_before:
                    raise
                # The cluster may have ended that session, by a restart of its own: a new one tells.
                await self._within(_CHECK_SECONDS, self._try_out())
            self._checked = self._clock()

    async def close(self) -> None:
        """End the session, or stop waiting for that."""
        ending = self._drop(interrupt=True)
        if ending is not None:
            await asyncio.wait([ending], timeout=_CLOSE_SECONDS)

    async def _try_out(self) -> None:
        # Any odd number of the right length will do as a modulus: nothing is encrypted under it.
        key, units, scalars = PublicKey((1 << 2047) + 1), [2, 4, 8], [[3, -1, 1 << 70], [0, 5, -7]]
        expected = encode_ciphertexts(key, matrix_dot(key, units, scalars))
        if await self._reduce(Vector(key, encode_ciphertexts(key, units), scalars)) != expected:
            raise InternalError("the computation failed", rule="cluster.result")

    async def _within(self, seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            self._checked = None
        except WeirError:
            self._checked = None
            raise
        raise Unavailable("the cluster was not done in time; send the request again", rule="cluster.time")

    async def _reduce(self, vector: Vector) -> bytes:
        async with self._turn:
            session = await self._ready()
            try:
                products = await self._products(session, vector)
            except BaseException:
                # What it still runs nobody waits for, and what ails it the next vector must not meet.
                self._drop(interrupt=True)
                raise
            self._used = self._clock()
        return await asyncio.to_thread(_joined, vector.key, products, len(vector.columns))

    async def _ready(self) -> SparkSession:
        """A session that has the kernels: the one before, unless it was idle so long that it may be gone."""
        if self._session is not None and self._clock() - self._used <= _IDLE_SECONDS:
            return self._session
        self._drop(interrupt=False)
        opening = _start(partial(_open, self._open_session))
        try:
            self._session = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Nobody waits any more, but it may still come.
            opening.add_done_callback(_end_late)
            raise
        return self._session

    def _drop(self, *, interrupt: bool) -> asyncio.Future[None] | None:
        session, self._session = self._session, None
        return None if session is None else _start(partial(_end, session, interrupt=interrupt))

    async def _products(self, session: SparkSession, vector: Vector) -> list[bytes]:
        """Of all partitions of all chunks."""
        ranges = _ranges(vector.count, max(1, self._chunk_bytes // vector.key.ciphertext_bytes))
        work, products = vector.work(), list[bytes]()

        def job(start: int, stop: int) -> list[bytes]:
            parts = max(1, min(self._partitions, (stop - start) // _FEWEST))
            frame = session.createDataFrame(vector.table(start, stop)).repartition(parts)
            rows = frame.mapInArrow(work, RESULT).toArrow().to_pylist()
            return vector.products(rows, start, stop)

        async def lane() -> None:
            for start, stop in ranges:
                products.extend(await _start(partial(job, start, stop)))

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(_AHEAD):
                    lanes.create_task(lane())
        except ExceptionGroup as failed:
            failure = failed.exceptions[0]
        else:
            return products
        try:
            raise failure
        finally:
            del failure  # Its traceback holds this frame, and with it the vector: they would stay.


def _open(open_session: Callable[[], SparkSession]) -> SparkSession:
    session = open_session()
    try:
        for name, value in _SETTINGS.items():
            session.conf.set(name, value)
        _ship_kernels(session)
    except BaseException:
        _end(session, interrupt=False)
        raise
    return session


def _ship_kernels(session: SparkSession) -> None:
    """Bring the kernels to the executors, where the server can do that; elsewhere they must be installed there."""
    from pyspark.errors import UnsupportedOperationException

    with tempfile.TemporaryDirectory(prefix="weir-kernels-") as folder:
        archive = Path(folder) / "weir_kernels.zip"
        write_kernels(archive)
        with suppress(UnsupportedOperationException):
            session.addArtifacts(str(archive), pyfile=True)


def _end(session: SparkSession, *, interrupt: bool) -> None:
    try:
        if interrupt:
            session.interruptAll()
    finally:
        session.stop()


def _end_late(opening: asyncio.Future[SparkSession]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _start(partial(_end, opening.result(), interrupt=False))


def _ranges(count: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, count)) for start in range(0, count, step))


def _joined(key: PublicKey, products: Sequence[bytes], columns: int) -> bytes:
    """The product of each column over all partitions, in wire form; that of no ciphertexts is 1."""
    rows = [decode_ciphertexts(key, row) for row in products] or [[1] * columns]
    return encode_ciphertexts(key, [add_all(key, column) for column in zip(*rows, strict=True)])


def _start(work: Callable[[], _T]) -> asyncio.Future[_T]:
    """The result of `work`, run in a thread that neither a cancelled call nor the end of the process waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    future.add_done_callback(_look)

    def settle(outcome: _T | None, failure: Exception | None) -> None:
        if future.done():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(outcome)  # type: ignore[arg-type]

    def run() -> None:
        outcome, failure = _guarded(work)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, outcome, failure)

    threading.Thread(target=run, name="weir-cluster", daemon=True).start()
    return future


def _look(future: asyncio.Future[Any]) -> None:
    """So that a failure nobody waits for is not called forgotten: it was logged."""
    if not future.cancelled():
        future.exception()


def _guarded(work: Callable[[], _T]) -> tuple[_T | None, Exception | None]:
    """What `work` gives, or what may be told of its failure: made anew, so that its context does not hold the cause."""
    try:
        return work(), None
    except WeirError as error:
        return None, error
    except ImportError as error:
        event("cluster_failed", level=logging.ERROR, **exception_fields(error))
        text = "Spark needs `pip install dataweir[spark]` on this machine"
        return None, InternalError(text, rule="engine.extra")
    except (Exception, SystemExit) as error:
        # The client raises gRPC's, Arrow's, pandas' and its own, with words of the engine in them; and where it finds
        # itself installed otherwise than it likes, it exits.
        event("cluster_failed", level=logging.ERROR, **exception_fields(error))
        text = "the cluster that works on long vectors failed; send the request again"
        return None, Unavailable(text, rule="cluster.failed")
