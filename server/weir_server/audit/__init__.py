# SPDX-License-Identifier: Apache-2.0
"""What auditors and operators read: entries, proofs and the meter's totals, as the messages of weir.v1.AuditService.

Each function reads one snapshot, so that totals and log size belong together.
"""

from __future__ import annotations

from weir.errors import UnknownName
from weir.v1 import audit_service_pb2
from weir_server import log
from weir_server.ledger import meter_totals
from weir_server.store import Transaction

PAGE_ENTRIES = 512
"""Most leaves in one message."""
PAGE_BYTES = 1 << 20
"""Leaves of one message end with the one that passes this: well below the four mebibytes that clients accept."""


def checkpoint(tx: Transaction, *, known_size: int, cosigned_from: int = 0) -> audit_service_pb2.GetCheckpointResponse:
    """The newest checkpoint, with a proof that it extends the log of `known_size` leaves (0: no proof).

    `cosigned_from`: the first of this size or more that a witness has cosigned; 0 for the newest.

    Raises:
        UnknownName: the log is empty, or no witness has cosigned so much of it yet.
        InvalidRequest: the caller knows a longer log; it MUST take that as a rollback.
    """
    found = log.cosigned_from(tx, cosigned_from) if cosigned_from else log.latest_checkpoint(tx)
    if found is None:
        if cosigned_from:
            raise UnknownName("no witness has cosigned that much of the log yet", rule="log.cosigned")
        raise UnknownName("the log is empty", rule="log.empty")
    size, note = found
    response = audit_service_pb2.GetCheckpointResponse(checkpoint=note)
    if known_size:
        response.consistency.CopyFrom(log.consistency(tx, known_size, size))
    return response


def entries_page(
    tx: Transaction, *, start: int, end: int | None = None, type: str = "", limit: int = PAGE_ENTRIES
) -> list[audit_service_pb2.LogEntry]:
    """Sealed leaves with start <= index < end, in order, as many as fit a message; empty at the end.

    Go on from the last index plus one.
    """
    page: list[audit_service_pb2.LogEntry] = []
    size = 0
    for index, leaf in log.entries(tx, start=min(start, 2**62), end=end, type=type):
        page.append(audit_service_pb2.LogEntry(index=index, leaf=leaf))
        size += len(leaf)
        if len(page) >= limit or size >= PAGE_BYTES:
            break
    return page


def inclusion(tx: Transaction, *, index: int, tree_size: int) -> audit_service_pb2.GetInclusionProofResponse:
    """Inclusion proof of one leaf, in the tree of `tree_size` leaves or (0) the newest checkpoint's.

    Raises:
        InvalidRequest: index or size lies outside the log.
    """
    newest = log.latest_checkpoint(tx)
    size = tree_size or (newest[0] if newest else 0)
    path = log.inclusion(tx, index, size)
    return audit_service_pb2.GetInclusionProofResponse(path=path, tree_size=size)


def meter(tx: Transaction, *, contract: str = "") -> audit_service_pb2.ListMeterResponse:
    """The meter's totals and the size of the log they belong to."""
    head = log.read_head(tx)
    totals = [
        audit_service_pb2.MeterTotal(
            contract=total.contract,
            requester=total.requester,
            dataset=total.dataset,
            metric=total.metric,
            used=total.used,
        )
        for total in meter_totals(tx, contract=contract)
    ]
    return audit_service_pb2.ListMeterResponse(totals=totals, log_size=head.size if head else 0)
