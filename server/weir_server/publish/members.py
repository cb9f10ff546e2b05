# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are made of the card's names and of integers, never of a requester's text
"""Who stands behind each atom's record: the publisher's private memory between versions.

A file DATA/private/<dataset>/<version>-<digests>.parquet holds, for each atom and unit, a keyed hash of the unit, its
values behind the record in force, and its history over the atom's records: one step a record, `j` joined (`i` with the
values it had in another atom), `s` stayed, `c` changed (of several measures `01c` says which), `l` left, `a` absent. It
is as sensitive as the source: no query path opens it, and only the files that the next publication may need are kept.

Where the source is on a cluster, so are the members; a file of the same name, but for `.json`, says where they are and
what names them.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from weir.errors import InternalError, PublicationError
from weir_server.catalog.card import DatasetCard
from weir_server.engine.port import RowEngine
from weir_server.engine.relational import Statement, quote
from weir_server.exact.lattice import exact_measures
from weir_server.publish.atoms import TAKEN
from weir_server.publish.files import make_directory, sync_directory
from weir_server.publish.fingerprint import fingerprint
from weir_server.publish.leftovers import location_of, note
from weir_server.publish.place import Place
from weir_server.publish.units import UNITS

MEMBERS = "members"
"""As the previous publication left them."""
RENEWED = "members_renewed"
"""As this one leaves them."""
KEY = ("born", "level", "coarse")
"""What names an atom."""
_FILE = "members.parquet"
_REFERENCE = "members.json"
_FORMAT = "weir.members/1"


def value_columns(card: DatasetCard) -> list[str]:
    """Columns of the exact measures."""
    return [f"m_{i}" for i in range(len(exact_measures(card)))]


def member_columns(card: DatasetCard) -> dict[str, str]:
    """Columns of `members` and their types."""
    plain = {"born": "INT", "level": "INT", "coarse": "BIGINT", "unit": "TEXT", "history": "TEXT", "present": "BOOLEAN"}
    return {**plain, **dict.fromkeys(value_columns(card), "BIGINT")}


def hashed_unit(unit: str, *, key: bytes) -> str:
    """Expression: keyed hash of a unit, which is an integer or text."""
    return f"SHA256_HEX(TEXT_JOIN('|', {quote(key.hex())}, CAST({unit} AS TEXT)))"


def current(card: DatasetCard, *, key: bytes) -> str:
    """Query: units that an atom holds, by `taken`, with hash and values."""
    values = "".join(f", u.{column} AS {column}" for column in value_columns(card))
    atoms = ", ".join(f"t.{column} AS {column}" for column in KEY)
    joined = f"FROM {UNITS} AS u JOIN {TAKEN} AS t ON u.code = t.code"
    return f"SELECT {atoms}, {hashed_unit('u.unit', key=key)} AS unit{values} {joined}"


def newcomers(card: DatasetCard, *, version: int, key: bytes) -> str:
    """Query: the members of atoms born in `version`."""
    values = "".join(f", {column}" for column in value_columns(card))
    return (
        f"SELECT {', '.join(KEY)}, unit, 'j' AS history, TRUE AS present{values} "
        f"FROM ({current(card, key=key)}) AS c WHERE born = {version}"
    )


def create_empty(card: DatasetCard, *, rows: RowEngine) -> None:
    """Create `members` without any."""
    rows.load(MEMBERS, member_columns(card), [])


def write(card: DatasetCard, renewed: Statement, *, place: Place, work: Path) -> None:
    """Create `members_renewed` and keep it for the next version: as a file in `work`, or where rows are, with a file in
    `work` that says so."""
    if place.remote is None:
        place.local.keep(RENEWED, renewed)
        place.local.run(f"COPY {RENEWED} TO {quote(str(work / _FILE))} (FORMAT parquet)")
        return
    location = place.remote.lasting("members")
    place.remote.engine.save(RENEWED, renewed, path=location)
    named = _fingerprint(card, place, RENEWED)
    write_reference(work / _REFERENCE, location=location, fingerprint=named)


def write_reference(path: Path, *, location: str, fingerprint: str) -> None:
    """A file that says where on the cluster a private record is."""
    content = {"format": _FORMAT, "kind": "spark", "location": location, "fingerprint": fingerprint}
    path.write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def _fingerprint(card: DatasetCard, place: Place, relation: str) -> str:
    columns, context = list(member_columns(card)), f"members|{card.name}"
    return fingerprint(place.rows, relation=relation, columns=columns, salt=place.content_key, context=context)


def members_path(directory: Path, *, version: int, manifest_digest: str, salt: bytes) -> Path:
    """Where the members of a snapshot are kept. The salt shows in the name, so that a file made under another salt,
    whose hashes would make every unit look new, is not found."""
    mark = hashlib.sha256(b"weir members|" + salt).hexdigest()[:8]
    return directory / f"{version}-{manifest_digest[:32]}-{mark}.parquet"


def keep_members(work: Path, target: Path) -> None:
    """Move what `write` left in `work` to its place, durably."""
    if (work / _FILE).exists():
        keep(work / _FILE, target)
    if (work / _REFERENCE).exists():
        keep(work / _REFERENCE, target.with_suffix(".json"))


def keep(draft: Path, target: Path) -> None:
    """Move a private file to its place, durably."""
    make_directory(target.parent)
    draft.chmod(0o600)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(target)
    sync_directory(target.parent)


def prune(directory: Path, *, keep: tuple[Path, ...]) -> None:
    """Remove every record of members but these; what they name on the cluster is noted, to be emptied."""
    kept = {path.stem for path in keep}
    for path in directory.glob("*-*-*.parquet"):
        if path.stem not in kept:
            path.unlink()
    for path in directory.glob("*-*-*.json"):
        if path.stem not in kept:
            with suppress(PublicationError):  # Damaged: what it named stays.
                note(directory, [location_of(path)])
            path.unlink()


def load(card: DatasetCard, *, place: Place, path: Path) -> None:
    """Make `members` of what an earlier publication kept.

    Raises:
        PublicationError: it is gone or altered, so nobody can tell which changes would be safe.
    """
    reference = path.with_suffix(".json")
    if place.remote is None:
        if not path.is_file():
            raise _missing(elsewhere=reference.is_file())
        create_empty(card, rows=place.local)
        place.local.run(f"INSERT INTO {MEMBERS} SELECT * FROM read_parquet({quote(str(path))})")
        return
    if not reference.is_file():
        raise _missing(elsewhere=path.is_file())
    try:
        place.remote.engine.open(MEMBERS, location_of(reference))
        same = _fingerprint(card, place, MEMBERS) == json.loads(reference.read_text(encoding="utf-8"))["fingerprint"]
    except InternalError:
        same = False
    if not same:
        raise PublicationError(
            "the private record of the previous version is not what it was: restore it on the cluster, or publish "
            "under a new dataset name",
            rule="snapshot.members",
        )


def _missing(*, elsewhere: bool) -> PublicationError:
    if elsewhere:
        return PublicationError(
            "the previous version's rows were elsewhere (a cluster, or this machine): publish from there, or under a "
            "new dataset name",
            rule="snapshot.members",
        )
    return PublicationError(
        "the private record of the previous version is missing (or the salt is another one): publish under a new "
        "dataset name, or restore it",
        rule="snapshot.members",
    )
