# SPDX-License-Identifier: Apache-2.0
"""What operators see: JSON log lines and metrics, both on an allow-list, so that no cell value can reach them.

A log line has the keys of `Fields` and no others. Records of other libraries, and tracebacks, keep their logger, level,
exception type and code location; their text is dropped, since an engine's error quotes data. Metric labels take values
from closed sets: RPC names, error reasons and modes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO, TypedDict, Unpack

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from weir.errors import tree

LOGGER = "weir"
_PACKAGES = {"weir", "weir_server"}
_SAFE = re.compile(r"[A-Za-z0-9_.:/@<>\[\] -]*")
_LONGEST = 200


class Fields(TypedDict, total=False):
    """Keys of a log line, beside `time`, `level` and `event`."""

    rpc: str
    listener: str
    role: str
    reason: str
    rule: str
    entry: int
    incident: str
    exception: str
    location: str
    logger: str
    address: str
    file: str
    seconds: float
    pid: int
    workers: int
    worker: int
    code: int


_LOG = logging.getLogger(LOGGER)
_KEYS = frozenset(Fields.__annotations__)


def event(name: str, *, level: int = logging.INFO, **fields: Unpack[Fields]) -> None:
    """Writes one line to the operator log."""
    if _LOG.isEnabledFor(level):
        # Made by hand: looking for the caller costs more than all the rest, and the line does not name it.
        record = logging.LogRecord(LOGGER, level, "", 0, name, None, None)
        record.__dict__["weir"] = fields
        _LOG.handle(record)


class Cause(TypedDict):
    """What is kept of an exception."""

    exception: str
    location: str


def exception_fields(error: BaseException) -> Cause:
    """Type and code location of an exception, and nothing of its text."""
    frames = traceback.extract_tb(error.__traceback__)
    # The innermost line of our own: where a library was called says more than where it raised.
    chosen = [frame for frame in frames if _PACKAGES & set(Path(frame.filename).parts)] or list(frames)
    where = f"{Path(chosen[-1].filename).name}:{chosen[-1].lineno}" if chosen else "unknown"
    return Cause(exception=type(error).__name__, location=where)


class SafeFormatter(logging.Formatter):
    """One JSON object a line, of allowed keys and harmless characters only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. A record of another library loses its text."""
        own = record.__dict__.get("weir") if record.name == LOGGER else None
        fields: Mapping[str, object] = own if own is not None else _foreign(record)
        members = [
            f'"time": "{_second(int(record.created))}.{int(record.msecs):03d}Z"',
            _member("level", record.levelname.lower()),
            _member("event", record.msg if own is not None else "library"),
        ]
        members += [_safe(key, value) for key, value in fields.items() if key in _KEYS]
        return f"{{{', '.join(members)}}}"


class Lines(logging.StreamHandler[TextIO]):
    """Writes the lines of one step of an event loop together: each write gives the interpreter away, and has to wait
    for it. What is an error, and what no event loop says, is written at once with all that came before."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line. Called under the handler's lock."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno >= logging.ERROR or not self._later():
                self.flush()
        except Exception:  # As every handler does: a log that fails must fail nobody else.
            self.handleError(record)

    def _later(self) -> bool:
        """Has the running event loop, if there is one, write what is taken."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if len(self._lines) == 1:
            loop.call_soon(self._flush_later)
        return True

    def _flush_later(self) -> None:
        try:
            self.flush()
        except (OSError, ValueError):  # A full disk, or a stream that has been closed: there is nobody to tell.
            self._lines.clear()

    def flush(self) -> None:
        """Writes what was taken."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()


def configure(stream: TextIO, *, level: int = logging.INFO) -> None:
    """Sends every log record of the process through the safe formatter, and uncaught exceptions with them."""
    handler = Lines(stream)
    handler.setFormatter(SafeFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(level)
    # What no line says is not looked up for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda args: _report(args.exc_value)
    threading.excepthook = lambda args: _report(args.exc_value)


class Watched(Protocol):
    """What metrics ask of the server's health."""

    write_seconds: Callable[[float], None]
    """Called with how long each pulse took to become durable."""

    def ready(self) -> bool:
        """Whether calls should be sent here."""
        ...

    def failing(self) -> frozenset[str]:
        """What keeps them from being sent."""
        ...

    def entries(self) -> int:
        """Entries of the log."""
        ...

    def clock_ahead(self) -> float:
        """Seconds by which the system's clock is ahead."""
        ...


def _holds(health: Watched, state: str) -> float:
    return float(state in health.failing())


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._calls = Counter(
            "weir_calls", "Calls ended, by RPC and reason (OK or an error reason)", ["rpc", "reason"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "weir_call_seconds", "Seconds a call took", ["rpc"], registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
        )  # fmt: skip
        self._answers = Counter("weir_answers", "Answers given, by mode", ["mode"], registry=self.registry)
        self.in_flight = Gauge("weir_calls_in_flight", "Calls in progress", registry=self.registry)
        self.certificate_seconds = Gauge(
            "weir_certificate_seconds", "Seconds until the listeners' certificate ends", registry=self.registry
        )
        self.healthy = Gauge("weir_healthy", "1 while calls should be sent here", registry=self.registry)
        self._failing = Gauge(
            "weir_not_ready", "1 for what keeps calls from being sent here", ["state"], registry=self.registry
        )
        self.clock_ahead = Gauge(
            "weir_clock_ahead_seconds", "System's clock less the time that has passed", registry=self.registry
        )
        self.log_entries = Gauge("weir_log_entries", "Entries of the log", registry=self.registry)
        self._writes = Histogram(
            "weir_ledger_write_seconds", "Seconds until the pulse of the books was durable", registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )  # fmt: skip

    def watch(self, health: Watched, *, states: Sequence[str]) -> None:
        """Shows what `health` finds. `states`: the closed set of what may keep it from being ready."""
        self.healthy.set_function(lambda: float(health.ready()))
        self.log_entries.set_function(lambda: float(health.entries()))
        self.clock_ahead.set_function(health.clock_ahead)
        health.write_seconds = self._writes.observe
        for state in states:
            self._failing.labels(state).set_function(partial(_holds, health, state))

    def call_ended(self, rpc: str, *, reason: str, seconds: float) -> None:
        """Counts a call. `rpc` MUST come from the access table, `reason` from the error tree."""
        label = reason if reason in REASONS else "INTERNAL"
        found = self._ended.get((rpc, label))
        if found is None:
            found = self._ended[rpc, label] = self._calls.labels(rpc, label), self._seconds.labels(rpc)
        found[0].inc()
        found[1].observe(seconds)

    def answered(self, mode: str) -> None:
        """Counts an answer; `mode` is `exact`, `dp`, `encrypted` or `sealed`."""
        self._answers.labels(mode if mode in MODES else "other").inc()


REASONS = frozenset({"OK", "CANCELLED", *(kind.reason for kind in tree())})
MODES = frozenset({"exact", "dp", "encrypted", "sealed"})


def _foreign(record: logging.LogRecord) -> Mapping[str, object]:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        return {"logger": record.name, **exception_fields(error)}
    return {"logger": record.name, "location": f"{record.filename}:{record.lineno}"}


@lru_cache(maxsize=4)
def _second(instant: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(instant))


def _safe(key: str, value: object) -> str:
    """A member of a line: numbers as they are; text only where it is made of harmless characters and short."""
    if isinstance(value, (bool, int, float)):
        return f'"{key}": {json.dumps(value)}'
    text = str(value)
    return _member(key, text if len(text) <= _LONGEST else "?")


@lru_cache(maxsize=1024)
def _member(key: str, text: str) -> str:
    """Few differ, and each call has several."""
    return f'"{key}": {json.dumps(text if _SAFE.fullmatch(text) else "?", ensure_ascii=True)}'


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _report(error)


def _report(error: BaseException | None) -> None:
    if error is not None:
        event("uncaught", level=logging.CRITICAL, **exception_fields(error))
