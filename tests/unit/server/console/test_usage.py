# SPDX-License-Identifier: Apache-2.0
"""What the log adds up to: each entry once, and the same as the meter that the ledger keeps."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.console import running_console
from tests.support.domain import Domain, by_site, equals, running_domain, submit, submit_dp
from tests.support.ledger import ALICE, BOB, fill, open_books
from weir_server.console import usage
from weir_server.console.reads import entries, meter
from weir_server.console.reads.entries import Filter
from weir_server.console.reads.traffic import traffic
from weir_server.ledger.values import MAX_CHARGE
from weir_server.store import Store
from weir_server.store.sqlite import SqliteStore

pytestmark = pytest.mark.usefixtures("engine")


async def count_all(store: Store) -> int:
    counted = 0
    while batch := await usage.catch_up(store):
        counted += batch
    return counted


async def business(domain: Domain) -> None:
    await domain.pipeline.run(submit())
    await domain.pipeline.run(submit(by_site(where=equals("adult", value=True))))
    await domain.pipeline.run(submit_dp())
    await domain.refused(submit(contract="none"))
    await domain.refused(submit_dp(epsilon=3 * 10**9))


async def test_meter_and_log_say_the_same_of_every_contract(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    try:
        fill(books)
        await count_all(books.store)
        names, following = books.store.read(meter.contracts)
        assert (names, following) == (["c-1", "c-2"], "")
        compared = books.store.read(lambda tx: meter.compare(tx, names))
        assert all(item.same for found in compared.values() for item in found)
        assert {item.metric for item in compared["c-1"]} >= {"queries", "epsilon_nano", "price_micro"}
    finally:
        books.store.close()


async def test_the_largest_charges_of_the_ledger_are_counted_whole(tmp_path: Path) -> None:
    """Fault: an answer for 10^9 of a currency stood in ledger and bill, and in half of the sums."""
    books = open_books(tmp_path)
    try:
        for number in range(3):
            books.answer(
                {"queries": 1, "cells": 3, "price_micro": MAX_CHARGE - number}, subject=(ALICE, BOB)[number % 2]
            )
        await count_all(books.store)
        compared = books.store.read(lambda tx: meter.compare(tx, ["c-1", "c-2"]))
        assert all(item.same for found in compared.values() for item in found)
        sums = books.store.read(lambda tx: meter.sums_by(tx, "dataset"))
        assert [(row.used["answers"], row.used["price_micro"]) for row in sums] == [(3, 3 * MAX_CHARGE - 3)]
    finally:
        books.store.close()


async def test_sums_beyond_what_a_meter_holds_do_not_stop_the_count(tmp_path: Path) -> None:
    """Attack: entries written by hand overflow a column, and nothing behind them is counted any more."""
    books = open_books(tmp_path)
    try:
        key = ("c-1", "alice", "census", "dp", "CNY", "2026-11", "price_micro")
        spent = ("people", "alice", "c-1", "census", "2026-11-22", "epsilon_nano")
        sums = usage.Sums(billed=Counter({key: 1000 * MAX_CHARGE}), spent=Counter({spent: 1000 * MAX_CHARGE}))
        for start in range(2):
            assert await books.store.write(lambda tx, at=start: usage.keep(tx, sums, start=at, end=at + 1))
        other = usage.Sums(billed=Counter({("c-2", *key[1:]): 2**62, ("c-3", *key[1:]): 2**62}))
        await books.store.write(lambda tx: usage.keep(tx, other, start=2, end=3))
        assert [row.used for row in books.store.read(lambda tx: meter.sums_by(tx, "dataset"))] == [
            {"price_micro": 3 * 2**62}
        ]
        assert books.store.read(lambda tx: tx.execute("SELECT used FROM usage_spent")) == [(2**62,)]
    finally:
        books.store.close()


def test_an_entry_s_amounts_count_all_or_none() -> None:
    leaf = (
        f'{{"type": "{usage.RELEASED}", "time": "2026-11-22T12:00:00Z", "data": {{"subject": {{"contract": "c-1"}}, '
        '"charge": {"cells": "3", "price_micro": "9007199254740992"}}}'
    ).encode()
    sums = usage.add_up([(7, leaf)])
    assert not sums.billed, "neither an answer nor its cells"
    assert sums.contracts == [("c-1", 7)], "the page of the contract shows it, as altered"


async def test_a_meter_that_was_changed_by_hand_shows(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        await business(domain)
        await count_all(domain.store)
        assert domain.store.read(lambda tx: meter.bill(tx, "c-1")).same
        await domain.store.write(
            lambda tx: tx.execute("UPDATE meter SET used = used - 1 WHERE contract = 'c-1' AND metric = 'price_micro'")
        )
        bill = domain.store.read(lambda tx: meter.bill(tx, "c-1"))
        assert [item.metric for item in bill.compared if not item.same] == ["price_micro"]
        assert bill.current


async def test_every_entry_is_counted_once_however_often_and_from_wherever(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        await business(domain)
        size = len(domain.events())
        assert await count_all(domain.store) == size
        assert await count_all(domain.store) == 0
        again = await domain.store.write(
            lambda tx: usage.keep(tx, usage.add_up([(0, b"{}")]), start=0, end=1)  # another process, too late
        )
        assert again is False
        found = domain.store.read(lambda tx: traffic(tx, now=domain.clock()))
        assert (found.total("answered"), found.total("refused"), found.total("failed")) == (3, 2, 0)
        assert dict(found.reasons) == {"UNKNOWN_NAME": 1, "POLICY_DENIED": 1}
        assert found.counted == size


async def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    sums = usage.add_up([(0, b"nonsense"), (1, b"[]"), (2, b'{"type": "x", "time": "never", "data": {}}')])
    assert not sums.traffic
    assert not sums.contracts


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("[]", id="no object"),
        pytest.param('{"record": [], "subject": "c", "charge": 3}', id="parts of another kind"),
        pytest.param('{"subject": {"contract": "c-1"}, "charge": {"price_micro": "much"}}', id="no number"),
        pytest.param('{"subject": {"contract": "c-1"}, "charge": {"price_micro": "9' + "9" * 40 + '"}}', id="too much"),
        pytest.param('{"subject": {"contract": "c-1"}, "charge": {"epsilon_nano": "1"}}', id="no lineage"),
    ],
)
@pytest.mark.parametrize("kind", [usage.RELEASED, usage.RESERVED, usage.REFUSED])
async def test_an_entry_that_was_tampered_with_does_not_stop_the_count(kind: str, data: str) -> None:
    leaf = f'{{"type": "{kind}", "time": "2026-11-22T12:00:00Z", "data": {data}}}'.encode()
    good = b'{"type": "x", "time": "2026-11-22T12:00:00Z", "data": {}, "subject": "contract/c-9"}'
    sums = usage.add_up([(0, leaf), (1, good)])
    assert ("c-9", 1) in sums.contracts
    assert all(amount < 2**62 for amount in (*sums.billed.values(), *sums.spent.values()))


async def test_pages_of_the_log_show_every_entry_that_fits_and_none_twice(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        await business(domain)
        await count_all(domain.store)
        every = domain.events()
        for wanted, fits in (
            (Filter(), lambda event: True),
            (Filter(type="weir.query.released"), lambda event: event["type"] == "weir.query.released"),
            (Filter(requester="alice"), lambda event: event["data"].get("subject", {}).get("requester") == "alice"),
            (
                Filter(type="weir.query.refused", requester="alice"),
                lambda event: event["type"] == "weir.query.refused",
            ),
            (Filter(type="weir.query.reserved", contract="c-1"), lambda event: event["type"] == "weir.query.reserved"
             and event["data"]["subject"]["contract"] == "c-1"),
            (Filter(requester="nobody"), lambda event: False),
        ):  # fmt: skip
            assert walk(domain.store, wanted, limit=2) == [int(event["id"]) for event in every if fits(event)][::-1]


async def test_a_page_that_looks_at_many_rows_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_domain(tmp_path) as domain:
        await business(domain)
        await count_all(domain.store)
        monkeypatch.setattr(entries, "_LOOKED_AT", 3)
        released = [int(event["id"]) for event in domain.events("weir.query.released")][::-1]
        assert walk(domain.store, Filter(type="weir.query.released", requester="alice"), limit=2) == released


async def test_an_entry_whose_bytes_or_hash_were_changed_is_marked(tmp_path: Path) -> None:
    async with running_domain(tmp_path) as domain:
        page = domain.store.read(lambda tx: entries.page(tx, Filter()))
        assert not any(entry.altered for entry in page.entries)
        await domain.store.write(
            lambda tx: tx.execute("UPDATE log_leaves SET leaf = ? WHERE idx = 2", (page.entries[0].leaf,))
        )
        page = domain.store.read(lambda tx: entries.page(tx, Filter()))
        assert [entry.index for entry in page.entries if entry.altered] == [2]
        assert domain.store.read(entries.types) == sorted({str(event["type"]) for event in domain.events()})


@pytest.mark.parametrize(
    "change",
    ["UPDATE log_leaves SET type = 'weir.query.voided' WHERE idx = ?", "DELETE FROM log_leaves WHERE idx = ?",
     "UPDATE log_leaves SET requester = 'mallory' WHERE idx = ?"],
)  # fmt: skip
async def test_an_entry_that_was_taken_out_or_is_listed_as_another_is_marked(tmp_path: Path, change: str) -> None:
    async with running_console(tmp_path) as console:
        domain = console.domain
        await business(domain)
        index = int(domain.events("weir.query.released")[0]["id"])
        await domain.store.write(lambda tx: tx.execute(change, (index,)))
        page = domain.store.read(lambda tx: entries.page(tx, Filter()))
        assert [entry.index for entry in page.entries if entry.altered] == [index]
        assert [entry.index for entry in page.entries] == list(range(page.size))[::-1]
        browser = await console.signed_in("auditor")
        shown = await browser.get(f"/log/{index}")
        assert shown.status_code == 200
        assert 'role="alert"' in shown.text


@pytest.mark.parametrize("leaf", [b"nonsense", None])
async def test_a_bill_whose_entries_were_altered_is_not_called_good(tmp_path: Path, leaf: bytes | None) -> None:
    async with running_console(tmp_path) as console:
        domain = console.domain
        await business(domain)
        await count_all(domain.store)
        index = int(domain.events("weir.query.released")[0]["id"])
        assert domain.store.read(lambda tx: meter.bill(tx, "c-1")).same
        sql = "DELETE FROM log_leaves WHERE idx = ?" if leaf is None else "UPDATE log_leaves SET leaf = ? WHERE idx = ?"
        await domain.store.write(lambda tx: tx.execute(sql, (index,) if leaf is None else (leaf, index)))
        bill = domain.store.read(lambda tx: meter.bill(tx, "c-1"))
        assert (bill.same, list(bill.altered)) == (False, [index])
        browser = await console.signed_in("auditor")
        shown = await browser.get("/bills/c-1")
        assert 'data-verdict="bad"' in shown.text
        assert 'data-verdict="good"' not in shown.text
        assert (await browser.get("/bills/c-1/focus.csv")).status_code >= 400


@pytest.mark.parametrize("charge", ['"x"', "[]", '{"price_micro":"much"}', '{"price_micro":3}'])
async def test_an_entry_of_another_form_is_shown_and_called_altered(tmp_path: Path, charge: str) -> None:
    leaf = (
        f'{{"data":{{"charge":{charge},"record":[]}},"datacontenttype":"application/json","id":"0","source":"s",'
        '"specversion":"1.0","subject":"x","time":"never","type":"weir.query.released"}'
    ).encode()
    async with running_console(tmp_path) as console:
        await business(console.domain)
        await console.domain.store.write(lambda tx: tx.execute("UPDATE log_leaves SET leaf = ? WHERE idx = 0", (leaf,)))
        browser = await console.signed_in("auditor")
        for path in ("/log/0", "/log", "/log/0/replay"):
            reply = await browser.get(path)
            assert (path, reply.status_code) == (path, 200)
        assert 'data-verdict="bad"' in (await browser.get("/log/0")).text


async def test_a_day_leads_to_the_entries_until_its_end(tmp_path: Path) -> None:
    async with running_console(tmp_path) as console:
        await console.domain.pipeline.run(submit())
        console.domain.clock.forward(days=2)
        await console.domain.pipeline.run(submit())
        browser = await console.signed_in("auditor")
        events = console.domain.events()
        for day, newest in (("2026-11-22", True), ("2026-11-24", False), ("2026-11-01", None), ("2030-01-01", False)):
            moment = datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(days=1)
            index = console.domain.store.read(lambda tx, at=moment: entries.first_since(tx, at))  # type: ignore[misc]
            assert index == sum(datetime.fromisoformat(str(event["time"])) < moment for event in events)
            page = (await browser.get(f"/log?day={day}&requester=alice")).text
            assert ("2026-11-24 12" in page) == (newest is False)
        for day in ("yesterday", "9999-12-31"):
            assert (await browser.get(f"/log?day={day}")).status_code == 400


async def test_the_budget_burns_down_by_requester_and_day(tmp_path: Path) -> None:
    async with running_console(tmp_path) as console:
        await console.domain.pipeline.run(submit_dp(epsilon=10**8))
        console.domain.clock.forward(days=1)
        await console.domain.pipeline.run(
            submit_dp(by_site(where=equals("adult", value=True), dataset="spending"), epsilon=10**8)
        )
        await count_all(console.domain.store)
        browser = await console.signed_in("auditor")
        page = (await browser.get("/datasets/spending")).text
        assert "ε 0.2 of ε 4 are spent" in page
        assert "2026-11-22" in page
        assert "2026-11-23" in page


def walk(store: SqliteStore, wanted: Filter, *, limit: int) -> list[int]:
    """Indexes of every page, in order."""
    found: list[int] = []
    before: int | None = None
    for _ in range(1000):
        page = store.read(lambda tx, at=before: entries.page(tx, wanted, before=at, limit=limit))  # type: ignore[misc]
        found += [entry.index for entry in page.entries]
        if page.next is None:
            return found
        before = page.next
    raise AssertionError("pages without end")
