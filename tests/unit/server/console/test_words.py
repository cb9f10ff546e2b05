# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from weir.errors import tree
from weir_server.cases.values import KINDS, STATES
from weir_server.catalog.card import Grade, Mode
from weir_server.console.links import PEOPLE
from weir_server.console.reads import approvals, meter
from weir_server.console.screens.stops import SCOPES
from weir_server.console.screens.table import ROOMS
from weir_server.console.text import LANGUAGES, preferred, words_of
from weir_server.ledger import METRICS
from weir_server.ledger.values import WINDOWS
from weir_server.policy import lifecycle
from weir_server.policy.documents import KINDS as DOCUMENT_KINDS

CONSOLE = Path(str(resources.files("weir_server.console")))
TEMPLATES = sorted((CONSOLE / "templates").glob("*.html"))
_TAGS = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_USED = re.compile(r"""(?:\bt|\bsay|\bgo|Step)\(\s*(?:[a-z_./{}\"' ]+,\s*)?["']([a-z_]+\.[a-z_]+)["']""")
_SPOKEN = ("title", "alt", "placeholder", "aria-label", "content")


def _fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_language_has_the_same_sentences_with_the_same_values() -> None:
    first, *others = (words_of(language).sentences for language in LANGUAGES)
    for other in others:
        assert other.keys() == first.keys()
        different = [key for key in first if _fields(first[key]) != _fields(other[key])]
        assert not different


def test_no_sentence_was_left_in_the_other_language() -> None:
    english, chinese = words_of("en").sentences, words_of("zh").sentences
    assert not [key for key, text in english.items() if re.search(r"[\u4e00-\u9fff]", text)]
    same = [key for key, text in chinese.items() if text == english[key] and re.search(r"[a-z]{3}", text)]
    assert not same


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.found += [value or "" for name, value in attrs if name in _SPOKEN]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_says_anything_by_itself(template: Path) -> None:
    texts = _Texts()
    texts.feed(_TAGS.sub("", template.read_text(encoding="utf-8")))
    assert not [text for text in texts.found if re.search(r"[^\W\d_]{2}", text)]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_an_inline_style_or_script(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<style", text)
    assert all("src=" in script for script in re.findall(r"<script[^>]*>", text))


def test_every_sentence_that_pages_use_exists() -> None:
    sentences = words_of("en").sentences
    sources = [*TEMPLATES, *CONSOLE.rglob("*.py")]
    used = {(path.name, key) for path in sources for key in _USED.findall(path.read_text(encoding="utf-8"))}
    assert len(used) > 200
    assert not [item for item in used if item[1] not in sentences and item[1].partition(".")[0] in _groups()]


def _groups() -> set[str]:
    return {key.partition(".")[0] for key in words_of("en").sentences}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_closed_set_is_said_in_every_language(language: str) -> None:
    has = words_of(language).has
    sets = {
        "error": {kind.reason for kind in tree()},
        "metric": {*METRICS, "answers"},
        "window": WINDOWS,
        "grade": [grade.name for grade in Grade],
        "mode": [*(mode.value for mode in Mode), "sealed"],
        "role": PEOPLE,
        "scope": SCOPES,
        "approval_state": [*approvals.STATES, "expired"],
        "contract_state": lifecycle.STATES,
        "case_kind": KINDS,
        "case_state": STATES,
        "document_kind": [kind.word for kind in DOCUMENT_KINDS],
        "word": meter.BY,
        "rooms": [group for group, _ in ROOMS],
        "screen": [name for _, names in ROOMS for name in names],
        "level": ("good", "watched", "restricted"),
    }
    missing = [f"{group}.{word}" for group, words in sets.items() for word in words if not has(f"{group}.{word}")]
    assert not missing


@pytest.mark.parametrize(
    ("header", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("fr,en;q=0.5,zh;q=0.4", "en"), ("", "en"), ("fr", "en"), ("ZH", "zh")],
)
def test_the_language_a_browser_prefers_is_the_first_that_is_spoken(header: str, language: str) -> None:
    assert preferred(header) == language


def test_an_unknown_word_of_a_growing_set_shows_as_it_is() -> None:
    assert words_of("zh").name("event", "weir.future.thing") == "weir.future.thing"
