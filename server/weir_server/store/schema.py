# SPDX-License-Identifier: Apache-2.0
"""Tables of the ledger and the log, as numbered migrations. A migration is never changed once released.

`{int}`, `{bytes}` and `{clustered}` stand for what each engine calls a 64-bit integer, a byte string, and a table that
is its own index.
"""

from __future__ import annotations

from weir.errors import Unavailable
from weir_server.store import SqlValue, Transaction, integer

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
        # Every text of a contract that was ever in force: what decisions and signatures name by digest.
        "CREATE TABLE contract_terms (digest TEXT PRIMARY KEY, canonical {bytes} NOT NULL)",
        """CREATE TABLE contract_signatures (
            digest TEXT NOT NULL, role TEXT NOT NULL, party TEXT NOT NULL, public_key {bytes} NOT NULL,
            signature {bytes} NOT NULL, signed {int} NOT NULL, PRIMARY KEY (digest, role)) {clustered}""",
        """CREATE TABLE contract_duties (
            digest TEXT NOT NULL, duty TEXT NOT NULL, attested {int} NOT NULL, PRIMARY KEY (digest, duty))
            {clustered}""",
        # What each decision was made from, by index of its leaf, which commits to the facts.
        "CREATE TABLE decisions (leaf_index {int} PRIMARY KEY, contract_digest TEXT NOT NULL, facts {bytes} NOT NULL)",
        # Approvals by several persons, for several uses. `fixed` names all that a template keeps beside its query.
        "ALTER TABLE approvals ADD COLUMN approvers {int} NOT NULL DEFAULT 1",
        "ALTER TABLE approvals ADD COLUMN uses_left {int} NOT NULL DEFAULT 1",
        "ALTER TABLE approvals ADD COLUMN rho_micro {int} NOT NULL DEFAULT 0",
        "ALTER TABLE approvals ADD COLUMN fixed TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE approvals ADD COLUMN standing TEXT NOT NULL DEFAULT ''",
        "UPDATE approvals SET uses_left = 0 WHERE state = 'used'",
        "CREATE INDEX approvals_by_template ON approvals (fixed, state, expires)",
        """CREATE TABLE approval_acts (
            approval TEXT NOT NULL, position {int} NOT NULL, person TEXT NOT NULL, act TEXT NOT NULL,
            reason TEXT NOT NULL, acted {int} NOT NULL, PRIMARY KEY (approval, position)) {clustered}""",
        # Nobody counts twice, whatever else fails.
        "CREATE UNIQUE INDEX approval_acts_once ON approval_acts (approval, person, act)",
        """INSERT INTO approval_acts (approval, position, person, act, reason, acted)
            SELECT id, 1, decided_by, CASE WHEN state = 'rejected' THEN 'reject' ELSE 'approve' END, '', requested
            FROM approvals WHERE decided_by <> ''""",
        # Standing of requesters: refusals by UTC day, counted from the leaves up to `next`, and the level that follows.
        """CREATE TABLE standing_refusals (
            requester TEXT NOT NULL, day TEXT NOT NULL, refusals {int} NOT NULL, PRIMARY KEY (requester, day))
            {clustered}""",
        "CREATE TABLE standing_cursor (id {int} PRIMARY KEY CHECK (id = 1), next {int} NOT NULL)",
        "INSERT INTO standing_cursor (id, next) VALUES (1, 0)",
        "CREATE TABLE standings (requester TEXT PRIMARY KEY, level TEXT NOT NULL)",
        # Cases. `opened` is the log index of the filing; a case that is `frozen` holds its contract by itself.
        """CREATE TABLE cases (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, contract TEXT NOT NULL, dataset TEXT NOT NULL,
            against TEXT NOT NULL, entries TEXT NOT NULL, statement TEXT NOT NULL, opened_by TEXT NOT NULL,
            opened_role TEXT NOT NULL, opened {int} NOT NULL, state TEXT NOT NULL, frozen {int} NOT NULL)""",
        "CREATE INDEX cases_by_filing ON cases (opened)",
        "CREATE INDEX cases_by_filer ON cases (opened_role, opened_by, opened)",
        """CREATE TABLE case_steps (
            leaf_index {int} PRIMARY KEY, case_id TEXT NOT NULL, state TEXT NOT NULL, actor TEXT NOT NULL,
            role TEXT NOT NULL, at {int} NOT NULL, note TEXT NOT NULL, frozen {int} NOT NULL)""",
        "CREATE INDEX case_steps_by_case ON case_steps (case_id, leaf_index)",
        # What the console shows of the log without reading all of it: worked out from the entries below `entries`, by
        # nobody but console/usage.py, and made again from them at any time.
        "CREATE TABLE usage_position (id {int} PRIMARY KEY CHECK (id = 1), entries {int} NOT NULL)",
        "INSERT INTO usage_position (id, entries) VALUES (1, 0)",
        """CREATE TABLE usage_traffic (
            hour {int} NOT NULL, type TEXT NOT NULL, reason TEXT NOT NULL, entries {int} NOT NULL,
            PRIMARY KEY (hour, type, reason)) {clustered}""",
        """CREATE TABLE usage_billed (
            contract TEXT NOT NULL, requester TEXT NOT NULL, dataset TEXT NOT NULL, mode TEXT NOT NULL,
            currency TEXT NOT NULL, month TEXT NOT NULL, metric TEXT NOT NULL, used {int} NOT NULL,
            PRIMARY KEY (contract, requester, dataset, mode, currency, month, metric)) {clustered}""",
        """CREATE TABLE usage_spent (
            lineage TEXT NOT NULL, requester TEXT NOT NULL, contract TEXT NOT NULL, dataset TEXT NOT NULL,
            day TEXT NOT NULL, metric TEXT NOT NULL, used {int} NOT NULL,
            PRIMARY KEY (lineage, requester, contract, dataset, day, metric)) {clustered}""",
        "CREATE INDEX usage_spent_by_contract ON usage_spent (contract)",
        """CREATE TABLE usage_contracts (
            contract TEXT NOT NULL, idx {int} NOT NULL, PRIMARY KEY (contract, idx)) {clustered}""",
        # Which lines of the record of identities the log holds (identity/identities.py).
        """CREATE TABLE identity_acts (
            act TEXT NOT NULL, serial TEXT NOT NULL, leaf_index {int} NOT NULL,
            PRIMARY KEY (act, serial)) {clustered}""",
        "CREATE INDEX contract_states_by_digest ON contract_states (digest)",
        # Inboxes and histories by key.
        "CREATE INDEX approvals_by_state ON approvals (state, requested, id)",
        "CREATE INDEX approvals_by_requester ON approvals (requester, requested, id)",
        "CREATE INDEX approvals_by_history ON approvals (contract, requested, id)",
        # Which process holds a reservation, where several share the books.
        "CREATE TABLE holds (reservation {int} PRIMARY KEY, owner TEXT NOT NULL, release_key TEXT NOT NULL)",
        "CREATE INDEX holds_by_release ON holds (release_key)",
        # Number of the world: raised by every act, so that processes see that others have acted.
        "CREATE TABLE world (id {int} PRIMARY KEY CHECK (id = 1), number {int} NOT NULL)",
        "INSERT INTO world (id, number) VALUES (1, 0)",
        # Which namespace of units a lineage is in, for good: quotas of a namespace bind all lineages in it.
        "CREATE TABLE namespaces (lineage TEXT PRIMARY KEY, namespace TEXT NOT NULL)",
        "CREATE INDEX namespaces_by_name ON namespaces (namespace)",
        "ALTER TABLE quotas ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",
    ),
    (
        # From this number on log_nodes holds every second level of the tree (log/tree.py): what looks for the others
        # would end at a hole, and must not start. Levels that are there stay.
        # When the books were last alive, by the system's clock and by one that nobody can set (health/pulse.py). Some
        # books of the number before have it.
        """CREATE TABLE IF NOT EXISTS pulse (
            id {int} PRIMARY KEY CHECK (id = 1), at {int} NOT NULL, boot TEXT NOT NULL, steady {int} NOT NULL)""",
    ),
    (
        # What a restore without proof left unknown (policy/unproven.py): of the books as a whole, by "", and of each
        # dataset that gets no further version. A Weir that does not ask for it would release over it.
        "CREATE TABLE unproven (dataset TEXT PRIMARY KEY, leaf_index {int} NOT NULL)",
        # Names of the calendar windows that a reservation's holds were taken in (ledger/windows.py): rules of time
        # zones change, and another machine has other ones.
        "ALTER TABLE reservations ADD COLUMN windows TEXT NOT NULL DEFAULT ''",
    ),
)
VERSION = len(MIGRATIONS)
"""Of the tables that this program reads and writes."""


def migrate(tx: Transaction, *, types: dict[str, str]) -> int:
    """Brings the tables to the newest migration, inside the caller's transaction; gives the version.

    Raises:
        Unavailable: the data was written by a newer Weir; an older one must not touch it.
    """
    tx.execute("CREATE TABLE IF NOT EXISTS schema_version (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
    rows = tx.execute("SELECT version FROM schema_version WHERE id = 1")
    version = integer(rows[0][0]) if rows else 0
    if version > VERSION:
        raise newer(version)
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            tx.execute(statement.format(**types))
    tx.execute(
        "INSERT INTO schema_version (id, version) VALUES (1, ?) "
        "ON CONFLICT (id) DO UPDATE SET version = excluded.version",
        (VERSION,),
    )
    return VERSION


def require_current(version: SqlValue) -> None:
    """Holds the version of the tables, read inside a group's transaction, against this program's: a newer one may have
    migrated them since, and this one would write what they no longer mean.

    Raises:
        Unavailable: it is another.
    """
    if version != VERSION:
        raise newer(integer(version))


def newer(version: int) -> Unavailable:
    """The refusal of tables of another version."""
    return Unavailable(
        f"the data directory has schema {version}, this Weir knows up to {VERSION}: use the newer one",
        rule="store.downgrade",
    )
