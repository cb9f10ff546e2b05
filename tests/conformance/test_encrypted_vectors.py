# SPDX-License-Identifier: Apache-2.0
"""Ciphertexts reduced on a cluster give what worker processes and python-paillier give, to the integer."""

from __future__ import annotations

import asyncio
import itertools
import random
import zipfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.paillier import real_keypair
from weir.errors import Unavailable
from weir.paillier import decode_ciphertexts, encode_ciphertexts, to_phe_encrypted
from weir_server.encrypted import cluster as module
from weir_server.encrypted import partitions
from weir_server.encrypted.cluster import SparkReducer
from weir_server.encrypted.pool import KernelPool
from weir_server.engine.spark import Cluster, open_spark

KEYS = real_keypair()
KEY = KEYS.public
DISTINCT = 200
SECRET = "cell 4242424242"


_SESSIONS: dict[str, Any] = {}
"""By cluster: shared by tests and never closed, since opening one takes seconds."""


def session_on(cluster: Cluster) -> Any:
    found = _SESSIONS.get(cluster.remote)
    if found is None or found.is_stopped:
        found = _SESSIONS[cluster.remote] = open_spark(cluster).session
    return found


@pytest.fixture
def reducer(cluster: Cluster) -> SparkReducer:
    return reducer_on(cluster)


@pytest.fixture
async def alone(cluster: Cluster) -> AsyncIterator[SparkReducer]:
    """With sessions of its own, which it loses."""
    running = SparkReducer(lambda: open_spark(cluster).session, partitions=3, seconds=250.0)
    yield running
    await running.close()


def reducer_on(cluster: Cluster, **changes: Any) -> SparkReducer:
    settings: dict[str, Any] = {"partitions": 3, "seconds": 250.0} | changes
    return SparkReducer(lambda: session_on(cluster), **settings)


@cache
def weights() -> list[int]:
    return [0, 1, -1, 2**20 - 1, *(random.Random(1).randrange(-(2**20), 2**20) for _ in range(DISTINCT - 4))]


@cache
def distinct() -> tuple[int, ...]:
    return tuple(int(c) for c in KEYS.encrypt_many(weights()))


def vector(count: int) -> bytes:
    """As many ciphertexts; those of DISTINCT weights over and over, since what a server gets it cannot tell apart."""
    return encode_ciphertexts(KEY, list(itertools.islice(itertools.cycle(distinct()), count)))


def columns_of(count: int, *, columns: int, bits: int = 40) -> list[list[int]]:
    rng = random.Random(f"{count}/{columns}/{bits}")
    return [[rng.getrandbits(bits + 1) - (1 << bits) for _ in range(count)] for _ in range(columns)]


def oracle(columns: list[list[int]]) -> list[int]:
    return [sum(w * s for w, s in zip(itertools.cycle(weights()), column, strict=False)) for column in columns]


@pytest.mark.parametrize(
    ("count", "columns", "bits"),
    [
        pytest.param(1, 1, 40, id="one cell"),
        pytest.param(2, 3, 8, id="fewer cells than partitions"),
        pytest.param(3_000, 2, 70, id="scalars longer than a machine word"),
        pytest.param(10_000, 1, 40, id="ten thousand"),
        pytest.param(100_000, 1, 40, marks=pytest.mark.slow, id="a hundred thousand, in two chunks"),
    ],
)
async def test_a_cluster_gives_the_very_ciphertexts_of_the_pool(
    reducer: SparkReducer, count: int, columns: int, bits: int
) -> None:
    ciphertexts, scalars = vector(count), columns_of(count, columns=columns, bits=bits)
    found = await reducer.matrix_dot(KEY, ciphertexts, scalars)
    async with KernelPool(1) as pool:
        assert found == await pool.matrix_dot(KEY, ciphertexts, scalars)
    assert KEYS.decrypt_many(decode_ciphertexts(KEY, found)) == oracle(scalars)


async def test_python_paillier_reads_what_it_would_have_computed_itself(reducer: SparkReducer) -> None:
    (scalars,) = columns_of(DISTINCT, columns=1)
    numbers = to_phe_encrypted(KEY, list(distinct()))
    theirs = sum(number * scalar for number, scalar in zip(numbers[1:], scalars[1:], strict=True)) + (
        numbers[0] * scalars[0]
    )
    (ours,) = to_phe_encrypted(KEY, decode_ciphertexts(KEY, await reducer.matrix_dot(KEY, vector(DISTINCT), [scalars])))
    assert KEYS.private_key.decrypt(ours) == KEYS.private_key.decrypt(theirs)


async def test_the_cluster_keeps_no_chunk_once_its_job_is_done(cluster: Cluster, reducer: SparkReducer) -> None:
    """Neither as a relation of the session nor in a plan that it remembers. Mutant: sixteen plans with their chunks
    filled a front of two gigabytes within two vectors of a million."""
    await reducer.matrix_dot(KEY, vector(10), columns_of(10, columns=1))
    settings = session_on(cluster).conf
    assert settings.get("spark.connect.session.planCache.enabled") == "false"
    assert int(settings.get("spark.sql.session.localRelationCacheThreshold")) > module.CHUNK_BYTES * 2


async def test_chunks_join_to_the_same_product_wherever_they_are_cut(cluster: Cluster) -> None:
    ciphertexts, scalars = vector(2_500), columns_of(2_500, columns=2)
    expected = oracle(scalars)
    for rows in (700, 2_500, 5_000):
        cut = reducer_on(cluster, chunk_bytes=rows * KEY.ciphertext_bytes)
        found = await cut.matrix_dot(KEY, ciphertexts, scalars)
        assert KEYS.decrypt_many(decode_ciphertexts(KEY, found)) == expected


async def test_columns_of_zeros_give_the_ciphertext_one(reducer: SparkReducer) -> None:
    assert decode_ciphertexts(KEY, await reducer.matrix_dot(KEY, vector(5), [[0] * 5] * 2)) == [1, 1]


async def test_no_ciphertexts_give_the_ciphertext_one(reducer: SparkReducer) -> None:
    assert decode_ciphertexts(KEY, await reducer.matrix_dot(KEY, b"", [[]])) == [1]


async def test_a_partition_that_fails_is_a_typed_error_without_its_words(
    alone: SparkReducer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def failing(modulus: bytes, *, columns: int, width: int) -> partitions.Work:
        secret = SECRET

        def work(batches: Iterator[Any]) -> Iterator[Any]:
            raise ValueError(secret)
            yield  # a generator, as what it stands for

        return work

    with monkeypatch.context() as patch:
        patch.setattr(partitions, "partition_work", failing)
        with pytest.raises(Unavailable) as caught:
            await alone.matrix_dot(KEY, vector(4), columns_of(4, columns=1))
    assert caught.value.rule == "cluster.failed"
    assert SECRET not in repr(told(caught.value))
    assert SECRET not in "".join(capfd.readouterr())
    scalars = columns_of(4, columns=1)
    found = await alone.matrix_dot(KEY, vector(4), scalars)
    assert KEYS.decrypt_many(decode_ciphertexts(KEY, found)) == oracle(scalars)


def told(error: BaseException | None) -> list[str]:
    """All that hangs on an error."""
    return [] if error is None else [str(error.__dict__), str(error), *told(error.__context__), *told(error.__cause__)]


async def test_what_takes_too_long_is_stopped_and_the_next_vector_is_not_held_up(
    alone: SparkReducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleeping(modulus: bytes, *, columns: int, width: int) -> partitions.Work:
        def work(batches: Iterator[Any]) -> Iterator[Any]:
            import time

            time.sleep(6)
            yield from batches

        return work

    await alone.check()
    alone._seconds = 1.0
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "partition_work", sleeping)
        with pytest.raises(Unavailable) as caught:
            await alone.matrix_dot(KEY, vector(4), columns_of(4, columns=1))
    assert (caught.value.rule, caught.value.__context__) == ("cluster.time", None)
    alone._seconds = 250.0
    assert decode_ciphertexts(KEY, await alone.matrix_dot(KEY, vector(1), [[0]])) == [1]


async def test_a_session_that_the_cluster_has_ended_is_replaced_by_the_check(alone: SparkReducer) -> None:
    await alone.check()
    assert alone._session is not None
    await asyncio.to_thread(alone._session.client.release_session)
    alone._checked = None
    await alone.check()
    assert decode_ciphertexts(KEY, await alone.matrix_dot(KEY, vector(1), [[0]])) == [1]


@pytest.mark.slow
async def test_executors_without_the_kernels_are_named_so(
    spark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_without_gmpy2(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weir/__init__.py", "")
            archive.writestr("weir/paillier/__init__.py", "import a_module_that_is_nowhere")

    monkeypatch.setattr(module, "write_kernels", write_without_gmpy2)
    lacking = SparkReducer(lambda: open_spark(Cluster(spark, str(tmp_path))).session, partitions=3, seconds=250.0)
    with pytest.raises(Unavailable) as caught:
        await lacking.check()
    await lacking.close()
    assert caught.value.rule == "cluster.modules"
    assert "gmpy2" in caught.value.message


@pytest.mark.slow
async def test_a_cluster_that_is_away_is_given_up_within_the_check() -> None:
    away = reducer_on(Cluster("sc://127.0.0.1:9", "nowhere"))
    with pytest.raises(Unavailable) as caught:
        await away.check()
    assert caught.value.rule == "engine.unreachable"
    await away.close()
