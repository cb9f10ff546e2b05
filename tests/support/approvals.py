# SPDX-License-Identifier: Apache-2.0
"""Approvals in tests: asking for one, and terms that stand."""

from __future__ import annotations

from typing import Any

from tests.support.domain import Domain
from weir.errors import ApprovalRequired
from weir.v1 import policy_service_pb2
from weir_server.plan.values import Submission


async def waiting(domain: Domain, submission: Submission) -> str:
    """Id of the approval that a submission waits for."""
    error = await domain.refused(submission)
    assert isinstance(error, ApprovalRequired), error
    return error.metadata["approval"]


async def approved(domain: Domain, submission: Submission, **fields: Any) -> str:
    """Id of an approval of a submission, given by Olga."""
    approval = await waiting(domain, submission)
    await domain.settle(approval, **fields)
    return approval


def standing(*free: str, **terms: int) -> policy_service_pb2.StandingTerms:
    """Ten uses in thirty days at a price of a hundred, unless named."""
    given = {"uses": 10, "days": 30, "price_micro": 10**8} | terms
    return policy_service_pb2.StandingTerms(free_columns=free, **given)
