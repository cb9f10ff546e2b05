# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from weir_server import observe
from weir_server.observe import Metrics, SafeFormatter, event

SECRET = "zebra-4711"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    lines = io.StringIO()
    handler = observe.Lines(lines)
    handler.setFormatter(SafeFormatter())
    root, own = logging.getLogger(), logging.getLogger(observe.LOGGER)
    level = own.level
    root.addHandler(handler)
    own.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    own.setLevel(level)


def test_an_event_is_one_line_of_json_with_its_fields(stream: io.StringIO) -> None:
    event("call", rpc="/a/b", seconds=0.5)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["rpc"], line["seconds"], line["level"]) == ("call", "/a/b", 0.5, "info")


def test_a_key_outside_the_list_is_dropped(stream: io.StringIO) -> None:
    event("call", cell=SECRET)  # type: ignore[call-arg]
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("text", ["two\nlines", 'quote"', "x" * 201, "值", "{brace}"])
def test_text_of_harmful_characters_or_length_is_replaced(stream: io.StringIO, text: str) -> None:
    event("call", rule=text)
    assert json.loads(stream.getvalue())["rule"] == "?"
    assert stream.getvalue().count("\n") == 1


def test_a_librarys_record_keeps_its_place_and_loses_its_text(stream: io.StringIO) -> None:
    logging.getLogger("some.library").error("row %s is bad", SECRET)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("library", "some.library", "error")
    assert SECRET not in stream.getvalue()


def test_a_traceback_keeps_type_and_place_only(stream: io.StringIO) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved: %s", SECRET)
    line = json.loads(stream.getvalue())
    assert line["exception"] == "ValueError"
    assert line["location"].startswith("test_observe.py:")
    assert SECRET not in stream.getvalue()


def test_metric_labels_come_from_closed_sets() -> None:
    metrics = Metrics()
    metrics.call_ended("/a/b", reason=SECRET, seconds=0.1)
    metrics.answered(SECRET)
    exposed = generate_latest(metrics.registry).decode()
    assert SECRET not in exposed
    assert 'reason="INTERNAL"' in exposed
    assert 'mode="other"' in exposed


def test_lines_of_one_step_of_an_event_loop_are_written_together_after_it(stream: io.StringIO) -> None:
    async def step() -> tuple[str, str]:
        event("call", reason="OK")
        event("call", reason="CANCELLED")
        during = stream.getvalue()
        await asyncio.sleep(0)
        return during, stream.getvalue()

    during, after = asyncio.run(step())
    assert during == ""
    assert [json.loads(line)["reason"] for line in after.splitlines()] == ["OK", "CANCELLED"]


def test_an_error_is_written_at_once_behind_what_came_before(stream: io.StringIO) -> None:
    async def step() -> str:
        event("call", reason="OK")
        event("incident", level=logging.ERROR, incident="0a")
        return stream.getvalue()

    assert [json.loads(line)["event"] for line in asyncio.run(step()).splitlines()] == ["call", "incident"]


def test_a_thread_writes_at_once_what_a_loop_has_said(stream: io.StringIO) -> None:
    async def step() -> str:
        event("call", reason="OK")
        await asyncio.to_thread(event, "reloaded", file="revoked.crl")
        return stream.getvalue()

    assert [json.loads(line)["event"] for line in asyncio.run(step()).splitlines()] == ["call", "reloaded"]


def test_a_stream_that_was_closed_fails_nobody(stream: io.StringIO) -> None:
    async def step() -> str:
        event("call", reason="OK")
        stream.close()
        await asyncio.sleep(0)
        return "on"

    assert asyncio.run(step()) == "on"
