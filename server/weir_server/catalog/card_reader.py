# SPDX-License-Identifier: Apache-2.0
"""YAML of people, read strictly: no float, no date, no surprise boolean, no duplicate key, no unknown key.

`Fields` walks one mapping and collects every violation with its dotted path instead of stopping at the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import yaml

from weir.errors import CardError, Violation

_T = TypeVar("_T")
_MISSING = object()
MAX_TEXT = 4000
MAX_BYTES = 4_000_000


class _Loader(yaml.SafeLoader):
    """Only null, true/false and integers are more than text; 0.1 stays the text that people wrote."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:null", r"~|null|", ["~", "n", ""]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, list | dict) or key in found:
            raise yaml.constructor.ConstructorError(None, None, "a key appears twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def read_yaml(text: str) -> Any:
    """Content of a YAML document.

    Raises:
        CardError: no YAML, or a key twice; the text names the line.
    """
    if len(text) > MAX_BYTES:
        raise CardError("a card has at most 4 MB", rule="card.size")
    try:
        # _Loader is a SafeLoader: it constructs plain values only.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise CardError(f"the card is no YAML that Weir reads: {problem}{where}", rule="card.yaml") from error


class Fields:
    """One mapping of a card. Every accessor marks its key as known and returns a usable value even when it is wrong,
    having noted the violation; `finish` notes the keys that nobody asked for."""

    def __init__(self, content: Any, path: str, violations: list[Violation]) -> None:
        self._path = path
        self._violations = violations
        self._known: set[str] = set()
        if not isinstance(content, dict):
            self.refuse("card.mapping", path or "card", "expected keys and values")
            content = {}
        if None in content and "null" in content:
            self.refuse("card.mapping", self.at("null"), "a key appears twice")
        # As people write the key `null` without quotes, YAML reads it as no text.
        self._content: dict[Any, Any] = {"null" if key is None else key: value for key, value in content.items()}

    def refuse(self, rule: str, subject: str, sentence: str) -> None:
        """Note a violation."""
        self._violations.append(Violation(rule=rule, subject=subject, count=0, sentence=sentence))

    def at(self, key: str | int) -> str:
        """Dotted path of a key."""
        return f"{self._path}.{key}" if self._path else str(key)

    def has(self, key: str) -> bool:
        """Whether the key is given and not null."""
        self._known.add(key)
        return self._content.get(key) is not None

    def raw(self, key: str, default: Any = _MISSING) -> Any:
        """The value as YAML gave it."""
        self._known.add(key)
        value = self._content.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            self.refuse("card.missing", self.at(key), "this key is required")
            return None
        return default

    def text(self, key: str, default: Any = _MISSING, *, choices: Iterable[str] = ()) -> str:
        """Text, one of `choices` where given."""
        value, words = self.raw(key, default), list(choices)
        if value is None:
            return words[0] if words else ""  # noted as missing; a word that callers can go on with
        if value is default:
            return str(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            self.refuse("card.text", self.at(key), f"expected text of at most {MAX_TEXT} characters")
            return ""
        if words and value not in words:
            self.refuse("card.choice", self.at(key), f"expected one of: {', '.join(words)}")
            return words[0]
        return value.strip()

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        """true or false."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            if value is not None:
                self.refuse("card.flag", self.at(key), "expected true or false")
            return False
        return value

    def integer(self, key: str, default: Any = _MISSING) -> int:
        """A whole number."""
        value = self.raw(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            if value is not None:
                self.refuse("card.integer", self.at(key), "expected a whole number")
            return 0
        return value

    def steps(self, key: str, *, scale: int, default: Any = _MISSING) -> int:
        """A decimal on the grid of `scale` digits, as a count of grid steps."""
        value = self.raw(key, default)
        return 0 if value is None else self.as_steps(value, self.at(key), scale=scale)

    def as_steps(self, value: Any, path: str, *, scale: int) -> int:
        """`value` as a count of grid steps."""
        number = _decimal(value)
        if number is None:
            self.refuse("card.decimal", path, "expected a decimal number such as 12.50")
            return 0
        numerator, denominator = number.as_integer_ratio()
        count, rest = divmod(numerator * int(10 ** max(scale, 0)), denominator)
        if rest:
            self.refuse("card.grid", path, f"finer than the declared scale of {scale} digits")
        return count

    def items(self, key: str, read: Callable[[Any, str], _T | None], *, required: bool = True) -> tuple[_T, ...]:
        """A list, each item read by `read(item, path)`; items read as None are left out."""
        value = self.raw(key) if required else self.raw(key, [])
        if not isinstance(value, list):
            if value is not None:
                self.refuse("card.list", self.at(key), "expected a list")
            return ()
        results = [read(item, self.at(f"{key}[{index}]")) for index, item in enumerate(value)]
        return tuple(result for result in results if result is not None)

    def mapping(self, key: str) -> dict[Any, Any]:
        """A mapping with keys of the author's own; empty when absent."""
        value = self.raw(key, {})
        if not isinstance(value, dict):
            self.refuse("card.mapping", self.at(key), "expected keys and values")
            return {}
        return value

    def section(self, key: str, *, required: bool = True) -> Fields:
        """A nested mapping."""
        value = self.raw(key) if required else self.raw(key, {})
        return Fields({} if value is None else value, self.at(key), self._violations)

    def sub(self, content: Any, path: str) -> Fields:
        """A mapping found inside a list."""
        return Fields(content, path, self._violations)

    def finish(self) -> None:
        """Note every key that was not asked for."""
        for key in self._content:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                self.refuse("card.unknown_key", self.at(key), f"unknown key; known here: {known}")


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= 40 else None
