# SPDX-License-Identifier: Apache-2.0
"""What a publication keeps on a cluster, which no card may name as its source."""

from __future__ import annotations

from typing import Any, cast

import pytest

from weir_server.publish.place import Remote

REMOTE = Remote(cast("Any", None), "s3a://lake/weir", "visits-1-00")


@pytest.mark.parametrize(
    "path",
    [
        "s3a://lake/weir/bounded",
        "s3a://lake/weir/members/spending-1-77",
        "s3a://lake/weir/members/spending*",
        "s3a://lake/weir/*/*",
        "s3a://lake/w[e]ir/members",
        "s3a://lake/{weir,x}/consent/y",
        "s3a://lake/weir/sources/../publishing",
        "s3a://lake//weir/./consent",
    ],
)
def test_private_records_of_any_dataset_are_no_source(path: str) -> None:
    assert REMOTE.keeps(path)


@pytest.mark.parametrize(
    "path", ["s3a://lake/weir/orders.parquet", "s3a://lake/weir/boundedness", "s3a://lake/visits/*", "s3a://other/*"]
)
def test_what_lies_beside_them_may_be_one(path: str) -> None:
    assert not REMOTE.keeps(path)


def test_a_local_path_has_two_names() -> None:
    assert Remote(cast("Any", None), "/shared/weir", "visits-1-00").keeps("file:///shared/weir/members")
