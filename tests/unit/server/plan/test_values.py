# SPDX-License-Identifier: Apache-2.0
import copy
import json
import pickle
import traceback
from collections.abc import Callable

import pytest

from weir_server.plan.values import Raw, literal_of, open_raw

CANARY = "8675309"
RAW = Raw([CANARY])


WAYS: dict[str, Callable[[Raw], object]] = {
    "str": str,
    "format": "{}".format,
    "f-string": lambda raw: f"{raw}",
    "padding": lambda raw: f"{raw:>9}",
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "json": json.dumps,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_raw_value_has_no_text_and_no_wire_form(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        WAYS[way](RAW)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_raw_value_shows_nothing_to_whoever_prints_what_holds_it() -> None:
    assert repr([RAW]) == "[<Raw>]"
    assert not hasattr(RAW, "__dict__")
    assert CANARY not in "".join(traceback.format_exception(ValueError(RAW)))


def test_the_technique_that_made_it_opens_it() -> None:
    assert open_raw(RAW) == [CANARY]


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), (True, "boolean"), (1, "integer"), ("a", "text")], ids=str)
def test_a_cell_says_its_kind(value: bool | int | str | None, kind: str) -> None:
    assert literal_of(value) == (kind, value)
