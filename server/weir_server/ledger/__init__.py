# SPDX-License-Identifier: Apache-2.0
"""The ledger: what may be spent, what is held, what was spent. Functions on an open transaction; no clock, no socket.

Two-phase: `reserve`, then exactly one of `post`, `void`, `expire`. The log leaf of each step is written in the same
transaction as the books, so what is billed, spent and logged is one truth.
"""

from __future__ import annotations

from weir_server.ledger.meter import meter_totals
from weir_server.ledger.opening import start
from weir_server.ledger.operations import (
    charge_and_post,
    expire_holds,
    find_answer,
    find_release,
    give_up,
    is_answered,
    others_hold,
    post,
    record,
    recover,
    refuse,
    reserve,
    void,
)
from weir_server.ledger.quotas import (
    balances,
    check_charge,
    find_balance,
    find_quota,
    join_namespace,
    list_quotas,
    namespace_of,
    nearly_used,
    remove_quota,
    set_quota,
)
from weir_server.ledger.values import (
    METRICS,
    PRIVACY_METRICS,
    Balance,
    Charge,
    Inputs,
    MeterTotal,
    Metric,
    Quota,
    ReleasePending,
    Replay,
    Reservation,
    ReservationRequest,
    StoredRelease,
    Subject,
    Superseded,
    Window,
)
from weir_server.log import Appended as Posted

__all__ = [
    "METRICS",
    "PRIVACY_METRICS",
    "Balance",
    "Charge",
    "Inputs",
    "MeterTotal",
    "Metric",
    "Posted",
    "Quota",
    "ReleasePending",
    "Replay",
    "Reservation",
    "ReservationRequest",
    "StoredRelease",
    "Subject",
    "Superseded",
    "Window",
    "balances",
    "charge_and_post",
    "check_charge",
    "expire_holds",
    "find_answer",
    "find_balance",
    "find_quota",
    "find_release",
    "give_up",
    "is_answered",
    "join_namespace",
    "list_quotas",
    "meter_totals",
    "namespace_of",
    "nearly_used",
    "others_hold",
    "post",
    "record",
    "recover",
    "refuse",
    "remove_quota",
    "reserve",
    "set_quota",
    "start",
    "void",
]
