# SPDX-License-Identifier: Apache-2.0
"""Tables for terminals and notebooks."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

_MAX_ROWS = 200


def text_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An aligned table: numbers to the right, wide characters counted as two."""
    found = list(rows)
    shown = found[:_MAX_ROWS]
    cells = [[shown_text(value) for value in row] for row in shown]
    widths = [max([_width(name), *(_width(row[at]) for row in cells)]) for at, name in enumerate(names)]
    numeric = [all(_is_number(row[at]) for row in shown) for at in range(len(names))]
    lines = [_line(names, widths, numeric), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, numeric) for row in cells]
    if len(found) > len(shown):
        lines.append(f"… {len(found) - len(shown)} more rows")
    return "\n".join(line.rstrip() for line in lines)


def html_table(names: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """A table for notebooks, with everything escaped."""
    found = list(rows)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(_html_row(row) for row in found[:_MAX_ROWS])
    rest = len(found) - _MAX_ROWS
    note = f"{caption} · {rest} more rows" if rest > 0 else caption
    return f"<table><caption>{html.escape(note)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def shown_text(value: object) -> str:
    """How a value is written in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.1f}"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return "".join(character if character.isprintable() else "�" for character in str(value))


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, numeric, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if right else cell + space)
    return "  ".join(padded)


def _html_row(row: Sequence[object]) -> str:
    style = ' style="text-align:right"'
    return (
        "<tr>"
        + "".join(f"<td{style if _is_number(v) else ''}>{html.escape(shown_text(v))}</td>" for v in row)
        + "</tr>"
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def _width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)
