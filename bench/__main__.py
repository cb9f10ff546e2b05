# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every measurement beside a named peer in the same run; a table, and bench/out/results.json.

    python -m bench              all of them
    python -m bench he dp        only these modules; rows of others stay in the file

The file is one list of rows {name, ours, theirs, ratio, spread, unit, versions, machine, module, …}: medians of several
rounds, and the spread of the ratio over them. Nothing here is a test: a slow machine changes figures, never a verdict.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from bench.rows import KEYS, Row

MODULES = {
    "he": "Paillier kernels beside phe and HEU",
    "he_e2e": "an encrypted query, end to end",
    "he_spark": "a million ciphertexts on Spark and in worker processes",
    "exact": "atoms: building and asking",
    "serve": "one exact query through gRPC, and what the meter takes of it",
    "load": "answers a second, slowest answers, overload, two workers",
    "dp": "dp queries beside the raw aggregate and other systems",
    "spark": "the aggregate of a dp query over 50 M bounded rows on Spark beside DuckDB",
    "ledger": "ledger and log beside raw inserts",
    "restart": "start on 100,000 entries; what entries cost",
}
"""Modules of this package that `make bench` runs, in this order: each has `measure() -> list[Row]`."""
OUT = Path(__file__).parent / "out" / "results.json"
_PEERS = ("duckdb", "gmpy2", "grpcio", "numpy", "opendp", "phe", "protobuf", "psycopg", "pysail", "pyspark-client")


def main(names: list[str]) -> int:
    """Measure, print, write."""
    if unknown := set(names) - set(MODULES):
        print(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    measured: list[Row] = []
    for name in names or MODULES:
        print(f"==> {name}: {MODULES[name]}", file=sys.stderr, flush=True)
        began = time.monotonic()
        measured += [complete(row, module=name) for row in importlib.import_module(f"bench.{name}").measure()]
        print(f"    {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    write(measured, OUT)
    print(table(measured))
    print(f"\nwritten to {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")
    return 0


def complete(row: Row, *, module: str) -> Row:
    """A row with what it was measured by and on.

    Raises:
        KeyError: it lacks what every row has.
    """
    return {key: row[key] for key in KEYS} | row | {"module": module, "versions": versions(), "machine": machine()}


def write(measured: list[Row], out: Path) -> None:
    """Puts rows in the place of those of the same modules; others stay: each says when and on what it was made."""
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    kept: list[Row] = found if isinstance(found, list) else []  # Files of older forms are passed over.
    again = {row["module"] for row in measured}
    order = list(MODULES)
    rows = [row for row in kept if row["module"] in order and row["module"] not in again] + measured
    rows.sort(key=lambda row: order.index(row["module"]))
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(rows, indent=2, default=str) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Of what a figure depends on."""
    return {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"] in _PEERS}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how much else it was doing."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def table(rows: list[Row]) -> str:
    """Rows for people."""
    header = (*KEYS, "detail")
    lines = [header, *(tuple(_text(row.get(key)) for key in header) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
