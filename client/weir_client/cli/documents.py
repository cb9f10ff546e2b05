# SPDX-License-Identifier: Apache-2.0
"""Policy documents as files hold them, and where in the files a fault lies that the service names by number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weir.errors import InvalidRequest

_FAULT = re.compile(r"document (\d+)(?: is no YAML at line (\d+))?")
_KEY = re.compile(r"(?:, (\w+))?(?:, \w+)*: (?:unknown key ')?(\w+)")
_CONTRACT = re.compile(r"contract/([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    text: str
    file: Path
    number: int
    """In its file, from 1."""
    line: int
    """Line of the file at which its text begins, from 1."""


def read_policy(paths: Sequence[Path]) -> list[Document]:
    """YAML documents of files and folders, in the order of file names; a file may hold several.

    Raises:
        InvalidRequest: none was found, or a file is not text.
    """
    files: list[Path] = []
    for path in paths:
        found = path.rglob("*") if path.is_dir() else [path]
        files += sorted(item for item in found if item.suffix in (".yaml", ".yml") or item == path)
    documents = [document for file in files for document in _split(file)]
    if not documents:
        raise InvalidRequest("no policy documents found there", field="paths", rule="policy.empty")
    return documents


def located(error: InvalidRequest, documents: Sequence[Document]) -> InvalidRequest:
    """The refusal of documents with file, line and number in the file before each of its faults."""
    found = [_place(fault, documents) + fault for fault in error.findings or (error.message,)]
    faults = "one fault" if len(found) == 1 else f"{len(found)} faults"
    return InvalidRequest(f"the documents are refused for {faults}", findings=found, field=error.field, rule=error.rule)


def _split(file: Path) -> list[Document]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is not a text file", field="paths", rule="policy.text") from None
    parts: list[tuple[int, list[str]]] = [(1, [])]
    for at, line in enumerate(lines, start=1):
        if line.rstrip() == "---":
            parts.append((at + 1, []))
        else:
            parts[-1][1].append(line)
    told = [(at, part) for at, part in parts if any(s.strip() and not s.lstrip().startswith("#") for s in part)]
    return [Document("\n".join(part) + "\n", file, number, at) for number, (at, part) in enumerate(told, start=1)]


def _place(fault: str, documents: Sequence[Document]) -> str:
    """`FILE:LINE (document 2 there): `, or nothing where the fault names no document of these."""
    by_number, contract = _FAULT.match(fault), _CONTRACT.match(fault)
    if by_number is not None and 1 <= int(by_number[1]) <= len(documents):
        document = documents[int(by_number[1]) - 1]
        key = _KEY.match(fault[by_number.end() :])
        within = int(by_number[2]) if by_number[2] else _line_of(document, rf"{key[1] or key[2]}\s*:" if key else "$^")
    elif contract is not None:
        wanted = rf"contract\s*:\s*[\"']?{re.escape(contract[1])}[\"']?\s*(#.*)?$"
        document = next((item for item in documents if re.search(f"^{wanted}", item.text, re.MULTILINE)), documents[0])
        if (within := _line_of(document, wanted)) == 0:
            return ""
    else:
        return ""
    at = document.line + max(within, 1) - 1
    return f"{document.file}:{at} (document {document.number} there): "


def _line_of(document: Document, pattern: str) -> int:
    """The first line that begins so, from 1; 0 where none does."""
    lines = document.text.splitlines()
    return next((at for at, line in enumerate(lines, start=1) if re.match(pattern, line)), 0)
