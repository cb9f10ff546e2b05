# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of positions, the card's names and a path, never of a requester's text
"""CSV, read as one dialect and no other: RFC 4180 in UTF-8, the first line naming the columns.

Nothing is guessed. An engine that guesses takes the dialect that fits most lines of a sample and leaves out the others,
so a file with a second header, another separator or a note above would lose rows, and people, without a word.
"""

from __future__ import annotations

import csv
import io
import mmap
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from weir.errors import InternalError, PublicationError
from weir_server.catalog.card import DELIMITERS
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import identifier, quote

_MOST_HEADER = 2_000_000
"""Characters; the engine takes no longer lines either."""


def read_header(path: Path, *, delimiter: str) -> tuple[str, ...]:
    """Names on the first line, in order; some may be empty.

    Raises:
        PublicationError: there is no such line, it is no CSV, or it has a name twice.
    """
    names: list[str] | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = io.StringIO(file.read(_MOST_HEADER), newline="")
        names = next(csv.reader(start, delimiter=DELIMITERS[delimiter], strict=True), [])
    except (csv.Error, UnicodeDecodeError):
        pass  # refused below, so that the failure, which holds bytes of the file, is nobody's context
    if names is None:
        raise _fault(path, delimiter)
    if not any(names):
        raise _refused(path, 1, "the first line names the columns")
    for position, name in enumerate(names):
        if name and name in names[:position]:
            # Positions, since a file without a header has somebody's record here.
            first = names.index(name) + 1
            raise _refused(path, 1, f"fields {first} and {position + 1} have the same name")
    return tuple(names)


def load(
    columns: Sequence[str], *, target: str, engine: Engine, path: Path, delimiter: str, names: Sequence[str]
) -> None:
    """Create the table `target` of these columns, as text; empty fields are null. `names`: as `read_header` gave them.

    Raises:
        PublicationError: a line is not as declared; it says which line and why, never what is on it.
    """
    # By position, under reserved names: the engine would not tell `Stay` from `stay`.
    kept = ", ".join(f"t.weir_{names.index(column)} AS {identifier(column)}" for column in columns)
    try:
        engine.run(f"CREATE TABLE {target} AS SELECT {kept} FROM {_read(path, delimiter, len(names))} AS t")
        beyond = _may_end_in_nothing(path, delimiter) and _fields_beyond(engine, path, delimiter, len(names))
    except InternalError:
        beyond = True
    if beyond:
        raise _fault(path, delimiter)


def _read(path: Path, delimiter: str, width: int, *, refuse: bool = True) -> str:
    """The file as a relation of `width` texts. `refuse`: other lines are an error, not left out."""
    fields = ", ".join(f"weir_{index}: 'VARCHAR'" for index in range(width))
    return (
        f"read_csv({quote(str(path))}, auto_detect = false, columns = {{{fields}}}, header = true, skip = 0, "
        f"delim = {quote(DELIMITERS[delimiter])}, quote = '\"', escape = '\"', comment = '', nullstr = '', "
        f"strict_mode = true, null_padding = false, ignore_errors = {not refuse}, encoding = 'utf-8', "
        "compression = 'none')"
    )


def _fields_beyond(engine: Engine, path: Path, delimiter: str, width: int) -> bool:
    """Whether a line has a field more than the header, an empty one: the engine drops it without an error. `a, b,3,`
    under three names is a value with a separator in it, and all that follow would stand one column too far right."""
    more = _read(path, delimiter, width + 1, refuse=False)
    return bool(engine.one(f"SELECT COUNT(*) FROM {more}"))


def _may_end_in_nothing(path: Path, delimiter: str) -> bool:
    """Whether some line may end in an empty field, so that `_fields_beyond`, another reading of the file, is needed."""
    last = (DELIMITERS[delimiter], '"', " ", "\t")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[-1:].decode("latin-1") in last:
            return True
        return any(content.find(f"{one}{end}".encode()) >= 0 for one, end in product(last, "\r\n"))


def _fault(path: Path, delimiter: str) -> PublicationError:
    """The first line that is not as declared."""
    found = next(_faults(path, DELIMITERS[delimiter]), None)
    if found is None:
        return PublicationError("the source cannot be read as declared", rule="source.unreadable")
    return _refused(path, *found)


def _refused(path: Path, line: int, cause: str) -> PublicationError:
    return PublicationError(f"{path.name:.100}, line {line}: {cause}", rule="source.line", field="source.location")


class _NotText(ValueError):
    """A line that is not UTF-8."""


class _Lines:
    """Lines of a file, as a reader of CSV takes them."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.end = ""
        """What the latest line ended in."""

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
                raise _NotText
            self.end = line[len(line.rstrip("\r\n")) :]
            yield line


def _faults(path: Path, separator: str) -> Iterator[tuple[int, str]]:
    """Number and cause of lines that are not as declared; of a record over several lines, its first."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        width, end, start = 0, "", 1
        try:
            for record in reader:
                width, end = width or len(record), end or lines.end
                if record and len(record) != width:
                    yield start, f"{len(record)} fields, {width} in the header"
                if lines.end not in (end, ""):
                    yield start, "ends otherwise than the first line: all end in LF, or all in CRLF"
                start = reader.line_num + 1
        except _NotText:
            yield reader.line_num + 1, "not UTF-8"
        except csv.Error:
            yield start, "a quotation mark is not closed, or text follows it before the next separator"
