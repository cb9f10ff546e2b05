# SPDX-License-Identifier: Apache-2.0
"""Pages stay quick when the log is long and contracts are many; `python -m bench console` measures a longer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.console import LIMIT_MS, PAGES, filled_console, time_page

ENTRIES, CONTRACTS = 50_000, 10_000


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_every_page_comes_in_time_with_many_entries_and_contracts(tmp_path: Path) -> None:
    async with filled_console(tmp_path, entries=ENTRIES, contracts=CONTRACTS) as console:
        browser = await console.signed_in("operator", "olga")
        rows = [await time_page(browser, page, entries=ENTRIES, contracts=CONTRACTS) for page in PAGES]
    late = [f"{row['name']}: {row['p95']} ms" for row in rows if row["p95"] >= LIMIT_MS]
    assert not late
