# SPDX-License-Identifier: Apache-2.0
"""The meter by contract, requester, dataset and month, and bills held against the log."""

from __future__ import annotations

from starlette.responses import Response

from weir.errors import UnknownName, VerificationError
from weir.statement import focus_csv, statement
from weir_server.console import calls
from weir_server.console.charts import Series
from weir_server.console.reads import meter
from weir_server.console.reads.meter import Compared, Row
from weir_server.console.screens.screen import Screen
from weir_server.console.usage import ANSWERS
from weir_server.console.visit import Visit
from weir_server.identity.holder import NAME
from weir_server.ledger import METRICS
from weir_server.services.paging import page_after
from weir_server.store import Transaction

_CHART_ROWS = 10


async def show(visit: Visit) -> Response:
    """Sums by what the reader chose, with a chart of the largest."""
    by = visit.query("by") or "requester"
    if by not in meter.BY:
        by = "requester"
    rows = await visit.desk.figures.sums[by].get()
    largest = sorted(rows, key=lambda row: -row.used.get(ANSWERS, 0))[:_CHART_ROWS]
    page, following = page_after(rows, key=lambda row: row.name, token=visit.query("after"), size=meter.PAGE)
    months = rows if by == "month" else []
    return visit.page(
        "meter.html",
        by=by,
        choices=meter.BY,
        rows=page,
        total=_total(rows),
        metrics=[metric for metric in (ANSWERS, *METRICS) if any(metric in row.used for row in rows)],
        bars=[(row.name, row.used.get(ANSWERS, 0), f"{row.used.get(ANSWERS, 0):,}") for row in largest],
        months=[row.name for row in months],
        series=[Series(visit.words.say("metric.answers"), [row.used.get(ANSWERS, 0) for row in months])],
        first=visit.link(after=None) if visit.query("after") else "",
        following=visit.link(after=following) if following else "",
    )


async def show_bills(visit: Visit) -> Response:
    """Every contract's meter against what its entries add up to."""
    after = visit.query("after")

    def read(tx: Transaction) -> tuple[list[str], str, dict[str, list[Compared]]]:
        names, following = meter.contracts(tx, after=after)
        return names, following, meter.compare(tx, names)

    names, following, compared = await visit.read(calls.LIST_METER, read)
    return visit.page(
        "bills.html",
        bills=[(name, compared[name]) for name in names],
        first=visit.link(after=None) if after else "",
        following=visit.link(after=following) if following else "",
    )


async def show_bill(visit: Visit) -> Response:
    """One contract's bill, added up from its entries before the reader."""
    contract = _contract(visit)
    bill = await visit.read(calls.LIST_METER, lambda tx: meter.bill(tx, contract))
    return visit.page("bill.html", bill=bill)


async def download(visit: Visit) -> Response:
    """The same bill as CSV with FOCUS columns."""
    contract = _contract(visit)
    leaves, altered = await visit.read(calls.LIST_METER, lambda tx: meter.released(tx, contract))
    if altered:
        raise VerificationError("entries of this bill are not what was signed", rule="console.altered")
    headers = {"content-disposition": f'attachment; filename="bill-{contract}.csv"'}
    return Response(focus_csv(statement(leaves, contract=contract)), media_type="text/csv", headers=headers)


def _contract(visit: Visit) -> str:
    name = visit.path("contract")
    if not NAME.fullmatch(name):
        raise UnknownName("no contract of this id", field="contract", rule="name.contract")
    return name


def _total(rows: list[Row]) -> dict[str, int]:
    return {
        metric: sum(row.used.get(metric, 0) for row in rows) for metric in {name for row in rows for name in row.used}
    }


_READS = (calls.LIST_METER, calls.LIST_ENTRIES)
SCREENS = (
    Screen("meter", "/meter", show, _READS),
    Screen("bills", "/bills", show_bills, _READS),
    Screen("bill", "/bills/{contract}", show_bill, _READS),
    Screen("bill_file", "/bills/{contract}/focus.csv", download, _READS),
)
