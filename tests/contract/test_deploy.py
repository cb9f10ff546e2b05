# SPDX-License-Identifier: Apache-2.0
"""What is shipped for running a server names commands and options that exist, and files that are there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from weir_client.cli import cli

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "weir.service"
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")


def check_command(words: list[str]) -> None:
    """Every word parses as `weir` would parse it."""
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    assert command is not None, words[0]
    given = [*words[1:], *(() if "--data" in words else ("--data", "somewhere"))]
    command.make_context(words[0], given, resilient_parsing=False)


def test_the_unit_starts_a_command_that_exists() -> None:
    started = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(started) == 1
    program, *words = shlex.split(started[0])
    assert Path(program).name == "weir"
    check_command(words)


def test_the_unit_waits_longer_than_queries_may_drain() -> None:
    seconds = int(re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)[0])
    from weir_server.config import Shutdown

    assert seconds > Shutdown().drain_seconds


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/weir/bin/weir", sys.executable), encoding="utf-8")
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_unit_lets_a_start_know_whether_the_machine_was_restarted() -> None:
    """Mutant: `ProcSubset=pid` hides the boot's name, and each restart believes whatever clock it finds for a day."""
    from weir_server.health import pulse

    assert pulse.boot(), "as outside of a unit"
    assert "ProcSubset=pid" not in re.findall(r"^[A-Z]\w+=.*$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_container_s_health_is_asked_where_it_is_told() -> None:
    (command,) = re.findall(r"^HEALTHCHECK .+\n\s+(\[.+\])$", CONTAINER, flags=re.MULTILINE)
    (port, path) = re.findall(r"127\.0\.0\.1:(\d+)(/[a-z/]+)", json.loads(command)[2])[0]
    serve = json.loads(re.findall(r"^CMD (\[.+\])$", CONTAINER, flags=re.MULTILINE)[0])
    assert serve[serve.index("--metrics") + 1].endswith(f":{port}")
    assert path in (ROOT / "server" / "weir_server" / "health" / "probes.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_the_container_s_health_is_asked_of_itself_whatever_proxy_it_is_given(status: int, well: bool) -> None:
    """Mutant: podman hands its own `http_proxy` on, and a proxy is asked for what 127.0.0.1 says."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    (command,) = re.findall(r"^HEALTHCHECK .+\n\s+(\[.+\])$", CONTAINER, flags=re.MULTILINE)
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        program = json.loads(command)[2].replace("7445", str(server.server_port))
        asking = {"http_proxy": "http://127.0.0.1:1", "PATH": os.environ["PATH"]}
        done = subprocess.run([sys.executable, "-c", program], env=asking, timeout=60, check=False, capture_output=True)
    assert (done.returncode == 0) is well


def test_the_container_is_built_in_a_form_that_has_its_health() -> None:
    """Mutant: podman's own form of images leaves HEALTHCHECK out, with a warning."""
    (built,) = re.findall(r"`(podman build [^`]+)`", CONTAINER)
    assert "--format docker" in built


def test_the_unit_outlasts_a_database_or_a_clock_that_is_away_for_long() -> None:
    """Mutant: twenty starts in five minutes, two seconds apart: a failover of a minute and a half ends it for good."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert settings["StartLimitIntervalSec"] == "0"
    assert 5 <= int(settings["RestartSec"]) <= 30


def test_the_container_runs_a_command_that_exists_and_copies_what_is_there() -> None:
    command = json.loads(re.findall(r"^CMD (\[.+\])$", CONTAINER, flags=re.MULTILINE)[0])
    check_command(command)
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINER, flags=re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    assert re.findall(r"^USER (\w+)$", CONTAINER, flags=re.MULTILINE) == ["weir"]
