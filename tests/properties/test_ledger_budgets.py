# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import ALICE, VKEY, open_books, request, reserving
from weir.errors import BudgetExhausted
from weir_server.fsck import fsck
from weir_server.ledger import Reservation, Subject, balances, void

PARTIES = [Subject(name, f"c-{name}", "census", "people") for name in ("alice", "bob", "carol")]
LOSSES = st.tuples(st.sampled_from(PARTIES), st.integers(1, 400), st.integers(1, 10**9), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(LOSSES, max_size=12), st.integers(0, 1_000))
def test_losses_in_rho_never_add_up_to_more_than_the_lineage_has(
    tries: list[tuple[Subject, int, int, bool]], lifetime: int
) -> None:
    with TemporaryDirectory() as folder:
        books = open_books(Path(folder))
        books.quota("people-rho", "rho_micro", lifetime, lineage="people")
        spent = 0
        for at, (party, rho, epsilon, fails) in enumerate(tries):
            charge = {"rho_micro": rho, "epsilon_nano": epsilon}
            asked = replace(request(charge, key=f"key-{at:012d}", subject=party), budget="rho_micro")
            if spent + rho > lifetime:
                with pytest.raises(BudgetExhausted) as refused:
                    books.store.write_sync(reserving(asked, books.clock))
                assert [(hit.used, hit.requested) for hit in refused.value.limits] == [(spent, rho)]
                continue
            held = books.store.write_sync(reserving(asked, books.clock))
            spent += rho
            assert isinstance(held, Reservation)
            if fails:  # A query that fails gives no loss back.
                books.store.write_sync(
                    lambda tx, held=held: void(tx, held, reason_code="x", now=books.clock(), entropy=bytes)  # type: ignore[misc]
                )
            assert spent <= lifetime
        (standing,) = books.store.read(lambda tx: balances(tx, [ALICE], now=books.clock()))
        assert standing.spent == spent
        books.store.close()
        assert fsck(Path(folder), vkey=VKEY).ok
