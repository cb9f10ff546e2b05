# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io

import pytest

from weir.canonical import canonical_json
from weir.errors import InvalidReceipt
from weir.statement import FOCUS_COLUMNS, focus_csv, statement


def leaf(
    kind: str = "weir.query.released",
    *,
    contract: str = "c-1",
    requester: str = "alice",
    time: str = "2026-11-22T12:00:00Z",
    mode: str = "dp",
    price: int = 1_250_000,
) -> bytes:
    subject = {"requester": requester, "contract": contract, "dataset": "census", "lineage": "people"}
    data = {
        "subject": subject,
        "charge": {"price_micro": str(price), "epsilon_nano": "500000000"},
        "record": {"mode": mode, "currency": "CNY"},
    }
    return canonical_json({"specversion": "1.0", "id": "0", "source": "l", "type": kind, "time": time, "data": data})


def test_a_bill_sums_answers_by_who_what_how_and_month() -> None:
    lines = statement(
        [leaf(), leaf(), leaf(mode="exact", price=3), leaf(time="2026-12-01T00:00:00Z"), leaf(requester="bob")]
    )
    assert [(x.requester, x.mode, x.month, x.answers, x.price_micro) for x in lines] == [
        ("alice", "dp", "2026-11", 2, 2_500_000),
        ("alice", "dp", "2026-12", 1, 1_250_000),
        ("alice", "exact", "2026-11", 1, 3),
        ("bob", "dp", "2026-11", 1, 1_250_000),
    ]


def test_what_is_not_an_answer_is_not_billed() -> None:
    kinds = ["weir.query.reserved", "weir.query.refused", "weir.query.voided", "weir.quota.set"]
    assert statement([leaf(kind) for kind in kinds]) == []


def test_a_bill_can_be_for_one_contract_and_one_month() -> None:
    entries = [leaf(), leaf(contract="c-2"), leaf(time="2026-12-01T00:00:00Z")]
    assert [line.contract for line in statement(entries, contract="c-2")] == ["c-2"]
    assert [line.month for line in statement(entries, month="2026-12")] == ["2026-12"]


def test_a_month_ends_at_midnight_utc_wherever_the_time_was_written() -> None:
    assert statement([leaf(time="2026-12-01T07:59:59+08:00")])[0].month == "2026-11"


def test_an_entry_that_is_no_event_is_refused() -> None:
    with pytest.raises(InvalidReceipt):
        statement([b"{}"])


def test_the_bill_is_exported_with_focus_columns_and_exact_decimals() -> None:
    rows = list(csv.DictReader(io.StringIO(focus_csv(statement([leaf(time="2026-12-05T00:00:00Z"), leaf()])))))
    assert tuple(rows[0]) == FOCUS_COLUMNS
    assert rows[0] | {"x": ""} == {
        "BillingPeriodStart": "2026-11-01T00:00:00Z",
        "BillingPeriodEnd": "2026-12-01T00:00:00Z",
        "ChargePeriodStart": "2026-11-01T00:00:00Z",
        "ChargePeriodEnd": "2026-12-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeDescription": "dp answers, epsilon 0.5",
        "BilledCost": "1.25",
        "BillingCurrency": "CNY",
        "ConsumedQuantity": "1",
        "ConsumedUnit": "Queries",
        "ServiceName": "Weir",
        "ResourceId": "census",
        "SubAccountId": "alice",
        "Tags": "contract=c-1",
        "x": "",
    }
    assert rows[1]["BillingPeriodEnd"] == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_a_name_cannot_become_a_spreadsheet_formula(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(focus_csv(statement([leaf(requester=name)])))))
    assert rows[0]["SubAccountId"] == "'" + name
