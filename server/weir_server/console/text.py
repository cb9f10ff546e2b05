# SPDX-License-Identifier: Apache-2.0
"""Everything the console says: `words/*.toml`, one file for each language it speaks, all with the same keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""Languages by tag, each named in itself; the first is the default."""
DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences of one language."""

    language: str
    """`en` or `zh`; for Chinese the document's tag is `zh-Hans`."""
    sentences: Mapping[str, str]

    @property
    def tag(self) -> str:
        """BCP 47 tag of a page in this language."""
        return "zh-Hans" if self.language == "zh" else self.language

    def say(self, key: str, **values: object) -> str:
        """The sentence of a key, with its values put in.

        Raises:
            KeyError: no such key, or a value is missing.
        """
        return self.sentences[key].format(**values) if values else self.sentences[key]

    def has(self, key: str) -> bool:
        """Whether there is such a sentence; for words of open sets, which show as they are otherwise."""
        return key in self.sentences

    def name(self, group: str, word: str) -> str:
        """The word of a closed set in this language, `group.word`; the word itself where the set has grown."""
        return self.sentences.get(f"{group}.{word}", word)


@lru_cache
def words_of(language: str) -> Words:
    """The words of a language; of the default one where it is unknown."""
    chosen = language if language in LANGUAGES else DEFAULT
    text = (resources.files(__package__) / "words" / f"{chosen}.toml").read_text(encoding="utf-8")
    return Words(chosen, dict(_flat(tomllib.loads(text), "")))


def preferred(header: str) -> str:
    """The language an Accept-Language header asks for first among those spoken here."""
    for part in header.split(","):
        tag = part.split(";")[0].strip().lower()
        if tag.split("-")[0] in LANGUAGES:
            return tag.split("-")[0]
    return DEFAULT


def _flat(content: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in content.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
