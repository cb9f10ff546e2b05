# SPDX-License-Identifier: Apache-2.0
"""Reads operators' YAML documents strictly: every fault is collected, and unknown keys are refused, since a misspelt
restriction must not vanish.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, TypeGuard, TypeVar
from zoneinfo import ZoneInfo

import yaml

from weir.errors import InvalidRequest, WeirError

MAX_DOCUMENT = 256 * 1024
MAX_FAULTS = 15
"""Faults told at once: what the trailers of a refused call hold."""
_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_Word = TypeVar("_Word")
_Known = TypeVar("_Known", bound=str)


def load_document(text: str, number: int) -> dict[str, Any]:
    """The mapping of one YAML document; `number` counts from 1, for the text.

    Raises:
        InvalidRequest: too large, no YAML, or no mapping.
    """
    if len(text) > MAX_DOCUMENT:
        raise InvalidRequest(f"document {number} is too large", field="documents", rule="policy.document")
    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise InvalidRequest(
            f"document {number} is no YAML{where}: {problem}", field="documents", rule="policy.document"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise InvalidRequest(f"document {number} is no mapping", field="documents", rule="policy.document")
    return loaded


def refused_documents(faults: Sequence[str], *, rule: str) -> InvalidRequest:
    """The refusal of policy documents, with every fault by itself as far as there is room."""
    told = [*faults[:MAX_FAULTS], f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else faults
    return InvalidRequest("; ".join(told), findings=told, field="documents", rule=rule)


class Reader:
    """Reads a mapping key by key, collects faults, and in the end names the keys nobody asked for."""

    def __init__(self, content: Mapping[str, Any], *, where: str) -> None:
        self._content, self._where, self._seen = content, where, set[str]()
        self.faults: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, which thereby is known."""
        self._seen.add(key)
        return self._content.get(key, default)

    def fault(self, key: str, sentence: str) -> None:
        """Collects one fault."""
        self.faults.append(f"{self._where}: {key} {sentence}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text of 1 to 500 characters."""
        value = self.get(key, default)
        if not _is_text(value):
            self.fault(key, "must be a text of 1 to 500 characters")
            return ""
        return value

    def identifier(self, key: str) -> str:
        """A name: small letters, digits and hyphens, at most 63."""
        value = self.text(key)
        if value and not _ID.fullmatch(value):
            self.fault(key, "must be small letters, digits and hyphens, at most 63")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts of 1 to 500 characters; empty where the key is absent."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > 500 or not all(map(_is_text, value)):
            self.fault(key, "must be a list of texts of 1 to 500 characters")
            return ()
        return tuple(value)

    def word(self, key: str, known: Sequence[_Known], *, default: str | None) -> _Known:
        """One of the known words."""
        word = self.text(key, default)
        if word not in known:
            self.fault(key, f"must be one of {', '.join(sorted(known))}")
        return next((one for one in known if one == word), known[0])

    def words(self, key: str, known: Callable[[str], _Word]) -> frozenset[_Word]:
        """A set of known words."""
        found = set[_Word]()
        for word in self.texts(key):
            try:
                found.add(known(word))
            except ValueError:
                self.fault(key, f"does not know {word!r:.60}")
        return frozenset(found)

    def amount(self, key: str, parse: Callable[..., int], default: int = 0) -> int:
        """An exact decimal, parsed into integer units."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            self.fault(key, "must be a decimal")
            return default
        try:
            return parse(value, field=key)
        except WeirError as error:
            self.fault(key, error.message.removeprefix(f"{key} "))
            return default

    def count(self, key: str, *, default: int | None = None) -> int:
        """A whole number of at least 0."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            self.fault(key, "must be a whole number of at least 0")
            return 0
        return value

    def instant(self, key: str) -> datetime:
        """A time with a zone; a bare date is its first instant in UTC."""
        value = self.get(key)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value
        if type(value) is date:
            return datetime.combine(value, time(), tzinfo=ZoneInfo("UTC"))
        try:
            instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            self.fault(key, "must be a date or a time with a zone")
            return datetime.min.replace(tzinfo=ZoneInfo("UTC"))
        return instant

    def nested(self, key: str) -> Reader:
        """Reader of a mapping inside; its faults join these."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, "must be a mapping")
            value = {}
        reader = Reader(value, where=f"{self._where}, {key}")
        reader.faults = self.faults
        return reader

    def items(self, key: str) -> list[Reader]:
        """Readers of a list of mappings; their faults join these."""
        value = self.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fault(key, "must be a list of mappings")
            return []
        readers = [Reader(item, where=f"{self._where}, {key}") for item in value]
        for reader in readers:
            reader.faults = self.faults
        return readers

    def finish(self) -> list[str]:
        """All faults, unknown keys included."""
        for key in sorted(set(self._content) - self._seen):
            self.faults.append(f"{self._where}: unknown key {key!r:.60}")
        return self.faults


def duplicates(names: Sequence[str], kind: str) -> list[str]:
    """A fault for every name that stands more than once."""
    return [f"{kind} {name} is defined twice" for name, times in sorted(Counter(names).items()) if name and times > 1]


def _is_text(value: object) -> TypeGuard[str]:
    # An empty name would be "nothing stated" where names are compared: a purpose, or the base of a dimension.
    return isinstance(value, str) and 1 <= len(value) <= 500
