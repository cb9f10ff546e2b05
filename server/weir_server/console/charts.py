# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text, drawn on the server: no script, no inline style, colours by class. Each has a title for screen
readers, and the page carries the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup, escape

from weir_server.console.text import Words

_WIDTH, _HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 10, 24
_BAR, _BAR_GAP, _BAR_LABEL = 16, 8, 200
_WIDEST = 72.0
"""Of one column with its gap: a day alone is no wall."""
_COLOURS = 6
_identifiers = count(1)


@dataclass(frozen=True, slots=True)
class Series:
    """One set of numbers of a chart, a colour of its own."""

    name: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts in one language."""

    words: Words

    def columns(
        self, title: str, labels: Sequence[str], series: Sequence[Series], *, limit: int | None = None
    ) -> Markup:
        """Stacked columns over time, or over anything that has an order; under a limit where there is one."""
        totals = [sum(item.values[at] for item in series) for at in range(len(labels))]
        top = _ceiling(max([*totals, limit or 0]))
        step = min(_WIDEST, (_WIDTH - _LEFT - _RIGHT) / max(1, len(labels)))
        # Beside a limit the numbers on the axis would be nano-units: the table has them in the units of people.
        parts = [_axes(top, numbers=limit is None)]
        for at in range(len(labels)):
            base = 0
            for number, item in enumerate(series, start=1):
                low, high = _y(base, top), _y(base + item.values[at], top)
                if item.values[at]:
                    box = (_LEFT + at * step + step * 0.12, high, step * 0.76, low - high)
                    parts.append(_rect(box, _colour(number)))
                base += item.values[at]
        if limit is not None:
            height = _y(limit, top)
            ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
            parts.append(f'<line class="limit" {ends}/>')
        parts += _labels(labels, step)
        return _svg(title, "".join(parts), _HEIGHT) + self._legend(series)

    def bars(self, title: str, rows: Sequence[tuple[str, int, str]]) -> Markup:
        """Horizontal bars, largest first as given: label, number, and the number as text."""
        top = max((number for _, number, _ in rows), default=0) or 1
        room = _WIDTH - _BAR_LABEL - 100
        parts = []
        for at, (label, number, text) in enumerate(rows):
            y = at * (_BAR + _BAR_GAP)
            name = label if len(label) <= 28 else f"{label[:27]}…"
            width = max(1.0, room * number / top)
            parts.append(f'<text x="{_BAR_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            parts.append(_rect((_BAR_LABEL, y, width, _BAR), "s1"))
            parts.append(f'<text class="value" x="{_BAR_LABEL + width + 6:.1f}" y="{y + 12}">{escape(text)}</text>')
        return _svg(title, "".join(parts), max(1, len(rows)) * (_BAR + _BAR_GAP))

    def burn(self, title: str, labels: Sequence[str], series: Sequence[Series], limit: int) -> Markup:
        """What has been used up by the end of each day, by whom, against the limit."""
        return self.columns(title, labels, series, limit=limit)

    def gauge(self, title: str, used: int, limit: int, level: str) -> Markup:
        """A small bar: how much of a limit is used."""
        width = 0.0 if limit <= 0 else min(100.0, used * 100 / limit)
        content = (
            '<rect class="track" width="100" height="8" rx="4"/>'
            f'<rect class="used {escape(level)}" width="{width:.1f}" height="8" rx="4"/>'
        )
        return Markup(  # noqa: S704 - every text inside is escaped or a number
            f'<svg class="gauge" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(title)}">{content}</svg>'
        )

    def _legend(self, series: Sequence[Series]) -> Markup:
        if len(series) < 2:
            return Markup("")
        items = "".join(
            f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{_colour(number)}" width="10" height="10" '
            f'rx="2"/></svg>{escape(item.name)}</li>'
            for number, item in enumerate(series, start=1)
        )
        return Markup(f'<ul class="legend">{items}</ul>')  # noqa: S704 - names are escaped


def _svg(title: str, content: str, height: int) -> Markup:
    name = f"chart-{next(_identifiers) % 1_000_000}"
    return Markup(  # noqa: S704 - every text inside is escaped or a number
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{name}">'
        f'<title id="{name}">{escape(title)}</title>{content}</svg>'
    )


def _axes(top: int, *, numbers: bool) -> str:
    rules = []
    for part in (0, 1, 2, 3, 4):
        y = _y(top * part / 4, top)
        kind = "axis" if part == 0 else "rule"
        rules.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        if numbers:
            rules.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_brief(top * part // 4)}</text>')
    return "".join(rules)


def _labels(labels: Sequence[str], step: float) -> list[str]:
    every = max(1, -(-len(labels) * 56 // int(_WIDTH - _LEFT - _RIGHT)))
    return [
        f'<text x="{_LEFT + (at + 0.5) * step:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>'
        for at, label in enumerate(labels)
        if at % every == 0
    ]


def _rect(box: tuple[float, float, float, float], colour: str) -> str:
    x, y, width, height = box
    return f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'


def _y(value: float, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / (top or 1)


def _ceiling(value: int) -> int:
    """The next round number that four rules divide."""
    size = 4
    while size < value:
        size = size * 5 // 2 if str(size)[0] == "8" else size * 2
    return size


def _brief(number: int) -> str:
    for size, mark in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{mark}"
    return str(number)


def _colour(number: int) -> str:
    return f"s{(number - 1) % _COLOURS + 1}"
