# SPDX-License-Identifier: Apache-2.0
"""Tables of the ledger and the log, as numbered migrations. A migration is never changed once released.

`{int}`, `{bytes}` and `{clustered}` stand for what each engine calls a 64-bit integer, a byte string, and a table that
is its own index.
"""

from __future__ import annotations

from weir.errors import Unavailable
from weir_server.store import Transaction, integer

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The log. Leaves are the truth; every other table can be rebuilt from them but salts, answers and releases.
        """CREATE TABLE log_head (
            id {int} PRIMARY KEY CHECK (id = 1), origin TEXT NOT NULL, size {int} NOT NULL, root {bytes} NOT NULL)""",
        """CREATE TABLE log_leaves (
            idx {int} PRIMARY KEY, type TEXT NOT NULL, requester TEXT NOT NULL, leaf {bytes} NOT NULL,
            hash {bytes} NOT NULL)""",
        "CREATE INDEX log_leaves_by_type ON log_leaves (type, idx)",
        "CREATE INDEX log_leaves_by_requester ON log_leaves (requester, idx)",
        # Apart from the leaves, so that erasing a salt (and the answer) leaves nothing to guess at.
        "CREATE TABLE log_salts (idx {int} PRIMARY KEY, salt {bytes} NOT NULL)",
        """CREATE TABLE log_nodes (
            level {int} NOT NULL, idx {int} NOT NULL, hash {bytes} NOT NULL, PRIMARY KEY (level, idx)) {clustered}""",
        "CREATE TABLE log_checkpoints (size {int} PRIMARY KEY, note TEXT NOT NULL)",
        # The ledger.
        """CREATE TABLE ledger_clock (
            id {int} PRIMARY KEY CHECK (id = 1), mark {int} NOT NULL)""",
        "INSERT INTO ledger_clock (id, mark) VALUES (1, 0)",
        """CREATE TABLE reservations (
            id {int} PRIMARY KEY, state TEXT NOT NULL, requester TEXT NOT NULL, contract TEXT NOT NULL,
            dataset TEXT NOT NULL, lineage TEXT NOT NULL, reserved_at {int} NOT NULL, held_until {int} NOT NULL,
            queries {int} NOT NULL, cells {int} NOT NULL, epsilon_nano {int} NOT NULL, rho_micro {int} NOT NULL,
            encrypted_operations {int} NOT NULL, bytes {int} NOT NULL, price_micro {int} NOT NULL)""",
        "CREATE INDEX reservations_by_state ON reservations (state, held_until)",
        "CREATE INDEX reservations_by_subject ON reservations (requester, contract, dataset, lineage, reserved_at)",
        """CREATE TABLE idempotency (
            requester TEXT NOT NULL, idempotency_key TEXT NOT NULL, request_digest TEXT NOT NULL,
            reservation {int} NOT NULL, PRIMARY KEY (requester, idempotency_key)) {clustered}""",
        "CREATE TABLE answers (reservation {int} PRIMARY KEY, leaf_index {int} NOT NULL, answer {bytes} NOT NULL)",
        """CREATE TABLE releases (
            release_key TEXT PRIMARY KEY, leaf_index {int} NOT NULL, release_bytes {bytes} NOT NULL)""",
        """CREATE TABLE quotas (
            id TEXT PRIMARY KEY, metric TEXT NOT NULL, requester TEXT NOT NULL, contract TEXT NOT NULL,
            dataset TEXT NOT NULL, lineage TEXT NOT NULL, period TEXT NOT NULL, zone TEXT NOT NULL,
            maximum {int} NOT NULL)""",
        "CREATE INDEX quotas_by_scope ON quotas (requester, contract, dataset, lineage)",
        """CREATE TABLE quota_use (
            quota TEXT NOT NULL, period_start TEXT NOT NULL, spent {int} NOT NULL, held {int} NOT NULL,
            PRIMARY KEY (quota, period_start), CHECK (spent >= 0 AND held >= 0)) {clustered}""",
        """CREATE TABLE meter (
            contract TEXT NOT NULL, requester TEXT NOT NULL, dataset TEXT NOT NULL, metric TEXT NOT NULL,
            used {int} NOT NULL CHECK (used BETWEEN 0 AND 4611686018427387904),
            PRIMARY KEY (contract, requester, dataset, metric)) {clustered}""",
        # Ciphertexts that belong to a stored answer (encrypted queries); the answer holds their digest.
        "CREATE TABLE attachments (leaf_index {int} PRIMARY KEY, content {bytes} NOT NULL)",
        # The operators' book.
        "CREATE TABLE policy_documents (position {int} PRIMARY KEY, document TEXT NOT NULL)",
        "CREATE TABLE policy_quotas (quota TEXT PRIMARY KEY)",
        """CREATE TABLE suspensions (
            scope TEXT NOT NULL, name TEXT NOT NULL, since {int} NOT NULL, PRIMARY KEY (scope, name)) {clustered}""",
        """CREATE TABLE snapshots (
            dataset TEXT NOT NULL, version {int} NOT NULL, manifest_digest TEXT NOT NULL,
            PRIMARY KEY (dataset, version)) {clustered}""",
        """CREATE TABLE approvals (
            id TEXT PRIMARY KEY, state TEXT NOT NULL, requester TEXT NOT NULL, contract TEXT NOT NULL,
            query TEXT NOT NULL, plan_digest TEXT NOT NULL, contract_digest TEXT NOT NULL, epsilon_nano {int} NOT NULL,
            price_micro {int} NOT NULL, requested {int} NOT NULL, expires {int} NOT NULL, decided_by TEXT NOT NULL,
            purpose TEXT NOT NULL, mode TEXT NOT NULL, snapshot {int} NOT NULL, key_id TEXT NOT NULL,
            key_owners TEXT NOT NULL, weight_bits {int} NOT NULL)""",
        "CREATE INDEX approvals_by_plan ON approvals (plan_digest, requested)",
        "CREATE INDEX approvals_by_time ON approvals (requested, id)",
        "CREATE INDEX approvals_by_contract ON approvals (contract, state, expires)",
        """CREATE TABLE public_keys (
            key_id TEXT NOT NULL, owner TEXT NOT NULL, modulus {bytes} NOT NULL, registered {int} NOT NULL,
            PRIMARY KEY (key_id, owner)) {clustered}""",
        """CREATE TABLE operations (
            principal TEXT NOT NULL, idempotency_key TEXT NOT NULL, request_digest TEXT NOT NULL,
            reply {bytes} NOT NULL, PRIMARY KEY (principal, idempotency_key)) {clustered}""",
    ),
    (
        # Witnesses' lines for checkpoints that stand already.
        """CREATE TABLE log_cosignatures (
            size {int} NOT NULL, name TEXT NOT NULL, line TEXT NOT NULL, PRIMARY KEY (size, name)) {clustered}""",
    ),
    (
        # Governance. States of contracts belong to terms, so to a digest.
        """CREATE TABLE contract_states (
            contract TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL, since {int} NOT NULL,
            PRIMARY KEY (contract, digest)) {clustered}""",
    ),
)


def migrate(tx: Transaction, *, types: dict[str, str]) -> int:
    """Brings the tables to the newest migration, inside the caller's transaction; gives the version.

    Raises:
        Unavailable: the data was written by a newer Weir; an older one must not touch it.
    """
    tx.execute("CREATE TABLE IF NOT EXISTS schema_version (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
    rows = tx.execute("SELECT version FROM schema_version WHERE id = 1")
    version = integer(rows[0][0]) if rows else 0
    if version > len(MIGRATIONS):
        raise Unavailable(
            f"the data directory has schema {version}, this Weir knows up to {len(MIGRATIONS)}: use the newer one",
            rule="store.downgrade",
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            tx.execute(statement.format(**types))
    tx.execute(
        "INSERT INTO schema_version (id, version) VALUES (1, ?) "
        "ON CONFLICT (id) DO UPDATE SET version = excluded.version",
        (len(MIGRATIONS),),
    )
    return len(MIGRATIONS)
