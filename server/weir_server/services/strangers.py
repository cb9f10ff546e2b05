# SPDX-License-Identifier: Apache-2.0
"""Who fails to say who it is: a token bucket for each, so that a flood of revoked certificates or bad tokens is cheap.

TLS has ended whoever has no certificate of the domain. What is left shows one: it is counted under that certificate and
the address it comes from, so that nobody behind the same load balancer is held up by it. Calls through a gateway count
under the gateway's certificate: a portal that passes on anybody's tokens answers for them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv6Address
from urllib.parse import unquote

from weir.errors import Overloaded

BURST = 100
"""Failures in a row before a caller is not looked at any more."""
PER_SECOND = 10.0
"""How fast that is forgiven."""
_MOST = 4096
"""Callers remembered; the one that failed longest ago makes room, and is forgiven by then."""
RULE = "limits.failed_authentications"


class Strangers:
    """Buckets of one server. Used from its event loop only. `clock`: monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def check(self, stranger: bytes) -> None:
        """Costs nothing while nobody fails.

        Raises:
            Overloaded: it has failed too often of late.
        """
        if self._failed and self._level(stranger) > BURST - 1:
            raise Overloaded("too many calls from here could not say who they are; slow down", rule=RULE)

    def failed(self, stranger: bytes) -> None:
        """Takes a token."""
        self._failed[stranger] = (self._level(stranger) + 1, self._clock())
        self._failed.move_to_end(stranger)
        if len(self._failed) > _MOST:
            self._failed.popitem(last=False)

    def __len__(self) -> int:
        return len(self._failed)

    def _level(self, stranger: bytes) -> float:
        """Failures that are not forgiven yet."""
        count, since = self._failed.get(stranger, (0.0, 0.0))
        return max(0.0, count - (self._clock() - since) * PER_SECOND) if count else 0.0


def stranger(certificate: bytes, peer: str) -> bytes:
    """Name of a bucket: the certificate that is shown and the network it comes from. `peer`: as gRPC names it."""
    return sha256(_network(peer) + b"\0" + certificate).digest()


def _network(peer: str) -> bytes:
    """The address without its port; of IPv6 its first half, as who has one address has all that begin alike."""
    family, _, place = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return place.encode()
    host = place.rpartition(":")[0].strip("[]")
    try:
        address = IPv6Address(host)
    except ValueError:
        return host.encode()
    return address.packed if address.ipv4_mapped else address.packed[:8]
