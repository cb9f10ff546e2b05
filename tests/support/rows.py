# SPDX-License-Identifier: Apache-2.0
"""The same tests wherever rows lie: ask for the fixture `rows`, or for `cluster` where only a Spark will do.

Three engines: DuckDB in this process; Sail, a server compatible with Spark Connect that starts at once; and Apache
Spark's own Connect server, which `make spark` installs into `.spark` and which wants Java 17.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from weir_server.engine.duckdb import open_engine
from weir_server.engine.port import RowEngine
from weir_server.engine.spark import Cluster, SparkEngine, open_spark

_ROOT = Path(__file__).resolve().parents[2]
_STARTS_WITHIN = 180.0


def spark_home() -> Path | None:
    """Apache Spark as `make spark` installs it, or None where it or Java is missing."""
    found = sorted((_ROOT / ".spark").glob("lib/python3.*/site-packages/pyspark"))
    return found[0] if found and shutil.which("java") else None


@contextmanager
def running_sail() -> Iterator[str]:
    """Sail on a free port of this machine; how it is reached."""
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    try:
        host, port = server.listening_address
        yield f"sc://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def running_spark(home: Path, directory: Path) -> Iterator[str]:
    """Apache Spark's Connect server with two cores of this machine; how it is reached. `directory`: its own files."""
    port = _free_port()
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.bindAddress": "127.0.0.1",
        # It lives for minutes and has few rows: what the JVM takes long to make fast is of no use to it.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.local.dir": str(directory / "local"),
        "spark.log.level": "WARN",
        # Else the compiler asks over a connection of its own for every class that a statement's code names.
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.sql.maxPlanStringLength": "1000",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(directory / "warehouse"),
        "spark.ui.enabled": "false",
    }
    command = [str(home / "bin" / "spark-submit"), "--master", "local[2]"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    command += [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "spark.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "spark-internal"], env=environment, stdout=log, stderr=log, cwd=directory, start_new_session=True
        )
        try:
            _wait_for(port, process)
            yield f"sc://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < end:
        assert process.poll() is None, "Spark ended while it started"
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("Spark did not start in time")


@pytest.fixture(scope="session")
def sail() -> Iterator[str]:
    """Where Sail is reached."""
    with running_sail() as remote:
        yield remote


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where Apache Spark is reached."""
    home = spark_home()
    if home is None:
        assert "CI" not in os.environ, "CI must have Apache Spark"
        pytest.skip("Apache Spark is not installed: make spark, and Java 17")
    with running_spark(home, tmp_path_factory.mktemp("spark")) as remote:
        yield remote


@pytest.fixture(params=["sail", pytest.param("spark", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """A Spark cluster, with a directory of its own for this test."""
    return Cluster(request.getfixturevalue(request.param), str(tmp_path / "cluster"))


_SESSIONS: dict[str, SparkEngine] = {}


@pytest.fixture(params=["duckdb", "sail", pytest.param("spark", marks=pytest.mark.slow)])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RowEngine]:
    """An engine where rows may lie, empty. Tests share one session on a cluster, since opening one takes seconds."""
    if request.param == "duckdb":
        with open_engine(None) as engine:
            yield engine
        return
    remote = request.getfixturevalue(request.param)
    if remote not in _SESSIONS:
        _SESSIONS[remote] = open_spark(Cluster(remote, "nowhere"))
    session = _SESSIONS[remote].session
    yield SparkEngine(session, str(tmp_path / "cluster"))
    for table in session.catalog.listTables():
        if table.isTemporary:
            session.catalog.dropTempView(table.name)
