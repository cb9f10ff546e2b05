# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from weir.errors import InvalidRequest, Overloaded
from weir_server.config import Limits
from weir_server.services.uploads import Uploads


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(Limits(upload_memory_bytes=100, upload_memory_bytes_per_requester=60))


def test_one_requester_holds_so_much_and_others_what_is_left(uploads: Uploads) -> None:
    uploads.take("alice", 40)
    with pytest.raises(Overloaded) as caught:
        uploads.take("alice", 21)
    assert caught.value.rule == "limits.upload_memory_bytes_per_requester"
    uploads.take("alice", 20)
    uploads.take("bob", 40)
    with pytest.raises(Overloaded) as caught:
        uploads.take("carol", 1)
    assert caught.value.rule == "limits.upload_memory_bytes"
    assert uploads.held == 100


def test_what_is_released_is_there_again_and_only_once(uploads: Uploads) -> None:
    first, second = uploads.take("alice", 40), uploads.take("alice", 20)
    for _ in range(3):
        first.release()
    assert uploads.held == 20
    third = uploads.take("alice", 40)
    second.release()
    third.release()
    assert uploads.held == 0


def test_what_would_never_fit_is_refused_for_good(uploads: Uploads) -> None:
    with pytest.raises(InvalidRequest) as caught:
        uploads.take("alice", 61)
    assert caught.value.rule == "upload.size"
    assert uploads.held == 0
