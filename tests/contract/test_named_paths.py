# SPDX-License-Identifier: Apache-2.0
"""Files and folders that the documents name in code marks exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
MADE = ("bench/out/",)
"""Folders that commands make and nobody checks in."""
NAMED = re.compile(r"`((?:tests|server|core|client|protos|docs|bench|examples)/[A-Za-z0-9_./{},*-]*)`")


def expanded(name: str) -> list[str]:
    """`a/{b,c}.py` names two files."""
    braces = re.search(r"\{([^}]*)\}", name)
    if braces is None:
        return [name]
    return [name[: braces.start()] + part + name[braces.end() :] for part in braces.group(1).split(",")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    names = [name for found in NAMED.findall(document.read_text(encoding="utf-8")) for name in expanded(found)]
    kept = [name for name in names if not name.startswith(MADE)]
    missing = [name for name in kept if not list(ROOT.glob(name.rstrip("/")))]
    assert not missing


def test_some_paths_are_named() -> None:
    assert sum(len(NAMED.findall(path.read_text(encoding="utf-8"))) for path in DOCUMENTS) > 20
