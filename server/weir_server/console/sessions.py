# SPDX-License-Identifier: Apache-2.0
"""Who is signed in: in memory only, so that a restart signs everybody out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from weir_server.config import ConsoleSettings
from weir_server.plan.values import Principal

MAX_SESSIONS = 1_000
"""The longest idle one ends when another begins."""
_TOKEN_BYTES = 32


@dataclass(slots=True)
class Notice:
    """What the next page tells: a sentence of the catalogue, with its values."""

    key: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """One signed-in browser."""

    principal: Principal
    csrf: str
    """Stands in every form, and nowhere else."""
    certificate: bytes
    """Digest of the certificate it is bound to; empty where a code signed in."""
    began: float
    seen: float
    proved: float
    """When the holder last proved who they are; monotonic seconds, as the two above."""
    revoked: frozenset[int] = frozenset()
    """Certificates that were taken back before it began."""
    notice: Notice | None = None
    """What the next page tells."""
    after: str = "/overview"
    """Where to go on once a proof was given."""


class Sessions:
    """Owns the sessions. Used from the event loop only. `clock`: monotonic seconds."""

    def __init__(
        self, settings: ConsoleSettings, *, clock: Callable[[], float], entropy: Callable[[int], bytes]
    ) -> None:
        self._idle, self._longest = settings.idle_minutes * 60.0, settings.session_hours * 3600.0
        self._fresh = settings.confirm_minutes * 60.0
        self._clock, self._entropy = clock, entropy
        self._sessions: dict[bytes, Session] = {}

    def begin(
        self, principal: Principal, *, certificate: bytes, revoked: frozenset[int] = frozenset()
    ) -> tuple[str, Session]:
        """A new session and the cookie that names it; never one that a browser brought along."""
        now = self._clock()
        self._end_lapsed(now)
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].seen)]
        token = self._entropy(_TOKEN_BYTES).hex()
        session = Session(principal, self._entropy(_TOKEN_BYTES).hex(), certificate, now, now, now, revoked)
        self._sessions[_key(token)] = session
        return token, session

    def find(self, token: str, *, certificate: bytes, touch: bool = True) -> Session | None:
        """The session of a cookie; None where it lapsed, or came over a connection with another certificate.

        `touch`: whether the person did something; what a page does by itself keeps nobody signed in.
        """
        now, session = self._clock(), self._sessions.get(_key(token))
        if session is None:
            return None
        if self._lapsed(session, now):
            self.end(token)
            return None
        if session.certificate and not hmac.compare_digest(session.certificate, certificate):
            return None
        if touch:
            session.seen = now
        return session

    def renew(self, token: str) -> str:
        """The same session under a new cookie, proved at this moment; the old cookie is worth nothing."""
        session = self._sessions.pop(_key(token))
        session.proved = session.seen = self._clock()
        session.csrf = self._entropy(_TOKEN_BYTES).hex()
        fresh = self._entropy(_TOKEN_BYTES).hex()
        self._sessions[_key(fresh)] = session
        return fresh

    def is_fresh(self, session: Session) -> bool:
        """Whether the holder proved who they are recently enough to approve, stop or change something."""
        return self._clock() - session.proved < self._fresh

    def end(self, token: str) -> None:
        """Signs out."""
        self._sessions.pop(_key(token), None)

    def _lapsed(self, session: Session, now: float) -> bool:
        return now - session.seen >= self._idle or now - session.began >= self._longest

    def _end_lapsed(self, now: float) -> None:
        for key in [key for key, session in self._sessions.items() if self._lapsed(session, now)]:
            del self._sessions[key]


def _key(token: str) -> bytes:
    """Sessions are kept by hash, so that looking one up takes no time that depends on how much of a token is right."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
