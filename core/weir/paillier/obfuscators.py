# SPDX-License-Identifier: Apache-2.0
"""Encryptions of zero drawn ahead, so that encrypting costs one product at the moment it is needed."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from weir.paillier._gmp import get_context
from weir.paillier.encryption import Obfuscators, obfuscator
from weir.paillier.entropy import Entropy
from weir.paillier.keys import PublicKey


class ObfuscatorPool:
    """A bounded store of full-length obfuscators of one key, filled by one background thread.

    Each is handed out once. The thread releases the interpreter lock during its exponentiations, so the work goes to
    another core. `take` never waits: on an empty pool it draws one itself. The values are as secret as the plaintexts
    they will hide; the pool keeps them in memory only and drops them when closed.
    """

    def __init__(
        self,
        key: PublicKey,
        *,
        capacity: int,
        entropy: Entropy,
        draw: Obfuscators | None = None,
    ) -> None:
        """`capacity` ≥ 1 ciphertexts are kept (512 or 768 bytes each). `draw` replaces the full-length exponent, for
        example by `ShortExponent.draw` with its entropy bound."""
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._draw = draw if draw is not None else lambda: obfuscator(key, entropy=entropy)
        self._ready: deque[int] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._fill, name="obfuscators", daemon=True)
        self._thread.start()

    def take(self) -> int:
        """One encryption of zero, never given out before."""
        with self._changed:
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
        return self._draw()

    def wait_until_full(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the pool is at capacity; whether it is.

        Raises: what the source of entropy raised in the background, if it failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) >= self._capacity or not self._running(), timeout)
            if self._failure is not None:
                raise self._failure
            return len(self._ready) >= self._capacity

    def __len__(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def close(self) -> None:
        """Stop filling and drop what is stored; `take` still works and draws on the spot."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> ObfuscatorPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> bool:
        return not self._closed and self._failure is None

    def _fill(self) -> None:
        # gmpy2 contexts belong to a thread: this does not change how the caller's own arithmetic behaves.
        get_context().allow_release_gil = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < self._capacity)
                if self._closed:
                    return
            try:
                drawn = self._draw()
            except Exception as error:
                # Kept for `wait_until_full`; `take` meets the same failure itself when it draws.
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                if not self._closed:
                    self._ready.append(drawn)
                self._changed.notify_all()
