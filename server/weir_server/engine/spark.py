# SPDX-License-Identifier: Apache-2.0
"""Apache Spark behind the same guard as DuckDB, over Spark Connect: a gRPC client without Java, to any Spark 4 cluster
or a compatible server.

The cluster does the work where the data lies. What comes back is what `select` and `stream` are asked for: aggregates.
What is kept between statements is written as Parquet below a directory that the cluster reaches, since a session's
own tables end with it. Spark's errors quote statements and cell values, and its client logs them: neither leaves here.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weir.errors import InternalError, Unavailable, WeirError
from weir_server.engine.relational import Dialect, Statement

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.dataframe import DataFrame

_T = TypeVar("_T")
_LOG = logging.getLogger("weir.engine")
_SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # what would overflow raises, instead of wrapping around
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.parquet.compression.codec": "zstd",
    # A text is what it says: else `${env:NAME}` in a card would be the cluster's secret, and could end the literal.
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.runSQLOnFiles": "false",  # else the table "text.`/path`" is any file
    # Rows that are gone are an error, not fewer rows.
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
}
"""Whatever the cluster's own defaults are."""

LOST = "engine.session_lost"
"""Rule of the Unavailable that says: a new session may do what this one cannot any more."""
UNREACHABLE = "engine.unreachable"
"""Rule of the Unavailable that says: the cluster does not answer."""
_STOP_WITHIN = 5.0
"""Seconds a cluster has to end a statement that it was told to stop; then the session is given up."""
_LOST_CONDITIONS = (
    "INVALID_HANDLE.SESSION_",  # not found, closed, changed
    "NO_ACTIVE_SESSION",
)
_NO_NAME = "TABLE_OR_VIEW_NOT_FOUND"
"""Said of our own names by a server that has made a new session of a lost one's; of a source it is the plain truth."""
_RETRIES = 4
"""Of a call that the cluster did not take: some five seconds in all."""


_TYPES = {"TEXT": "STRING"}
"""Types of the language by Spark's name, where it has another."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a Spark is, and where on it we may keep things."""

    remote: str
    """`sc://host:port/;key=value…`, as Spark Connect writes it."""
    directory: str
    """Directory that every executor reaches (`s3a://…`, `hdfs://…`, a shared mount). As secret as the source."""
    token_file: Path | None = None
    """Holds the bearer token; read whenever a session opens."""


class SparkEngine:
    """One session on a cluster. Safe from any thread. A session that the cluster ended, or that was given up, stays
    so: every use raises Unavailable by the rule `LOST`."""

    def __init__(self, session: SparkSession, directory: str) -> None:
        """`directory`: what `keep` writes goes below it; whoever closes the engine says what becomes of it."""
        self.session = session
        self._directory = directory.rstrip("/")
        self._given_up = threading.Event()

    def select(self, statement: Statement, *, seconds: float | None = None) -> list[tuple[Any, ...]]:
        """See `RowEngine.select`."""
        with self._stoppable(seconds) as stopped:
            return self._guarded(lambda: _rows(self._frame(statement).toArrow()), stopped)

    def stream(self, statement: Statement, *, rows: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """See `RowEngine.stream`."""
        table = self._guarded(
            lambda: self._frame(statement).toArrow()
        )  # columns, at a tenth of what Python values take
        for start in range(0, table.num_rows, rows):
            yield _rows(table.slice(start, rows))

    def keep(self, name: str, statement: Statement) -> None:
        """See `RowEngine.keep`."""
        self.save(name, statement, path=f"{self._directory}/{name}-{uuid.uuid4().hex}")

    def save(self, name: str, statement: Statement, *, path: str) -> None:
        """As `keep`, with the place where it is kept: `open` finds it there in another session.

        Raises: as `select`.
        """

        def kept() -> None:
            frame = self._frame(statement)
            frame.write.mode("error").parquet(path)
            found = self.session.read.parquet(path)
            if not found.columns:  # Sail writes no file where there are no rows, and then nothing there names columns.
                found = self.session.read.schema(frame.schema).parquet(path)
            found.createOrReplaceTempView(name)

        self._guarded(kept)

    def open(self, name: str, path: str) -> None:
        """Name what `save` has kept.

        Raises: as `select`.
        """
        self._guarded(lambda: self.session.read.parquet(path).createOrReplaceTempView(name))

    def load(self, name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """See `RowEngine.load`."""
        self._guarded(lambda: self._given(columns, rows).createOrReplaceTempView(name))

    def drop(self, name: str) -> None:
        """See `RowEngine.drop`. The files stay until their directory is removed: Spark has no statement for that."""
        self._guarded(lambda: self.session.catalog.dropTempView(name))

    def erase(self, path: str) -> None:
        """Remove all that lies at `path` and below, but for an empty table in its place: Spark removes files only where
        it writes others.

        Raises: as `select`.
        """
        self._guarded(lambda: self._given({"erased": "INT"}, []).write.mode("overwrite").parquet(path))

    def columns(self, relation: str) -> dict[str, str]:
        """Columns and types of a table of the metastore, or of `parquet` at a path, named `kind:location`.

        Raises: as `select`.
        """
        schema = self._guarded(lambda: self._source(relation).schema, foreign=True)
        return {field.name: field.dataType.simpleString() for field in schema}

    def name(self, name: str, relation: str) -> None:
        """Name a source, of the form that `columns` takes, without reading it.

        Raises: as `select`.
        """
        self._guarded(lambda: self._source(relation).createOrReplaceTempView(name), foreign=True)

    def close(self) -> None:
        """End the session; the cluster goes on."""
        if not self._given_up.is_set():
            _guarded(self.session.stop)

    def _source(self, relation: str) -> DataFrame:
        kind, _, location = relation.partition(":")
        if kind == "parquet":
            return self.session.read.parquet(location)
        return self.session.table(location)

    def _given(self, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> DataFrame:
        table = _table(columns, rows)
        if table.num_rows:
            return self.session.createDataFrame(table)
        # The client takes no table without rows.
        empty = ", ".join(f"CAST(NULL AS {_TYPES.get(kind, kind)}) AS {name}" for name, kind in columns.items())
        return self.session.sql(f"SELECT {empty} WHERE FALSE")

    def _frame(self, statement: Statement) -> DataFrame:
        return self.session.sql(statement.text(Dialect.SPARK))

    def _guarded(self, call: Callable[[], _T], stopped: threading.Event | None = None, *, foreign: bool = False) -> _T:
        if self._given_up.is_set():
            raise Unavailable("the cluster's session has ended", rule=LOST)
        return _guarded(call, stopped, foreign=foreign)

    @contextmanager
    def _stoppable(self, seconds: float | None) -> Iterator[threading.Event]:
        stopped, done = threading.Event(), threading.Event()
        if seconds is None:
            yield stopped
            return
        tag = uuid.uuid4().hex

        def stop() -> None:
            stopped.set()
            threading.Thread(target=self._interrupt, args=(tag,), daemon=True).start()  # it may hang as well
            if not done.wait(_STOP_WITHIN):
                self._give_up()

        timer = threading.Timer(max(seconds, 0.0), stop)
        timer.daemon = True
        self.session.addTag(tag)  # of this thread's statements alone
        timer.start()
        try:
            yield stopped
        finally:
            done.set()
            timer.cancel()
            self.session.removeTag(tag)

    def _interrupt(self, tag: str) -> None:
        with suppress(WeirError):  # whoever waits is told by the statement itself, whatever the cluster says to this
            _guarded(lambda: self.session.interruptTag(tag))

    def _give_up(self) -> None:
        """Let go of a cluster that does not stop: what waits on this session fails, and it is of no more use."""
        self._given_up.set()
        with suppress(WeirError):
            _guarded(self.session.client.close)


def open_spark(cluster: Cluster, *, directory: str | None = None) -> SparkEngine:
    """A session of its own on the cluster, with the settings that statements rely on.

    `directory`: instead of the cluster's own, for `keep`.

    Raises:
        Unavailable: the cluster cannot be reached.
        InternalError: the client is not installed, the token cannot be read, or the cluster refuses a setting.
    """
    address = _address(cluster)
    return SparkEngine(_guarded(lambda: _connect(address)), directory or cluster.directory)


def _address(cluster: Cluster) -> str:
    if cluster.token_file is None:
        return cluster.remote
    try:
        token = cluster.token_file.read_text(encoding="utf-8").strip()
    except OSError:
        raise InternalError("the token file of the cluster cannot be read", rule="engine.token") from None
    address = cluster.remote if "/;" in cluster.remote else f"{cluster.remote.rstrip('/')}/;"
    return f"{address.rstrip(';')};token={token}" if not address.endswith("/;") else f"{address}token={token}"


def _connect(remote: str) -> SparkSession:
    # It says so at import, of whatever it has not been told of; what we use of pandas is nothing.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"\[RETRIES_EXCEEDED\]", category=UserWarning)
    # Of a setting below that clusters have nevertheless.
    warnings.filterwarnings("ignore", message="The SQL config .* deprecated|Use raw string", category=UserWarning)
    with _without_an_installation():
        from pyspark.sql.connect.client.retries import DefaultPolicy
        from pyspark.sql.connect.session import SparkSession

    _silence()
    session = SparkSession.builder.remote(remote).create()
    # As it comes, the client goes on asking a cluster that is away for ten minutes.
    session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES)])
    for key, value in _SETTINGS.items():
        session.conf.set(key, value)
    return session


@contextmanager
def _without_an_installation() -> Iterator[None]:
    # In a program that has no file (`python -c`, a worker of a pool) the client looks for a Spark of this machine at
    # import, which the thin client is without, and ends the program. What it is told here it does not look for.
    name = "SPARK_HOME"
    if name in os.environ:
        yield
        return
    os.environ[name] = os.devnull
    try:
        yield
    finally:
        del os.environ[name]


def _silence() -> None:
    # The client writes every error of the cluster to stderr, statement and cell values with it, by a logger with a
    # handler of its own, which exists once these modules do.
    logging.getLogger("SQLQueryContextLogger").disabled = True
    logging.getLogger("pyspark").setLevel(logging.CRITICAL + 1)


def _table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {"BIGINT": pa.int64(), "INT": pa.int32(), "TEXT": pa.string(), "BOOLEAN": pa.bool_(), "BINARY": pa.binary()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    listed = list(rows)
    arrays = [[row[index] for row in listed] for index in range(len(columns))]
    return pa.Table.from_arrays(
        [pa.array(values, type=field.type) for values, field in zip(arrays, schema, strict=True)], schema=schema
    )


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [[_plain(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _plain(value: Any) -> Any:
    """Decimals without digits after the point are our integers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _guarded(call: Callable[[], _T], stopped: threading.Event | None = None, *, foreign: bool = False) -> _T:
    """`foreign`: the call names what is not ours."""
    try:
        return call()
    except ImportError:
        failure: WeirError = InternalError(
            "Spark needs `pip install dataweir[spark]` on this machine", rule="engine.extra"
        )
    except SystemExit:  # at import the client exits where it does not find itself, as in a program without a file
        _LOG.error("engine failure of type SystemExit")
        failure = InternalError("the engine failed", rule="engine.failed")
    except Exception as error:  # the client raises gRPC's, Arrow's, pandas' and its own
        kind = type(error).__name__
        _LOG.error("engine failure of type %s", kind)  # its text would quote cells
        if stopped is not None and stopped.is_set():
            failure = Unavailable("the engine was stopped before it finished", rule="engine.interrupted")
        elif _is_lost(error, foreign=foreign):
            failure = Unavailable("the cluster's session has ended", rule=LOST)
        elif _is_unreachable(error):
            failure = Unavailable("the cluster cannot be reached", rule=UNREACHABLE)
        else:
            failure = InternalError("the engine failed", rule="engine.failed")
    try:
        raise failure  # here, so that the failure has no context
    finally:
        del failure  # its traceback holds this frame, and with it the call


def _is_lost(error: Exception, *, foreign: bool) -> bool:
    from pyspark.errors import PySparkAssertionError, PySparkException

    if isinstance(error, PySparkAssertionError):  # what answers now is another server than before
        return True
    said = f"{error.getCondition()} {error}" if isinstance(error, PySparkException) else ""
    return any(condition in said for condition in _LOST_CONDITIONS) or (not foreign and _NO_NAME in said)


def _is_unreachable(error: Exception) -> bool:
    from grpc import StatusCode
    from pyspark.errors.exceptions.connect import SparkConnectGrpcException

    return isinstance(error, SparkConnectGrpcException) and error.getGrpcStatusCode() is StatusCode.UNAVAILABLE
