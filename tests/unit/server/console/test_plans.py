# SPDX-License-Identifier: Apache-2.0
"""No page reads a table that grows from one end to the other: every statement of every page walks an index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.console import running_console
from tests.support.domain import DOCUMENTS, by_site, contract_document, submit, submit_dp
from weir_server.console import usage
from weir_server.store.sqlite import SqliteTransaction

PATHS = (
    "/overview", "/approvals", "/approvals?state=used", "/approvals/{approval}", "/stops", "/datasets",
    "/datasets/spending", "/contracts", "/contracts/c-1", "/requesters/alice", "/quotas", "/quotas?after=contract-b",
    "/quotas/contract-c-1-epsilon", "/policy", "/log", "/log?before=9", "/log?type=weir.query.released",
    "/log?requester=alice", "/log?contract=c-1", "/log?contract=c-1&type=weir.query.released&requester=alice",
    "/log/5", "/log/{decided}/replay", "/checkpoints", "/checkpoints?below=9", "/checkpoints/growth?old=4", "/bills",
    "/bills?after=b", "/bills/c-1", "/bills/c-1/focus.csv", "/cases",
)  # fmt: skip
SMALL = {"log_head", "ledger_clock", "suspensions", "usage_position", "cases", "case_steps", "policy_documents"}
"""Of one row, or as few as people make by hand."""
CONTRACTS = {"quotas", "contract_states", "contract_signatures", "contract_duties", "standing_refusals"}
"""As many rows as contracts and requesters have: read whole for standings, and where sums are kept for some seconds."""


async def test_no_page_scans_a_table_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Sequence[Any]]] = []
    plain: Callable[..., Any] = SqliteTransaction.execute

    def noting(self: SqliteTransaction, sql: str, parameters: Sequence[Any] = ()) -> Any:
        seen.append((sql, tuple(parameters)))
        return plain(self, sql, parameters)

    documents = (*DOCUMENTS, contract_document("w-1", approval="per_query"))
    async with running_console(tmp_path, documents=documents) as console:
        await console.domain.pipeline.run(submit())
        await console.domain.pipeline.run(submit_dp())
        waiting = await console.domain.refused(submit(by_site(), contract="w-1"))
        while await usage.catch_up(console.domain.store):
            pass
        decided = console.domain.events("weir.query.reserved")[0]["id"]
        browser = await console.signed_in("operator", "olga")
        monkeypatch.setattr(SqliteTransaction, "execute", noting)
        for path in PATHS:
            place = path.format(approval=waiting.metadata["approval"], decided=decided)
            assert (await browser.get(place)).status_code == 200, place
        monkeypatch.undo()
        scans = _scans(tmp_path, seen)
    assert len(seen) > 60
    assert not scans, "\n".join(scans)


def _scans(directory: Path, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """Statements whose plan walks a whole table, with the line of the plan that says so."""
    (path,) = directory.glob("*.db")
    books = sqlite3.connect(path)
    try:
        found = []
        for sql, parameters in statements:
            if not sql.lstrip().upper().startswith("SELECT"):
                continue
            for *_, line in books.execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
                table = re.match(r"SCAN (\w+)(?! USING (COVERING )?INDEX)", line)
                if table is not None and table.group(1) not in SMALL | CONTRACTS and not _bounded(sql):
                    found.append(f"{line}: {' '.join(sql.split())[:160]}")
        return sorted(set(found))
    finally:
        books.close()


def _bounded(sql: str) -> bool:
    """A walk in the order of the key that a limit ends."""
    return bool(re.search(r"ORDER BY .* LIMIT", sql, re.DOTALL)) and "usage" not in sql
