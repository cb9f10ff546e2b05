# SPDX-License-Identifier: Apache-2.0
"""A canonical query for people: as SQL, and in a sentence of their language. From its JSON form, as it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from weir_server.console.text import Words

_AGGREGATE = re.compile(r"([a-z_]+)(?:\(([a-z0-9_]+)(?:,([0-9.]+))?\))?")
_SIGNS = {"=": "=", "<>": "≠", "<": "<", "<=": "≤", ">": ">", ">=": "≥"}
_FEW = 12


def sql(query: str, *, unit: str) -> str:
    """The query as SQL of the client's dialect, a clause a line. `unit`: name of the dataset's privacy unit."""
    content: Mapping[str, Any] = json.loads(query)
    columns = [*content["group_by"], *(_call(name, unit) for name, _ in content["aggregates"])]
    lines = [f"SELECT {', '.join(columns)}", f"FROM {content['dataset']}"]
    if content["where"] is not None:
        lines.append(f"WHERE {_condition(content['where'], top=True)}")
    if content["group_by"]:
        lines.append(f"GROUP BY {', '.join(content['group_by'])}")
    return "\n".join(lines)


def sentence(query: str, words: Words) -> str:
    """The query in one sentence."""
    content: Mapping[str, Any] = json.loads(query)
    values = {
        "what": words.say("question.and").join(_told(name, words) for name, _ in content["aggregates"]),
        "groups": words.say("question.comma").join(content["group_by"]),
        "dataset": content["dataset"],
        "snapshot": content["snapshot"],
    }
    if content["where"] is None:
        return words.say("question.grouped" if content["group_by"] else "question.plain", **values)
    condition = _condition_told(content["where"], words)
    return words.say("question.grouped_where" if content["group_by"] else "question.where", **values, where=condition)


def filtered_columns(query: str) -> list[str]:
    """Columns that the query compares with literals, in order: what a standing approval may leave free."""
    where = json.loads(query)["where"]
    return sorted(_columns(where)) if where is not None else []


def _columns(node: list[Any]) -> set[str]:
    if node[0] in ("and", "or", "not"):
        return set().union(*(_columns(child) for child in node[1:]))
    return set() if node[0] in ("is null", "is not null") else {node[1]}


def _call(name: str, unit: str) -> str:
    function, measure, rank = _parts(name)
    if function == "count":
        return "COUNT(*)"
    if function == "count_units":
        return f"COUNT(DISTINCT {unit})"
    return f"{function.upper()}({measure}{f', {rank}' if rank else ''})"


def _told(name: str, words: Words) -> str:
    function, measure, rank = _parts(name)
    return words.say(f"function.{function}", measure=measure, rank=rank)


def _parts(name: str) -> tuple[str, str, str]:
    found = _AGGREGATE.fullmatch(name)
    if found is None:
        return name, "", ""
    return found.group(1), found.group(2) or "", found.group(3) or ""


def _condition(node: list[Any], *, top: bool = False) -> str:
    if node[0] in ("and", "or"):
        inner = f" {node[0].upper()} ".join(_condition(child) for child in node[1:])
        return inner if top else f"({inner})"
    if node[0] == "not":
        return f"NOT {_condition(node[1])}"
    if node[0] in ("in", "not in"):
        return f"{node[1]} {node[0].upper()} ({', '.join(_literal(item) for item in node[2])})"
    if node[0] in ("is null", "is not null"):
        return f"{node[1]} {node[0].upper()}"
    return f"{node[1]} {node[0]} {_literal(node[2])}"


def _condition_told(node: list[Any], words: Words) -> str:
    if node[0] in ("and", "or"):
        parts = [_condition_told(child, words) for child in node[1:]]
        return (
            words.say(f"question.{node[0]}_open")
            + words.say(f"question.{node[0]}").join(parts)
            + words.say(f"question.{node[0]}_close")
        )
    if node[0] == "not":
        return words.say("question.not", where=_condition_told(node[1], words))
    if node[0] in ("in", "not in"):
        shown = [_literal(item) for item in node[2][:_FEW]]
        more = words.say("question.more", number=len(node[2]) - _FEW) if len(node[2]) > _FEW else ""
        key = "question.in" if node[0] == "in" else "question.not_in"
        return words.say(key, column=node[1], values=words.say("question.comma").join(shown) + more)
    if node[0] in ("is null", "is not null"):
        return words.say("question.null" if node[0] == "is null" else "question.not_null", column=node[1])
    return f"{node[1]} {_SIGNS[node[0]]} {_literal(node[2])}"


def _literal(item: list[Any]) -> str:
    """Quoted in the sentence too: a requester chooses the text, and none may read there as a condition."""
    kind, value = item
    if kind == "boolean":
        return "TRUE" if value else "FALSE"
    return "'" + str(value).replace("'", "''") + "'" if kind == "text" else str(value)
