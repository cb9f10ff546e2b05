# SPDX-License-Identifier: Apache-2.0
"""Holders of one name in two roles: neither sees or pays for what the other does."""

from pathlib import Path

from tests.support.domain import check_receipt, running_domain
from weir.errors import InvalidQuery
from weir_server import log


async def test_refusals_of_an_operator_are_not_among_the_receipts_of_the_requester_of_that_name(
    tmp_path: Path,
) -> None:
    refused = [InvalidQuery("no"), InvalidQuery("no")]
    async with running_domain(tmp_path) as domain:
        for role, error in zip(("requester", "operator"), refused, strict=True):
            await domain.pipeline.refuse_call("alice", role, "/weir.v1.QueryService/RunQuery", error)
        listed = domain.store.read(lambda tx: log.receipts_of(tx, "alice"))
    assert [receipt.leaf_index for receipt in listed] == [check_receipt(refused[0].receipt).index]
    by_operator = check_receipt(refused[1].receipt).event["data"]
    assert isinstance(by_operator, dict)
    assert by_operator["subject"]["requester"] == ""
    assert (by_operator["record"]["actor"], by_operator["record"]["role"]) == ("alice", "operator")
