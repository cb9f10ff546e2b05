# SPDX-License-Identifier: Apache-2.0
"""What the transport says by itself, without any word of Weir's."""

from __future__ import annotations

import grpc
import pytest

from weir.errors import InvalidRequest, Overloaded, Unavailable, WeirError
from weir_client._transport import _from_parts


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 4)", InvalidRequest),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (9 vs. 4)", InvalidRequest),
        (grpc.StatusCode.CANCELLED, "", Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Unavailable),
    ],
)
def test_a_status_of_the_transport_has_one_meaning(
    code: grpc.StatusCode, text: str | None, kind: type[WeirError]
) -> None:
    found = _from_parts(code, text, ())
    assert type(found) is kind
    assert found.retryable == (kind is not InvalidRequest)
