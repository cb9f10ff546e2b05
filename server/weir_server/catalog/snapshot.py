# SPDX-License-Identifier: Apache-2.0
"""A snapshot on disk: one immutable version of a dataset, sealed by a manifest of hashes.

    DATA/snapshots/<dataset>/<version>/manifest.json     RFC 8785: card, published time, SHA-256 of every other file,
                                                         and a secret salt, since the digest of all that is public
                                       atoms.parquet …   exact store, bounded rows, cube: as its writers name them

`publish` writes into a temporary sibling and renames it when the manifest is durable, so a directory of that name is
whole or absent. A query path opens snapshots by the digest that the log recorded at activation, never by what the
directory says of itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from weir.errors import PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_from_json
from weir_server.catalog.remote_rows import RemoteRows, read_rows

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a version's processing of personal information rests on."""

    kind: str
    """`consent` or `anonymisation`."""
    digest: str
    """Salted fingerprint of the consent register, or SHA-256 of the anonymisation report; hex."""
    level: int = 0
    """Level of the report, after GB/T 42460-2023; 0 for consent."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An opened, verified snapshot."""

    card: DatasetCard
    version: int
    published: datetime
    manifest_digest: str
    """SHA-256 of manifest.json, hex. Public; it can be guessed of versions whose manifest has no salt yet."""
    directory: Path
    files: tuple[str, ...]
    """Names of its data files."""
    basis: Basis | None = None
    """None where it rests on neither, and for versions written before there was any."""
    rows: RemoteRows | None = None
    """Where its bounded rows are; None where its own store holds them."""


def open_snapshot(directory: Path, *, expected_digest: str) -> Snapshot:
    """The snapshot in `directory`, after hashing the manifest and every file it names.

    Raises:
        PublicationError: missing, altered, or not the one expected.
    """
    manifest = _read_manifest(directory)
    if hashlib.sha256(manifest).hexdigest() != expected_digest:
        raise PublicationError("the manifest is not the one named", rule="snapshot.manifest_digest")
    snapshot, files = _parse(manifest, directory, expected_digest)
    for name, expected in files.items():
        if _hash_file(directory / name) != expected:
            raise PublicationError("a file of the snapshot was altered", rule="snapshot.file_digest")
    return replace(snapshot, rows=read_rows(directory, snapshot.files))


def _parse(manifest: bytes, directory: Path, manifest_digest: str) -> tuple[Snapshot, dict[str, str]]:
    """The snapshot a manifest describes, and the digests of its files by name."""
    try:
        content = json.loads(manifest)
        files = {str(name): str(expected) for name, expected in content["files"].items()}
        version, published = int(content["version"]), datetime.fromisoformat(content["published"])
        card = content["card"]
        basis = None if content.get("basis") is None else Basis(**content["basis"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PublicationError("the manifest is not one of a snapshot", rule="snapshot.manifest") from error
    if any("/" in name or name in ("", ".", "..") for name in files):
        raise PublicationError("a file of the snapshot lies outside it", rule="snapshot.manifest")
    names = tuple(sorted(files))
    return Snapshot(card_from_json(card), version, published, manifest_digest, directory, names, basis), files


def _read_manifest(directory: Path) -> bytes:
    try:
        return (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise PublicationError("the snapshot has no manifest", rule="snapshot.missing") from error


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PublicationError("a file of the snapshot is missing", rule="snapshot.file_missing") from error
