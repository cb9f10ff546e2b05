# SPDX-License-Identifier: Apache-2.0
"""The digest of a manifest is shown to every holder of a certificate: in the catalogue and its exports, in leaves and
receipts.

Who knows the card, the time and all of a file but a few small numbers tries the numbers against it, at home: exact
answers with no contract, charge or leaf.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rfc8785

from tests.attacks.test_exact_versions import named, people, rows, town_card
from tests.support.exact import Bench
from weir_server.catalog.card import DatasetCard
from weir_server.catalog.codec import card_to_json
from weir_server.catalog.snapshot import MANIFEST, Snapshot, open_snapshot
from weir_server.exact.records import ATOMS

CARD = town_card()
TOWN = people("a", named("p", 12), value=3)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.publish(CARD, rows(TOWN))
    return made


def manifests_of_guesses(card: DatasetCard, snapshot: Snapshot, lines: list[str], **secret: str) -> Iterator[bytes]:
    """Manifests as whoever sees the catalogue would make them, for every small number of units and every sum."""
    known = {
        "format": "weir.snapshot/1", "card": card_to_json(card), "version": snapshot.version,
        "published": snapshot.published.isoformat(), **secret,
    }  # fmt: skip
    atom = json.loads(lines[1])
    for n in range(10, 20):
        for total in range(60):
            sums = [atom["measures"][0] | {"sum": str(total)}]
            guessed = json.dumps(atom | {"n": n, "measures": sums}, sort_keys=True, separators=(",", ":"))
            content = f"{lines[0]}\n{guessed}\n".encode()
            yield rfc8785.dumps(known | {"files": {ATOMS: hashlib.sha256(content).hexdigest()}})


def found(bench: Bench, **secret: str) -> bool:
    snapshot = bench.snapshots[0]
    lines = (snapshot.directory / ATOMS).read_text(encoding="utf-8").splitlines()
    made = manifests_of_guesses(CARD, snapshot, lines, **secret)
    return snapshot.manifest_digest in {hashlib.sha256(manifest).hexdigest() for manifest in made}


def test_guesses_at_an_atom_cannot_be_checked_against_the_digest(bench: Bench) -> None:
    assert not found(bench)
    salt = json.loads((bench.snapshots[0].directory / MANIFEST).read_bytes())["salt"]
    assert found(bench, salt=salt), "it is the salt that keeps them apart"


def test_equal_data_has_another_digest_in_every_publication(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        made = Bench(tmp_path / name)
        digests.add(made.publish(CARD, rows(TOWN)).manifest_digest)
    assert len(digests) == 2


def test_the_salt_has_32_bytes_and_is_read_by_this_user_alone(bench: Bench) -> None:
    path = bench.snapshots[0].directory / MANIFEST
    assert len(bytes.fromhex(json.loads(path.read_bytes())["salt"])) == 32
    assert path.stat().st_mode & 0o777 == 0o400


def test_versions_from_before_there_was_a_salt_still_open_and_are_continued(bench: Bench) -> None:
    directory = bench.snapshots[0].directory
    content = json.loads((directory / MANIFEST).read_bytes())
    del content["salt"]
    older = rfc8785.dumps(content)
    (directory / MANIFEST).chmod(0o600)
    (directory / MANIFEST).write_bytes(older)
    digest = hashlib.sha256(older).hexdigest()
    before = bench.snapshots[0].manifest_digest
    for path in directory.parents[2].glob(f"private/*/*-{before[:32]}-*"):
        path.rename(path.with_name(path.name.replace(before[:32], digest[:32])))
    bench.snapshots[0] = open_snapshot(directory, expected_digest=digest)
    bench.publish(CARD, rows(TOWN))
    assert bench.atoms(2) == bench.atoms(1)
