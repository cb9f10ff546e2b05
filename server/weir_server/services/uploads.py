# SPDX-License-Identifier: Apache-2.0
"""How much memory uploads may take: bytes announced by accepted headers, in total and per requester.

A share is taken before the first ciphertext and given back when the answer is made, or the upload failed: so what is
held here bounds what is in memory, also for callers who went away. In memory and never billed, as `admission`.
"""

from __future__ import annotations

from weir.errors import InvalidRequest, Overloaded
from weir_server.config import Limits


class Uploads:
    """The budget of one server. Used from its event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._total, self._each = limits.upload_memory_bytes, limits.upload_memory_bytes_per_requester
        self._held: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Bytes taken now, over all requesters."""
        return sum(self._held.values())

    def take(self, requester: str, size: int) -> Share:
        """Takes `size` bytes for an upload; the caller MUST release the share.

        Raises:
            InvalidRequest: it would never fit.
            Overloaded: it does not fit now; nothing was charged.
        """
        largest = min(self._total, self._each)
        if size > largest:
            raise InvalidRequest(
                f"an upload is at most {largest} bytes, this one would be {size}", field="weights", rule="upload.size"
            )
        mine = self._held.get(requester, 0)
        if mine + size > self._each:
            raise Overloaded("your uploads in progress are too large", rule="limits.upload_memory_bytes_per_requester")
        if self.held + size > self._total:
            raise Overloaded("too many uploads are in progress; try again", rule="limits.upload_memory_bytes")
        self._held[requester] = mine + size
        return Share(self, requester, size)

    def give_back(self, requester: str, size: int) -> None:
        """For `Share.release` only."""
        left = self._held.pop(requester) - size
        if left:
            self._held[requester] = left


class Share:
    """Bytes taken by one upload."""

    def __init__(self, uploads: Uploads, requester: str, size: int) -> None:
        self._uploads: Uploads | None = uploads
        self._requester, self._size = requester, size

    def release(self) -> None:
        """Gives them back, once; again it does nothing."""
        uploads, self._uploads = self._uploads, None
        if uploads is not None:
            uploads.give_back(self._requester, self._size)
