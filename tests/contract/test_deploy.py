# SPDX-License-Identifier: Apache-2.0
"""What is shipped for running a server names commands and options that exist, and files that are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click

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


def test_the_container_runs_a_command_that_exists_and_copies_what_is_there() -> None:
    command = json.loads(re.findall(r"^CMD (\[.+\])$", CONTAINER, flags=re.MULTILINE)[0])
    check_command(command)
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINER, flags=re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    assert re.findall(r"^USER (\w+)$", CONTAINER, flags=re.MULTILINE) == ["weir"]
