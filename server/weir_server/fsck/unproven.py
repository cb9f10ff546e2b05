# SPDX-License-Identifier: Apache-2.0
"""Checks that books which were restored without proof still say so: else their budgets and versions would be free."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from weir_server.fsck.findings import Finding
from weir_server.fsck.rows import Rows

_TABLE = "unproven"


def unproven_of(leaves: Sequence[bytes]) -> dict[str, int]:
    """Index of the first entry that says so, by dataset held, and by "" for the domain as a whole."""
    marks: dict[str, int] = {}
    for index, leaf in enumerate(leaves):
        try:
            event = json.loads(leaf)
            if event["type"] == "weir.store.restored" and event["data"]["proof"] == "none":
                marks.setdefault("", index)
            elif event["type"] == "weir.dataset.held":
                marks.setdefault(str(event["subject"]).removeprefix("dataset/"), index)
        except (KeyError, TypeError, ValueError):
            continue
    return marks


def check_unproven(rows: Rows, leaves: Sequence[bytes]) -> Iterator[Finding]:
    """Compares the marks with the entries that made them."""
    if not rows.has_table(_TABLE):
        return
    logged = unproven_of(leaves)
    stored = dict(rows.execute("SELECT dataset, leaf_index FROM unproven"))
    for name in sorted(logged.keys() | stored.keys()):
        if stored.get(name) != logged.get(name):
            about = f"dataset {name}" if name else "the books"
            yield Finding(logged.get(name), "fsck.unproven", f"what {about} may lack differs from its entries")
