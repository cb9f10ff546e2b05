# SPDX-License-Identifier: Apache-2.0
"""Encrypted arithmetic beside python-paillier (phe), same key, same inputs, same process, turn about.

Each row is a ratio of times, theirs over ours: above 1, Weir is faster. Times are processor time of one thread, elapsed
time for two processes. They depend on the machine; ratios are what can be compared.

`python -m bench.he` prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import phe

from weir.paillier import (
    ObfuscatorPool,
    PublicKey,
    dot,
    encode_ciphertexts,
    encrypt_with,
    matrix_dot,
    to_phe_encrypted,
)
from weir_client._keys import KeyPair
from weir_server.encrypted.pool import KernelPool

Row = dict[str, Any]
Timed = Callable[[], object]


def measure(*, bits: int = 2048, quick: bool = False, heu_python: str | None = None) -> list[Row]:
    """Rows {name, ours, theirs, ratio, unit, spread, aim, detail}; `ours` and `theirs` are medians in milliseconds,
    `spread` is (max - min)/median of the ratio over the rounds, `aim` the least ratio wanted or None.

    `quick` leaves out the 10,000-weight products, on which phe spends most of the run. `heu_python`, by default the
    environment's WEIR_BENCH_HEU_PYTHON, is an interpreter that has `sf-heu`; without one that row is left out.
    """
    heu_python = heu_python or os.environ.get("WEIR_BENCH_HEU_PYTHON")
    keys = KeyPair.from_phe(phe.generate_paillier_keypair(n_length=bits)[1])
    rows = [_dot(keys, 1000, aim=7.0), _matrix(keys), *_encryption(keys), _decryption(keys)]
    if heu_python:
        rows.append(_dot_beside_heu(keys, heu_python))
    return rows if quick else [*rows, *_dots_of_ten_thousand(keys)]


def run() -> list[Row]:
    """All rows at the default key size of the bench."""
    return measure()


def _dot(keys: KeyPair, count: int, *, aim: float, rounds: int = 5) -> Row:
    ciphertexts, scalars = _inputs(keys, count)
    numbers = to_phe_encrypted(keys.public, ciphertexts)
    _agree(keys, dot(keys.public, ciphertexts, scalars), _phe_dot(numbers, scalars))
    ours, theirs = _in_turn(
        lambda: dot(keys.public, ciphertexts, scalars), lambda: _phe_dot(numbers, scalars), rounds=rounds
    )
    detail = f"{count:,} scalars of 62 bits, {keys.public.bits} bits"
    return _row("he.dot_1k_vs_phe", ours, theirs, aim=aim, detail=detail)


def _dots_of_ten_thousand(keys: KeyPair) -> list[Row]:
    """Both rows share phe's runs, which take seconds each."""
    count = 10_000
    ciphertexts, scalars = _inputs(keys, count)
    numbers = to_phe_encrypted(keys.public, ciphertexts)
    wire = encode_ciphertexts(keys.public, ciphertexts)

    async def rounds(pool: KernelPool) -> tuple[list[float], list[float], list[float], list[float]]:
        one, two, theirs, theirs_wall = [], [], [], []
        for _ in range(3):
            one.append(_timed(lambda: dot(keys.public, ciphertexts, scalars)))
            two.append(await _elapsed(lambda: pool.dot(keys.public, wire, scalars)))
            started = time.perf_counter()
            theirs.append(_timed(lambda: _phe_dot(numbers, scalars)))
            theirs_wall.append(1000 * (time.perf_counter() - started))
        return one, two, theirs, theirs_wall

    async def with_pool() -> tuple[list[float], list[float], list[float], list[float]]:
        async with KernelPool(2) as pool:
            return await rounds(pool)

    one, two, theirs, theirs_wall = asyncio.run(with_pool())
    detail = f"{count:,} scalars of 62 bits, {keys.public.bits} bits"
    return [
        _row("he.dot_10k_vs_phe", one, theirs, aim=9.0, detail=detail),
        _row("he.dot_10k_2proc_vs_phe", two, theirs_wall, aim=12.0, detail=detail + ", two processes, elapsed"),
    ]


def _dot_beside_heu(keys: KeyPair, interpreter: str, count: int = 1000, rounds: int = 5) -> Row:
    """HEU runs in a process of its own, between two halves of our rounds, and is held to one core as we are."""
    ciphertexts, scalars = _inputs(keys, count)
    weights = _scalars(count, 1)
    request = {"bits": keys.public.bits, "weights": weights, "scalars": scalars, "rounds": rounds}
    ours = [_timed(lambda: dot(keys.public, ciphertexts, scalars)) for _ in range(rounds // 2)]
    program = Path(__file__).with_name("he_heu.py")
    done = subprocess.run([interpreter, program], input=json.dumps(request), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout[done.stdout.index("{") :])
    if answer["result"] != sum(w * s for w, s in zip(weights, scalars, strict=True)):
        raise AssertionError("HEU gives another result")
    ours += [_timed(lambda: dot(keys.public, ciphertexts, scalars)) for _ in range(rounds - len(ours))]
    detail = f"{count:,} scalars of 62 bits, {keys.public.bits} bits, one core"
    return _row("he.dot_1k_vs_heu", ours, answer["milliseconds"], aim=10.0, detail=detail)


def _matrix(keys: KeyPair, rounds: int = 3) -> Row:
    """Ten columns over one vector of 1,000 ciphertexts. phe's time is that of one column, times ten."""
    ciphertexts, _ = _inputs(keys, 1000)
    columns = [_scalars(1000, seed) for seed in range(10)]
    numbers = to_phe_encrypted(keys.public, ciphertexts)
    ours, theirs = _in_turn(
        lambda: matrix_dot(keys.public, ciphertexts, columns), lambda: _phe_dot(numbers, columns[0]), rounds=rounds
    )
    detail = f"10 columns of 1,000 scalars of 62 bits, {keys.public.bits} bits; phe: ten times one column"
    return _row("he.matrix_10x1k_vs_phe", ours, [10 * t for t in theirs], aim=7.0, detail=detail)


def _encryption(keys: KeyPair, count: int = 200, rounds: int = 5) -> list[Row]:
    """Per value: the key's owner with warm tables, and anybody from a filled pool."""
    values, public = _scalars(count, 5), keys.public_key
    keys.encrypt_many([*values] * 4)
    few = values[:10]
    ours, theirs = _in_turn(lambda: keys.encrypt_many(values), lambda: [public.encrypt(v) for v in few], rounds=rounds)
    per_ours, per_theirs = [t / count for t in ours], [t / len(few) for t in theirs]
    detail = f"one value, {keys.public.bits} bits"
    with ObfuscatorPool(keys.public, capacity=count, entropy=secrets.token_bytes) as pool:
        pooled = []
        for _ in range(rounds):
            if not pool.wait_until_full(timeout=600):
                raise TimeoutError("the pool did not fill")
            ready = [pool.take() for _ in range(count)]
            pooled.append(_timed(partial(_encrypt_from, keys.public, values, ready)) / count)
    return [
        _row("he.encrypt_vs_phe", per_ours, per_theirs, aim=15.0, detail=detail + ", by the key's owner"),
        _row("he.encrypt_pooled_vs_phe", pooled, per_theirs, aim=50.0, detail=detail + ", obfuscators drawn ahead"),
    ]


def _encrypt_from(key: PublicKey, values: Sequence[int], ready: Sequence[int]) -> None:
    encrypt_with(key, values, obfuscators=iter(ready).__next__)


def _decryption(keys: KeyPair, count: int = 60, rounds: int = 5) -> Row:
    ciphertexts, _ = _inputs(keys, count)
    numbers, private = to_phe_encrypted(keys.public, ciphertexts), keys.private_key
    ours, theirs = _in_turn(
        lambda: keys.decrypt_many(ciphertexts, threads=1),
        lambda: [private.decrypt(number) for number in numbers],
        rounds=rounds,
    )
    per_ours, per_theirs = [t / count for t in ours], [t / count for t in theirs]
    detail = f"one value, {keys.public.bits} bits, one thread, checked"
    return _row("he.decrypt_vs_phe", per_ours, per_theirs, aim=None, detail=detail)


def _inputs(keys: KeyPair, count: int) -> tuple[list[int], list[int]]:
    return keys.encrypt_many(_scalars(count, 1)), _scalars(count, 2)


def _scalars(count: int, seed: int) -> list[int]:
    # Not negative: phe spends an inversion on each negative scalar, which would flatter the ratio.
    rng = random.Random(seed)
    return [rng.getrandbits(62) for _ in range(count)]


def _phe_dot(numbers: Sequence[Any], scalars: Sequence[int]) -> Any:
    return sum(number * s for number, s in zip(numbers[1:], scalars[1:], strict=True)) + numbers[0] * scalars[0]


def _agree(keys: KeyPair, ours: int, theirs: Any) -> None:
    if keys.decrypt(ours) != keys.private_key.decrypt(theirs):
        raise AssertionError("the two libraries disagree")


def _in_turn(ours: Timed, theirs: Timed, *, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each round. Turn about, so that a slow spell of the machine meets both."""
    ours()
    pairs = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _timed(call: Timed) -> float:
    """Milliseconds of processor time: this work is one thread that never waits, and other load must not count."""
    started = time.thread_time()
    call()
    return 1000 * (time.thread_time() - started)


async def _elapsed(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return 1000 * (time.perf_counter() - started)


def _row(name: str, ours: Sequence[float], theirs: Sequence[float], *, aim: float | None, detail: str) -> Row:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return {
        "name": name,
        "ours": round(statistics.median(ours), 4),
        "theirs": round(statistics.median(theirs), 4),
        "ratio": round(ratio, 2),
        "unit": "ms",
        "spread": round((max(ratios) - min(ratios)) / ratio, 3),
        "aim": aim,
        "detail": detail,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Encrypted arithmetic beside python-paillier")
    parser.add_argument("--bits", type=int, default=2048, choices=(2048, 3072))
    parser.add_argument("--quick", action="store_true", help="leave out products of 10,000")
    arguments = parser.parse_args()
    for row in measure(bits=arguments.bits, quick=arguments.quick):
        aim = "" if row["aim"] is None else f"aim {row['aim']:g}×"
        print(
            f"{row['name']:26} {row['ours']:12.3f} {row['theirs']:12.3f} {row['unit']}"
            f" {row['ratio']:8.2f}× ±{row['spread']:.0%} {aim:10} {row['detail']}"
        )


if __name__ == "__main__":
    main()
