# SPDX-License-Identifier: Apache-2.0
"""The walk at the head of docs/operate.md, held against the commands and defaults that it relies on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from weir_client.cli import cli
from weir_server.config import Config

DOCUMENT = Path(__file__).parents[2] / "docs" / "operate.md"
WALK = [
    shlex.split(line, comments=True)[1:]
    for line in DOCUMENT.read_text("utf-8").partition("## From nothing")[2].split("```")[1].splitlines()
    if line.startswith("weir ")
]


def after(words: list[str], option: str) -> str | None:
    return words[words.index(option) + 1] if option in words else None


def test_the_walk_is_found() -> None:
    assert [words[0] for words in WALK] == [
        "init", "identity", "identity", "serve", "publish", "apply", "doctor",
    ]  # fmt: skip


@pytest.mark.parametrize("words", WALK, ids=lambda words: words[0])
def test_every_step_has_options_that_its_command_has(words: list[str]) -> None:
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words[1:] if word.startswith("-")} <= known


def test_every_step_that_calls_the_server_knows_where_it_is() -> None:
    """Before, olga's file had no address, and the steps behind it failed."""
    addresses = {after(words, "-o"): after(words, "--address") for words in WALK if words[0] == "identity"}
    for words in WALK:
        file = after(words, "--identity")
        if file is not None:
            assert (after(words, "--server") or addresses[file]) == Config().listen.admin, words


def test_no_two_listeners_of_one_machine_have_the_same_default() -> None:
    audit: Any = cli.get_command(click.Context(cli), "audit")
    witness = audit.get_command(click.Context(audit), "witness")
    listen = Config().listen
    own = [listen.public, listen.admin, listen.metrics, listen.console]
    taken = [*own, next(parameter.default for parameter in witness.params if parameter.name == "listen")]
    assert len(set(taken)) == len(taken)
