# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every measurement beside a named peer in the same run; a table, and bench/out/results.json.

    python -m bench              all of them
    python -m bench he dp        only these modules

A row is {name, ours, theirs, ratio, unit, spread, …}: medians of several rounds, and the spread of the ratio over them.
Nothing here is a test: a slow machine changes figures, never a verdict.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

MODULES = ("he", "he_e2e", "exact", "serve", "dp", "ledger")
OUT = Path(__file__).parent / "out" / "results.json"
_PEERS = ("duckdb", "gmpy2", "grpcio", "numpy", "opendp", "phe", "protobuf")


def main(names: list[str]) -> int:
    """Measure, print, write."""
    rows: list[dict[str, Any]] = []
    for name in names or MODULES:
        print(f"==> {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").measure()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2, default=str) + "\n", encoding="utf-8")
    print(table(rows))
    print(f"\nwritten to {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")
    return 0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"] in _PEERS}
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows for people."""
    header = ("name", "ours", "theirs", "ratio", "spread", "unit")
    lines = [header, *(tuple(_text(row.get(key)) for key in header) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
