# SPDX-License-Identifier: Apache-2.0
"""Bounded rows that a snapshot does not hold itself: where they are, and what names them.

    rows.json     {"format": "weir.rows/1", "kind": "spark", "location": …, "fingerprint": …}

It lies beside the snapshot's other files and is sealed with them. The location is as secret as the source's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import rfc8785

from weir.errors import PublicationError

FILE = "rows.json"
_FORMAT = "weir.rows/1"
_KINDS = frozenset({"spark"})
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class RemoteRows:
    """Where bounded rows are."""

    kind: str
    """`spark`: a directory of Parquet files, read by the cluster that the configuration names."""
    location: str
    """Of them alone, as the cluster names it."""
    fingerprint: str
    """Keyed multiset hash of the rows, 64 hex digits."""


def rows_to_json(rows: RemoteRows) -> bytes:
    """The content of the file."""
    content = {"format": _FORMAT, "kind": rows.kind, "location": rows.location, "fingerprint": rows.fingerprint}
    return rfc8785.dumps(content)


def read_rows(directory: Path, files: tuple[str, ...]) -> RemoteRows | None:
    """What the snapshot in `directory` says of its rows; None where it holds them itself.

    Raises:
        PublicationError: the file is not one of this form.
    """
    if FILE not in files:
        return None
    try:
        text = (directory / FILE).read_bytes()
        content = json.loads(text) if len(text) <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise _refused()
    kept = {key: value for key, value in content.items() if key != "format"}
    if content.get("format") != _FORMAT or set(kept) != {"kind", "location", "fingerprint"}:
        raise _refused()
    rows = RemoteRows(**kept)
    if rows.kind not in _KINDS or not rows.location.strip() or not rows.location.isprintable():
        raise _refused()
    if _FINGERPRINT.fullmatch(rows.fingerprint) is None:
        raise _refused()
    return rows


def _refused() -> PublicationError:
    return PublicationError("the snapshot does not say where its rows are", rule="snapshot.rows")
