# SPDX-License-Identifier: Apache-2.0
"""The guard around Spark Connect, on Sail: nothing of the data in its errors, limits that hold, sessions that come
back."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.rows import running_sail
from weir.errors import InternalError, Unavailable
from weir_server.dp import store
from weir_server.dp.store import DistantRows
from weir_server.engine.relational import Dialect, Statement, statement
from weir_server.engine.spark import LOST, UNREACHABLE, Cluster, SparkEngine, open_spark

CANARY = "canary-cell-4711"


class Long(Statement):
    """What takes a cluster seconds, in its own words."""

    def text(self, dialect: Dialect) -> str:
        return "SELECT sum(a.id * b.id % 7) FROM range(30000) a, range(30000) b"


@pytest.fixture
def engine(sail: str, tmp_path: Path) -> Iterator[SparkEngine]:
    made = open_spark(Cluster(sail, str(tmp_path / "cluster")))
    yield made
    made.close()


def failing(engine: SparkEngine) -> Exception:
    engine.load("cells", {"t": "TEXT"}, [(CANARY,)])
    with pytest.raises(InternalError) as failed:
        engine.select(statement("SELECT CAST(t AS BIGINT) FROM cells"))
    return failed.value


def test_an_error_that_quotes_a_cell_leaves_nothing_of_it(
    engine: SparkEngine, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="weir"):
        error = failing(engine)
    assert error.__context__ is None
    assert error.__cause__ is None
    printed = capfd.readouterr()
    # Sail lives in this process and writes a log of its own, so only what is ours or the client's is looked at.
    ours = [line for line in (printed.out + printed.err).splitlines() if "sail_" not in line and "INFO" not in line]
    assert CANARY not in "\n".join([str(error), repr(error.__dict__), caplog.text, *ours])


def test_a_statement_is_stopped_after_its_seconds(engine: SparkEngine) -> None:
    with pytest.raises(Unavailable) as stopped:
        engine.select(Long(""), seconds=0.2)
    assert stopped.value.rule == "engine.interrupted"


class Deaf:
    """A session whose cluster does not answer, nor stop where `stops` is not set."""

    def __init__(self, *, stops: bool = False) -> None:
        self.stops = stops
        self.ended = threading.Event()
        self.client = SimpleNamespace(close=self.ended.set)
        self.tags: list[tuple[str, str]] = []

    def sql(self, text: str) -> Deaf:
        return self

    def toArrow(self) -> object:
        self.ended.wait()
        raise ValueError("channel closed")

    def interruptTag(self, tag: str) -> None:
        self.tags.append(("interrupt", tag))
        if self.stops:
            self.ended.set()
        self.ended.wait()

    def addTag(self, tag: str) -> None:
        self.tags.append(("add", tag))

    def removeTag(self, tag: str) -> None:
        self.tags.append(("remove", tag))


def test_what_is_stopped_is_that_statement_alone() -> None:
    session = Deaf(stops=True)
    engine = SparkEngine(session, "nowhere")  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as stopped:
        engine.select(statement("SELECT 1 AS x"), seconds=0.1)
    (_, tag), *_ = session.tags
    assert stopped.value.rule == "engine.interrupted"
    assert session.tags == [("add", tag), ("interrupt", tag), ("remove", tag)]


def test_a_cluster_that_does_not_stop_is_let_go_and_its_session_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir_server.engine.spark._STOP_WITHIN", 0.1)
    engine = SparkEngine(Deaf(), "nowhere")  # type: ignore[arg-type]
    for rule in ("engine.interrupted", LOST):
        with pytest.raises(Unavailable) as stopped:
            engine.select(statement("SELECT 1 AS x"), seconds=0.1)
        assert stopped.value.rule == rule
    engine.close()


def test_a_cluster_that_is_not_there_is_unavailable_in_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Unavailable) as failed:
        open_spark(Cluster("sc://127.0.0.1:1", str(tmp_path)))
    assert failed.value.rule == UNREACHABLE
    assert "127.0.0.1" not in str(failed.value)
    assert time.monotonic() - start < 30


def test_the_token_is_read_from_its_file_and_shown_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("canary-token-4711\n", encoding="utf-8")
    # With a token the client speaks TLS, which this server does not; what matters is what is said about it.
    cluster = Cluster("sc://localhost:1", str(tmp_path), token)
    with pytest.raises(Unavailable) as failed:
        open_spark(cluster)
    printed = capfd.readouterr()
    shown = [str(failed.value), repr(failed.value.__dict__), repr(cluster), caplog.text, printed.out, printed.err]
    assert "canary-token" not in "\n".join(shown)


def test_a_token_file_that_is_not_there_is_a_failure_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InternalError) as failed:
        open_spark(Cluster("sc://127.0.0.1:1", str(tmp_path), tmp_path / "missing"))
    assert failed.value.rule == "engine.token"


def test_without_the_client_the_failure_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql.connect.session", None)
    with pytest.raises(InternalError, match=r"dataweir\[spark\]") as failed:
        open_spark(Cluster("sc://127.0.0.1:1", str(tmp_path)))
    assert failed.value.rule == "engine.extra"


def test_a_client_that_would_end_the_program_is_a_failure_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir_server.engine.spark._connect", lambda remote: sys.exit(-1))
    with pytest.raises(InternalError) as failed:
        open_spark(Cluster("sc://127.0.0.1:1", str(tmp_path)))
    assert failed.value.rule == "engine.failed"
    assert failed.value.__context__ is None


def test_integers_come_exact_whatever_their_size(engine: SparkEngine) -> None:
    asked = statement("SELECT EXACT_SUM(x), EXACT_SUM(x, 4), COUNT(*) FROM big")
    engine.load("big", {"x": "BIGINT"}, [(2**62,)] * 8)
    total, _, count = engine.select(statement(asked.source.replace(", 4)", f", {2**62})")))[0]
    assert (total, count) == (2**65, 8)


def test_a_session_that_the_cluster_ended_is_lost_and_rows_are_asked_again_in_a_new_one(
    sail: str, tmp_path: Path
) -> None:
    cluster = Cluster(sail, str(tmp_path / "cluster"))
    writer = open_spark(cluster)
    path = str(tmp_path / "cluster" / "rows")
    writer.save("made", statement("SELECT 7 AS x"), path=path)
    opened: list[SparkEngine] = []

    def opener() -> SparkEngine:
        opened.append(open_spark(cluster))
        return opened[-1]

    rows, ask = DistantRows(opener, path), statement("SELECT x FROM rows")
    assert rows.select(ask, seconds=30) == [(7,)]
    opened[0].drop("rows")  # as where a server makes a new session of a lost one's name
    with pytest.raises(Unavailable) as lost:
        opened[0].select(ask, seconds=30)
    assert lost.value.rule == LOST
    assert rows.select(ask, seconds=30) == [(7,)]
    assert len(opened) == 2
    rows.close()
    writer.close()


def test_a_cluster_that_takes_the_call_and_never_answers_keeps_nobody_for_longer_than_asked(
    sail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: whoever asks waits for the session, under a lock, for ever; and all queries wait for their threads. Nor
    does each of them leave another thread behind, nor end a session that others wait for."""
    cluster, path = Cluster(sail, str(tmp_path / "cluster")), str(tmp_path / "cluster" / "rows")
    writer = open_spark(cluster)
    writer.save("made", statement("SELECT 7 AS x"), path=path)
    answers, opened = [threading.Event(), threading.Event()], list[SparkEngine]()
    answers[1].set()
    tries = iter(answers)

    def opener() -> SparkEngine:
        next(tries).wait(60)
        opened.append(open_spark(cluster))
        return opened[-1]

    rows, ask = DistantRows(opener, path), statement("SELECT x FROM rows")
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(Unavailable) as away:
            rows.select(ask, seconds=0.1)
        assert away.value.rule == UNREACHABLE
    assert time.monotonic() - began < 10
    assert sum(thread.name == "weir-rows" for thread in threading.enumerate()) == 1
    monkeypatch.setattr(store, "_GIVEN_UP_SECONDS", 0.0)
    assert rows.select(ask, seconds=30) == [(7,)], "another one is tried"
    answers[0].set()
    deadline = time.monotonic() + 30
    while not (len(opened) == 2 and opened[1].session.is_stopped) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [engine.session.is_stopped for engine in opened] == [False, True], "what came too late is ended"
    assert rows.select(ask, seconds=30) == [(7,)]
    rows.close()
    writer.close()


def test_whoever_waits_for_a_session_that_fails_hears_it_in_an_error_of_its_own(tmp_path: Path) -> None:
    failure = Unavailable("the cluster is shut", rule="engine.shut")

    def opener() -> SparkEngine:
        raise failure

    rows = DistantRows(opener, str(tmp_path))
    for _ in range(2):
        with pytest.raises(Unavailable, match="shut") as heard:
            rows.select(statement("SELECT x FROM rows"), seconds=30)
        assert (heard.value.rule, heard.value is failure) == ("engine.shut", False)


def test_a_source_that_is_not_there_is_no_lost_session(engine: SparkEngine) -> None:
    for ask in (
        lambda: engine.columns("table:nowhere.visits"),
        lambda: engine.name("source", "table:visits_of_nobody"),
    ):
        with pytest.raises(InternalError):
            ask()


def test_the_clusters_defaults_change_nothing(sail: str, tmp_path: Path) -> None:
    """What a text says, and what a missing file means, is not the cluster's to choose."""
    made = open_spark(Cluster(sail, str(tmp_path / "cluster")))
    try:
        for name in (
            "variable.substitute",
            "parser.escapedStringLiterals",
            "runSQLOnFiles",
            "files.ignoreMissingFiles",
        ):
            assert made.session.conf.get(f"spark.sql.{name}") == "false"
    finally:
        made.close()


def test_rows_are_asked_again_after_the_cluster_was_started_anew(tmp_path: Path) -> None:
    remote: list[str] = []
    rows = DistantRows(lambda: open_spark(Cluster(remote[-1], str(tmp_path))), str(tmp_path / "rows"))
    ask: Statement = statement("SELECT x FROM rows")
    with running_sail() as first:
        remote.append(first)
        writer = open_spark(Cluster(first, str(tmp_path)))
        writer.save("made", statement("SELECT 7 AS x"), path=str(tmp_path / "rows"))
        assert rows.select(ask, seconds=30) == [(7,)]
    with pytest.raises(Unavailable):
        rows.select(ask, seconds=30)
    with running_sail() as second:
        remote.append(second)
        assert rows.select(ask, seconds=30) == [(7,)]
        rows.close()
