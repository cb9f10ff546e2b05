# SPDX-License-Identifier: Apache-2.0
"""Big-integer work in worker processes, called from the event loop of the server.

gmpy2 holds the interpreter lock, so neither a coroutine nor a thread may do this work: small calls beside it would
wait. Workers are fresh interpreters (never forks: gRPC does not survive one), started at need and reused;
each does one thing at a time, and a large dot product is cut into one piece for each.

A worker that dies fails the call it was serving with `Unavailable`, which the caller may repeat, and is replaced at
the next call. A call that is cancelled, for example by its deadline, takes its worker down with it, because a kernel
cannot be interrupted; the replacement costs about a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any

from weir.errors import InternalError, Unavailable
from weir.paillier import PublicKey, add_all, decode_ciphertexts, encode_ciphertexts
from weir_server.encrypted.kernel_worker import PASSED_ON, READY, frame

_SPLIT_AT = 256
"""Ciphertexts in a piece at least; below that, starting a second piece costs more than it saves."""
_PIECE_BYTES = 64 * 1024 * 1024
"""Ciphertexts in a piece at most: what a worker holds at a time is a few times this. Smaller ones cost more each."""
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class KernelPool:
    """Up to `workers` processes. Owned by the application: `await start()` once, `await close()` at shutdown.

    Every method takes ciphertexts in wire form (`weir.paillier.encode_ciphertexts`) and gives them so.
    """

    def __init__(self, workers: int) -> None:
        """`workers` ≥ 1: as many as there are cores to spend. A worker keeps about 30 MB; those that were not needed
        yet are not started."""
        if workers < 1:
            raise ValueError("workers must be at least 1")
        self._size = workers
        self._idle: list[_Worker] = []
        self._running: set[_Worker] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._slots = asyncio.Semaphore(workers)
        self._closed = False

    async def start(self) -> None:
        """Start a worker ahead of the first call. Raises: Unavailable when it does not come up."""
        self._idle.append(await _Worker.start())

    async def dot(self, key: PublicKey, ciphertexts: bytes, scalars: Sequence[int]) -> bytes:
        """`weir.paillier.dot`, one ciphertext. Raises: InvalidCiphertext, InvalidRequest, Unavailable."""
        return await self.matrix_dot(key, ciphertexts, [scalars])

    async def matrix_dot(self, key: PublicKey, ciphertexts: bytes, columns: Sequence[Sequence[int]]) -> bytes:
        """`weir.paillier.matrix_dot`, one ciphertext a column; the rows are shared out among the workers.

        Raises: InvalidCiphertext, InvalidRequest, Unavailable.
        """
        n, size = key.to_bytes(), key.ciphertext_bytes
        count = len(ciphertexts) // size
        # Unequal lengths must not be hidden by the cuts: one piece then, and the kernel says so.
        if len(ciphertexts) % size or any(len(column) != count for column in columns):
            return _bytes(await self._run("matrix_dot", lambda: (n, ciphertexts, _plain(columns))))

        def piece(start: int, stop: int) -> tuple[Any, ...]:
            part = memoryview(ciphertexts)[start * size : stop * size]
            return n, part, _plain(column[start:stop] for column in columns)

        cuts = _cuts(count, self._size, most=_PIECE_BYTES // size)
        parts = await _all(self._run("matrix_dot", partial(piece, a, b)) for a, b in cuts)
        if len(parts) == 1:
            return _bytes(parts[0])
        rows = [decode_ciphertexts(key, part) for part in parts]
        return encode_ciphertexts(key, [add_all(key, column) for column in zip(*rows, strict=True)])

    async def check(self, key: PublicKey, ciphertexts: bytes) -> None:
        """`weir.paillier.check_ciphertexts`. Raises: InvalidCiphertext, Unavailable."""
        n, size = key.to_bytes(), key.ciphertext_bytes
        cuts = _cuts(len(ciphertexts) // size, self._size, most=_PIECE_BYTES // size)
        # The last piece takes what is over, so that a partial ciphertext is seen.
        edges = [a * size for a, _ in cuts] + [len(ciphertexts)]
        wire = memoryview(ciphertexts)
        await _all(self._run("check", partial(lambda a, b: (n, wire[a:b]), a, b)) for a, b in pairwise(edges))

    async def mask(self, key: PublicKey, ciphertexts: bytes, bits: Sequence[int]) -> bytes:
        """`weir.paillier.mask_reply` of each, with its bits.

        Raises: HeadroomExceeded, InvalidCiphertext, Unavailable.
        """
        return _bytes(await self._run("mask", lambda: (key.to_bytes(), ciphertexts, list(bits))))

    async def encrypt(self, key: PublicKey, plaintexts: Sequence[int]) -> bytes:
        """`weir.paillier.encrypt` of each, with full-length exponents, shared out among the workers.

        Raises: HeadroomExceeded, Unavailable.
        """
        values, step = [int(m) for m in plaintexts], max(1, -(-len(plaintexts) // self._size))
        pieces = [(key.to_bytes(), values[at : at + step]) for at in range(0, len(values), step)]
        return b"".join(await _all(self._run("encrypt", partial(tuple, piece)) for piece in pieces))

    async def verify_key(self, n: bytes, proof: bytes, *, context: bytes) -> None:
        """`weir.paillier.verify_key_proof` of a key in wire form. Raises: InvalidKey, Unavailable."""
        await self._run("verify", lambda: (n, proof, context))

    async def process_ids(self) -> list[int]:
        """The workers that run now, for operators and tests."""
        return [worker.process.pid for worker in (*self._idle, *self._running)]

    async def close(self) -> None:
        """Refuse new work, let running calls end, and stop every worker."""
        self._closed = True
        for _ in range(self._size):
            await self._slots.acquire()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(worker.stop() for worker in idle), *self._ending)
        for _ in range(self._size):
            self._slots.release()

    async def __aenter__(self) -> KernelPool:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, operation: str, arguments: Callable[[], tuple[Any, ...]]) -> Any:
        """`arguments` are made when a worker is free, so that what waits takes no memory."""
        async with self._slots:
            if self._closed:
                raise Unavailable("the service is shutting down")
            worker = await self._take()
            self._running.add(worker)
            try:
                reply = await worker.call((operation, arguments()))
            except BaseException:
                # Dead, or busy with what nobody waits for any more: either way it is of no further use.
                self._discard(worker)
                raise
            finally:
                self._running.discard(worker)
            self._idle.append(worker)
        return _result(reply)

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None:
                return worker
            self._discard(worker)
        return await _Worker.start()

    def _discard(self, worker: _Worker) -> None:
        worker.kill()
        # The task is kept until the process is reaped: close() waits for it, so that no transport outlives the loop.
        ending = asyncio.ensure_future(worker.process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls) -> _Worker:
        # -P keeps the working directory out of the module path.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "weir_server.encrypted.kernel_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(_START_SECONDS):
                if await worker._receive() == READY:
                    return worker
        except TimeoutError:
            pass
        except BaseException:
            worker.kill()
            raise
        worker.kill()
        raise Unavailable("a kernel worker did not start")

    async def call(self, request: tuple[str, tuple[Any, ...]]) -> Any:
        """Send one request and wait for its answer. Raises: Unavailable when the process is gone."""
        try:
            stdin = self._stdin()
            stdin.write(frame(request))
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise Unavailable("a kernel worker stopped; send the request again") from None
        return await self._receive()

    async def stop(self) -> None:
        """Close its input, which ends it; kill it if it does not end."""
        self._stdin().close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """End it now. Its transport is closed with it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._stdin().close()

    async def _receive(self) -> Any:
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101 - asked for at the start
        try:
            size = int.from_bytes(await stdout.readexactly(8), "big")
            return marshal.loads(await stdout.readexactly(size))  # noqa: S302 - our own other end
        except (asyncio.IncompleteReadError, ConnectionResetError):
            raise Unavailable("a kernel worker stopped; send the request again") from None

    def _stdin(self) -> asyncio.StreamWriter:
        stdin = self.process.stdin
        assert stdin is not None  # noqa: S101 - asked for at the start
        return stdin


async def _all(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await all, then pass on the first failure. A refusal of one piece does not cost the others their workers."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failure = next((result for result in results if isinstance(result, BaseException)), None)
    if failure is None:
        return results
    try:
        raise failure
    finally:
        del failure, results  # Its traceback holds this frame, and with it the ciphertexts: they would stay.


def _result(reply: tuple[str, Any]) -> Any:
    verdict, value = reply
    if verdict == "ok":
        return value
    if verdict == "refused":
        name, message, field, rule, metadata = value
        if name in PASSED_ON:
            raise PASSED_ON[name](message, field=field, rule=rule, metadata=metadata)
    raise InternalError("the computation failed", rule="encrypted.kernel")


def _cuts(count: int, parts: int, *, most: int) -> list[tuple[int, int]]:
    """[0, count) in at most `parts` nearly equal ranges of at least _SPLIT_AT; a multiple of `parts` where they would
    be longer than `most`."""
    rounds = max(1, -(-count // (most * parts)))
    parts = max(1, min(parts * rounds, count // _SPLIT_AT))
    edges = [count * at // parts for at in range(parts + 1)]
    return list(pairwise(edges))


def _plain(columns: Iterable[Sequence[int]]) -> list[list[int]]:
    # marshal takes int only, not numpy's or gmpy2's.
    return [[int(s) for s in column] for column in columns]


def _bytes(value: Any) -> bytes:
    return bytes(value)
