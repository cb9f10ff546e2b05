# SPDX-License-Identifier: Apache-2.0
"""Atoms as values, and the file that holds them: one JSON object a line, integers of data as text.

{"format": "weir.atoms/1", "measures": ["visits"]}
{"born": 1, "level": 0, "code": 17, "n": 23, "as_of": 1, "measures": [{"sum": "81", "squares": "455"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.errors import PublicationError

ATOMS = "atoms.jsonl"
FORMAT = "weir.atoms/1"


@dataclass(frozen=True, slots=True)
class Totals:
    """Symmetric statistics of one measure over the units of an atom, in grid steps."""

    sum: int
    squares: int | None = None
    """Sum of squares, where VARIANCE or STDDEV is declared."""
    buckets: tuple[int, ...] | None = None
    """Units in each declared bucket, where HISTOGRAM is declared."""


@dataclass(frozen=True, slots=True)
class Atom:
    """At least k units, and what may be known of them together."""

    born: int
    """Version whose publication made the atom."""
    level: int
    """Level of its cell."""
    code: int
    """Its cell's code at that level."""
    n: int
    """Number of units."""
    as_of: int
    """Version whose data the record shows; older than the snapshot where the record was carried forward."""
    totals: tuple[Totals, ...]
    """One for each exact measure, in the order of the card."""

    @property
    def key(self) -> tuple[int, int, int]:
        """What names the atom over all versions."""
        return self.born, self.level, self.code


def write_atoms(path: Path, atoms: Iterable[Atom], *, measures: Iterable[str]) -> None:
    """Write the file of atoms; the caller makes it durable."""
    with path.open("w", encoding="utf-8") as file:
        file.write(_line({"format": FORMAT, "measures": list(measures)}))
        for atom in atoms:
            file.write(_line(_to_json(atom)))


def read_atoms(path: Path) -> Iterator[Atom]:
    """Atoms of a file, in its order.

    Raises:
        PublicationError: not a file of atoms.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if json.loads(file.readline())["format"] != FORMAT:
                raise PublicationError("a file of atoms of an unknown format", rule="snapshot.atoms")
            for line in file:
                yield _from_json(json.loads(line))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PublicationError("the atoms of a snapshot cannot be read", rule="snapshot.atoms") from error


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n"


def _to_json(atom: Atom) -> dict[str, Any]:
    return {
        "born": atom.born,
        "level": atom.level,
        "code": atom.code,
        "n": atom.n,
        "as_of": atom.as_of,
        "measures": [_totals_to_json(totals) for totals in atom.totals],
    }


def _totals_to_json(totals: Totals) -> dict[str, Any]:
    content: dict[str, Any] = {"sum": str(totals.sum)}
    if totals.squares is not None:
        content["squares"] = str(totals.squares)
    if totals.buckets is not None:
        content["buckets"] = list(totals.buckets)
    return content


def _from_json(content: dict[str, Any]) -> Atom:
    return Atom(
        born=content["born"],
        level=content["level"],
        code=content["code"],
        n=content["n"],
        as_of=content["as_of"],
        totals=tuple(
            Totals(
                int(item["sum"]),
                int(item["squares"]) if "squares" in item else None,
                tuple(item["buckets"]) if "buckets" in item else None,
            )
            for item in content["measures"]
        ),
    )
