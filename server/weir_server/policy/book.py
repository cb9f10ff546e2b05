# SPDX-License-Identifier: Apache-2.0
"""The operators' book: policy documents, suspensions, active snapshots and public keys, on one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from weir_server.catalog.snapshot import Snapshot
from weir_server.clock import from_micros, to_micros
from weir_server.store import Transaction, blob, integer, text

_WORLD = "world"
"""Under which the number is remembered within a group."""


def documents(tx: Transaction) -> list[str]:
    """Policy documents in force, as applied."""
    return [str(row[0]) for row in tx.execute("SELECT document FROM policy_documents ORDER BY position")]


def quota_ids(tx: Transaction) -> list[str]:
    """Ids of the quotas that the documents in force set."""
    return [str(row[0]) for row in tx.execute("SELECT quota FROM policy_quotas ORDER BY quota")]


def replace_documents(tx: Transaction, texts: Sequence[str], *, quota_ids: Sequence[str]) -> None:
    """Put these documents in force instead of the former."""
    tx.execute("DELETE FROM policy_documents")
    tx.execute("DELETE FROM policy_quotas")
    tx.execute_many("INSERT INTO policy_documents (position, document) VALUES (?, ?)", list(enumerate(texts)))
    tx.execute_many("INSERT INTO policy_quotas (quota) VALUES (?)", [(name,) for name in quota_ids])


def suspensions(tx: Transaction) -> frozenset[tuple[str, str]]:
    """What is stopped now: (scope, name)."""
    return frozenset((str(scope), str(name)) for scope, name in tx.execute("SELECT scope, name FROM suspensions"))


def stops(tx: Transaction) -> list[tuple[str, str, datetime]]:
    """What operators have stopped, as (scope, name, since), ordered."""
    rows = tx.execute("SELECT scope, name, since FROM suspensions ORDER BY scope, name")
    return [(text(scope), text(name), from_micros(integer(since))) for scope, name, since in rows]


def set_suspension(tx: Transaction, scope: str, name: str, *, suspended: bool, now: datetime) -> None:
    """Stop or resume; again the same: nothing."""
    tx.execute("DELETE FROM suspensions WHERE scope = ? AND name = ?", (scope, name))
    if suspended:
        tx.execute("INSERT INTO suspensions (scope, name, since) VALUES (?, ?, ?)", (scope, name, to_micros(now)))


def snapshots(tx: Transaction) -> list[tuple[str, int, str]]:
    """Active snapshots as (dataset, version, manifest digest), oldest first."""
    rows = tx.execute("SELECT dataset, version, manifest_digest FROM snapshots ORDER BY dataset, version")
    return [(str(dataset), int(version or 0), str(manifest)) for dataset, version, manifest in rows]


def add_snapshot(tx: Transaction, snapshot: Snapshot) -> None:
    """Make a snapshot active, for good."""
    tx.execute(
        "INSERT INTO snapshots (dataset, version, manifest_digest) VALUES (?, ?, ?)",
        (snapshot.card.name, snapshot.version, snapshot.manifest_digest),
    )


def world_number(tx: Transaction) -> int:
    """Number of the world: how many acts there were."""
    return integer(tx.look_up("SELECT number FROM world WHERE id = 1")[0][0])


def world_number_of_group(tx: Transaction) -> int:
    """The same within a group of writes, acts of this group included; read once, since every charge asks."""
    known = tx.recall(_WORLD)
    if known is None:
        known = world_number(tx)
        tx.remember(_WORLD, known)
    return integer(known)


def raise_world_number(tx: Transaction) -> None:
    """An act changes the world: part of its transaction."""
    tx.execute("UPDATE world SET number = number + 1 WHERE id = 1")
    tx.remember(_WORLD, None)


def add_public_key(tx: Transaction, *, key_id: str, owner: str, modulus: bytes, now: datetime) -> bool:
    """Register a proven key for its owner; False where it was registered before."""
    added = tx.execute(
        "INSERT INTO public_keys (key_id, owner, modulus, registered) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (key_id, owner) DO NOTHING RETURNING key_id",
        (key_id, owner, modulus, to_micros(now)),
    )
    return bool(added)


def public_keys_of(tx: Transaction, owner: str) -> int:
    """How many keys this owner has registered."""
    return integer(tx.execute("SELECT count(*) FROM public_keys WHERE owner = ?", (owner,))[0][0])


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A public key that was proven well formed."""

    modulus: bytes
    """Big-endian."""
    owners: frozenset[str]
    """Everybody who proved to hold its private key."""


def public_key(tx: Transaction, key_id: str) -> RegisteredKey | None:
    """A registered key; None where there is none."""
    rows = tx.execute("SELECT modulus, owner FROM public_keys WHERE key_id = ?", (key_id,))
    if not rows:
        return None
    return RegisteredKey(blob(rows[0][0]), frozenset(text(owner) for _, owner in rows))
