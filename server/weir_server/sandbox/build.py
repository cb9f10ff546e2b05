# SPDX-License-Identifier: Apache-2.0
"""Build one sandbox, in a process of its own: card in, sealed snapshot out.

    python -m weir_server.sandbox.build DIRECTORY < card.json > result.json

The process is told a card and a directory, and nothing else: no source, no salt, no key, no book of the domain. Rows
are drawn, published by the very code that publishes real data, and thrown away. It limits its own processor time and
the size of its files; whoever started it limits its time and kills it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from weir.canonical import canonical_json
from weir.errors import WeirError
from weir_server.catalog.card import DatasetCard, Source
from weir_server.catalog.codec import card_from_json, card_to_json
from weir_server.engine.duckdb import open_engine
from weir_server.engine.relational import identifier
from weir_server.publish.publisher import publish
from weir_server.sandbox.rows import Row, columns_of, rows_of

MAX_FILE_BYTES = 128 * 1024 * 1024
CPU_SECONDS = 120
PUBLISHED = datetime(2000, 1, 1, tzinfo=UTC)
"""Time in every synthetic manifest: equal cards make equal sandboxes."""
REFUSED = 3
"""Exit code where the card makes no sandbox."""
_SOURCE = "rows.duckdb"
_TABLE = "synthetic"
_BATCH = 5_000


def card_digest(card: DatasetCard) -> str:
    """SHA-256 of everything that a card says, hex."""
    return hashlib.sha256(canonical_json(card_to_json(card))).hexdigest()


def build(card: DatasetCard, directory: Path) -> str:
    """Publish synthetic rows of `card` below `directory`, which is empty; the digest of the manifest.

    Raises:
        PublicationError: the card makes no rows, or none that it would itself accept.
    """
    digest = card_digest(card)
    _write_source(card, directory / _SOURCE, seed=digest)
    synthetic = _of_nobody(card)
    published = publish(
        synthetic,
        card_directory=directory,
        data_dir=directory,
        version=1,
        previous=None,
        now=PUBLISHED,
        salt=hashlib.sha256(b"weir sandbox " + digest.encode()).digest(),
        # Not random, as rows of nobody are no secret: equal cards make equal sandboxes.
        entropy=lambda size: hashlib.sha256(b"weir sandbox manifest " + digest.encode()).digest()[:size],
        threads=1,
    )
    for leftover in ("private", "publishing"):
        shutil.rmtree(directory / leftover, ignore_errors=True)
    (directory / _SOURCE).unlink()
    return published.manifest_digest


def _of_nobody(card: DatasetCard) -> DatasetCard:
    """The card as it is published here: rows of nobody need no basis, come from nowhere else, and what bounds drop of
    them says nothing."""
    return replace(
        card,
        source=Source("duckdb", _SOURCE, _TABLE),
        personal_information=False,
        consent=None,
        anonymisation=None,
        derived_from=(),
        report_epsilon=0,
    )


def _write_source(card: DatasetCard, path: Path, *, seed: str) -> None:
    """Rows as a table of texts, which a publication reads exactly."""
    columns = columns_of(card)
    declared = ", ".join(f"{identifier(column.name)} VARCHAR" for column in columns)
    unnested = ", ".join("unnest(?)" for _ in columns)
    with open_engine(path, read_only=False, memory_limit="256MB", directories=[path.parent]) as engine:
        engine.run(f"CREATE TABLE {_TABLE} ({declared})")
        for batch in _batches(rows_of(card, seed=seed)):
            lists = [list(values) for values in zip(*batch, strict=True)]
            engine.run(f"INSERT INTO {_TABLE} SELECT {unnested}", lists)
        engine.run("CHECKPOINT")


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def main(arguments: Sequence[str]) -> int:
    """Run as a process; prints the digest or the rule that refused."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    os.nice(10)
    (directory,) = arguments
    try:
        card = card_from_json(json.load(sys.stdin))
        result = {"manifest_digest": build(card, Path(directory))}
    except WeirError as error:
        sys.stdout.write(json.dumps({"rule": error.rule or error.reason}))
        return REFUSED
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
