# SPDX-License-Identifier: Apache-2.0
"""A million ciphertexts times a million cells: on a Spark cluster by partitions, and in processes of this machine.

`spark.encrypted_1m_vs_pool`: elapsed seconds of the product alone, with checked inputs, from this process and back to
one ciphertext. The cluster is Apache Spark on the cores of this very machine (`make spark`), else Sail, which works on
one core; so the row says what the way over Spark costs, and nothing of what more machines would bring.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.rows import Row, compared
from tests.support.rows import running_sail, running_spark, spark_home
from weir.paillier import encode_ciphertexts
from weir_client._keys import generate_keypair
from weir_server.encrypted.cluster import SparkReducer
from weir_server.encrypted.pool import KernelPool
from weir_server.engine.spark import Cluster, open_spark

COUNT = int(os.environ.get("WEIR_BENCH_VECTOR", "1000000"))
BITS, CELL_BITS, DISTINCT, ROUNDS = 2048, 40, 1000, 3


def measure() -> list[Row]:
    """Rows; times are elapsed seconds, medians of the rounds, turn about."""
    with tempfile.TemporaryDirectory() as directory:
        home = spark_home()
        where = running_sail() if home is None else running_spark(home, Path(directory))
        with where as remote:
            name = "Sail, one core" if home is None else "Apache Spark, local[2]"
            return [asyncio.run(_measure(remote, cluster=name))]


async def _measure(remote: str, *, cluster: str) -> Row:
    keys, cores = generate_keypair(BITS), len(os.sched_getaffinity(0))
    rng = random.Random(1)
    some = encode_ciphertexts(keys.public, keys.encrypt_many([rng.getrandbits(20) for _ in range(DISTINCT)]))
    ciphertexts = (some * (COUNT // DISTINCT + 1))[: COUNT * keys.public.ciphertext_bytes]
    cells = [[rng.getrandbits(CELL_BITS) - (1 << (CELL_BITS - 1)) for _ in range(COUNT)]]
    far = SparkReducer(lambda: open_spark(Cluster(remote, "nowhere")).session, partitions=cores, seconds=3600)
    ours, theirs, results = [], [], set()

    async def timed(work: Callable[[], Awaitable[bytes]]) -> float:
        started = time.perf_counter()
        results.add(await work())
        return time.perf_counter() - started

    async with KernelPool(cores) as pool:
        await far.matrix_dot(keys.public, some, [[1] * DISTINCT])
        for _ in range(ROUNDS):
            ours.append(await timed(lambda: far.matrix_dot(keys.public, ciphertexts, cells)))
            theirs.append(await timed(lambda: pool.matrix_dot(keys.public, ciphertexts, cells)))
    await far.close()
    if len(results) != 1:
        raise AssertionError("cluster and pool disagree")
    return compared(
        "spark.encrypted_1m_vs_pool",
        ours,
        theirs,
        unit="s",
        peer=f"{cores} worker processes of this machine",
        detail=f"{COUNT:,} ciphertexts, {BITS} bits, cells of {CELL_BITS} bits; {cluster}",
    )
