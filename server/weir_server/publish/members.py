# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Who stands behind each atom's record: the publisher's private memory between versions.

A file DATA/private/<dataset>/<version>-<digests>.parquet holds, for each atom and unit, a salted hash of the unit, its
values behind the record in force, and its history over the atom's records: one letter a record, `j` joined, `s`
stayed, `c` changed, `l` left, `a` absent. It is as sensitive as the source: no query path opens it, and only the files
that the next publication may need are kept.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.engine.duckdb import Engine
from weir_server.engine.relational import quote
from weir_server.exact.lattice import exact_measures
from weir_server.publish.atoms import TAKEN
from weir_server.publish.files import sync_directory
from weir_server.publish.units import UNITS

MEMBERS = "members"
CURRENT = "members_now"
_KEY = ("born", "level", "coarse")


def value_columns(card: DatasetCard) -> list[str]:
    """Columns of the exact measures."""
    return [f"m_{i}" for i in range(len(exact_measures(card)))]


def create_current(card: DatasetCard, *, engine: Engine, salt: bytes) -> None:
    """Create `members_now`: units that an atom holds, by `taken`, with salted key and values."""
    values = "".join(f", {column}" for column in value_columns(card))
    engine.run(
        f"CREATE OR REPLACE TABLE {CURRENT} AS SELECT {', '.join(_KEY)}, sha256(concat(?, '|', unit)) AS unit{values} "
        f"FROM {UNITS} JOIN {TAKEN} USING (code)",
        [salt.hex()],
    )


def write_first(card: DatasetCard, *, engine: Engine, path: Path, version: int) -> None:
    """Append the members of atoms born in `version` to `members` and write the whole to `path`."""
    values = "".join(f", {column}" for column in value_columns(card))
    engine.run(
        f"INSERT INTO {MEMBERS} SELECT {', '.join(_KEY)}, unit, 'j' AS history, true AS present{values} "
        f"FROM {CURRENT} WHERE born = {version}"
    )
    engine.run(f"COPY {MEMBERS} TO {quote(str(path))} (FORMAT parquet)")


def create_empty(card: DatasetCard, *, engine: Engine) -> None:
    """Create `members` without any."""
    values = "".join(f", {column} BIGINT" for column in value_columns(card))
    engine.run(
        f"CREATE TABLE {MEMBERS} (born INTEGER, level INTEGER, coarse BIGINT, unit VARCHAR, history VARCHAR, "
        f"present BOOLEAN{values})"
    )


def members_path(directory: Path, *, version: int, manifest_digest: str, salt: bytes) -> Path:
    """Where the members of a snapshot are kept. The salt shows in the name, so that a file made under another salt,
    whose hashes would make every unit look new, is not found."""
    mark = hashlib.sha256(b"weir members|" + salt).hexdigest()[:8]
    return directory / f"{version}-{manifest_digest[:32]}-{mark}.parquet"


def keep(draft: Path, target: Path) -> None:
    """Move the file of members to its place, durably."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft.chmod(0o600)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(target)
    sync_directory(target.parent)


def prune(directory: Path, *, keep: tuple[Path, ...]) -> None:
    """Remove every file of members but these."""
    for path in directory.glob("*.parquet"):
        if path not in keep:
            path.unlink()


def load(card: DatasetCard, *, engine: Engine, path: Path) -> None:
    """Create `members` from a file.

    Raises:
        PublicationError: the file is gone, so nobody can tell which changes would be safe.
    """
    if not path.is_file():
        raise PublicationError(
            "the private record of the previous version is missing (or the salt is another one): publish under a new "
            "dataset name, or restore it",
            rule="snapshot.members",
        )
    create_empty(card, engine=engine)
    engine.run(f"INSERT INTO {MEMBERS} SELECT * FROM read_parquet({quote(str(path))})")
