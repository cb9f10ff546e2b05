# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.garbage import left_behind
from tests.support.paillier import real_keypair
from weir.errors import HeadroomExceeded, InternalError, InvalidCiphertext, InvalidKey, InvalidRequest, Unavailable
from weir.paillier import decode_ciphertexts, encode_ciphertexts
from weir_server.encrypted import kernel_worker
from weir_server.encrypted import pool as module
from weir_server.encrypted.pool import KernelPool

KEYS = real_keypair()
KEY = KEYS.public


@pytest.fixture
async def pool() -> AsyncIterator[KernelPool]:
    async with KernelPool(2) as running:
        yield running


def wire(values: list[int]) -> bytes:
    return encode_ciphertexts(KEY, KEYS.encrypt_many(values))


def plain(data: bytes, bits: int | None = None) -> list[int]:
    return KEYS.decrypt_many(decode_ciphertexts(KEY, data), bits=bits)


def long_scalars(count: int) -> list[int]:
    rng = random.Random(count)
    return [rng.getrandbits(62) for _ in range(count)]


async def test_a_dot_product_comes_back_as_one_ciphertext(pool: KernelPool) -> None:
    assert plain(await pool.dot(KEY, wire([2, -3, 5]), [10, 100, -1000])) == [20 - 300 - 5000]


async def test_a_large_product_is_shared_out_and_stays_exact(pool: KernelPool) -> None:
    weights = [7, -1, 0, 3] * 300
    columns = [list(range(1200)), [-at * at for at in range(1200)]]
    expected = [sum(w * c for w, c in zip(weights, column, strict=True)) for column in columns]
    assert plain(await pool.matrix_dot(KEY, wire(weights[:4]) * 300, columns)) == expected


async def test_a_vector_longer_than_workers_may_hold_goes_through_them_in_pieces(
    pool: KernelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 300 * KEY.ciphertext_bytes)
    weights = [7, -1, 0, 3] * 400
    column = [at - 700 for at in range(1600)]
    data = wire(weights[:4]) * 400
    await pool.check(KEY, data)
    assert plain(await pool.dot(KEY, data, column)) == [sum(w * s for w, s in zip(weights, column, strict=True))]
    assert len(await pool.process_ids()) == 2


def test_pieces_are_as_many_as_workers_or_a_multiple() -> None:
    assert module._cuts(1000, 2, most=10_000) == [(0, 500), (500, 1000)]
    assert len(module._cuts(10_000, 2, most=2_600)) == 4
    assert len(module._cuts(600, 8, most=10_000)) == 2
    assert module._cuts(0, 2, most=10) == [(0, 0)]


async def test_masked_replies_decrypt_modulo_their_bits(pool: KernelPool) -> None:
    masked = await pool.mask(KEY, wire([41, -41]), [20, 90])
    assert plain(masked[: KEY.ciphertext_bytes], bits=20) == [41]
    assert plain(masked[KEY.ciphertext_bytes :], bits=90) == [-41]
    assert plain(masked) != [41, -41]


async def test_masking_the_same_ciphertext_twice_differs(pool: KernelPool) -> None:
    one = wire([41])
    assert await pool.mask(KEY, one, [20]) != await pool.mask(KEY, one, [20])


async def test_the_server_encrypts_for_another(pool: KernelPool) -> None:
    assert plain(await pool.encrypt(KEY, [0, 1, -1, 1 << 100])) == [0, 1, -1, 1 << 100]
    assert await pool.encrypt(KEY, []) == b""


async def test_a_key_proof_is_verified_off_the_loop(pool: KernelPool) -> None:
    proof = KEYS.prove(b"alice")
    await pool.verify_key(KEY.to_bytes(), proof, context=b"alice")
    with pytest.raises(InvalidKey):
        await pool.verify_key(KEY.to_bytes(), proof, context=b"mallory")


async def test_refusals_keep_their_class_rule_and_field(pool: KernelPool) -> None:
    one = wire([1])
    with pytest.raises(InvalidCiphertext) as bad:
        await pool.check(KEY, one + bytes(KEY.ciphertext_bytes))
    assert (bad.value.rule, bad.value.field) == ("paillier.ciphertext", "ciphertexts")
    with pytest.raises(InvalidRequest):
        await pool.dot(KEY, one, [1, 2])
    with pytest.raises(InvalidCiphertext):
        await pool.check(KEY, one[:-1])
    with pytest.raises(HeadroomExceeded):
        await pool.mask(KEY, one, [5000])
    await pool.check(KEY, one)


@pytest.mark.parametrize("place", [0, 299, 300, 599])
async def test_a_bad_ciphertext_is_found_in_whichever_piece_it_is(pool: KernelPool, place: int) -> None:
    size = KEY.ciphertext_bytes
    data = bytearray(wire([4]) * 600)
    await pool.check(KEY, bytes(data))
    data[place * size : (place + 1) * size] = bytes(size - 1) + b"\x01"
    with pytest.raises(InvalidCiphertext):
        await pool.check(KEY, bytes(data))
    with pytest.raises(InvalidCiphertext):
        await pool.check(KEY, wire([4]) * 600 + b"\x01")


async def test_what_was_refused_leaves_nothing_in_memory(pool: KernelPool) -> None:
    """Mutant: the error holds the frame that raises it, and with it the ciphertexts, tens of megabytes."""

    class Upload(bytes):
        pass

    pair = real_keypair(2048)
    with left_behind(Upload, InvalidCiphertext) as left:
        with pytest.raises(InvalidCiphertext):
            await pool.matrix_dot(pair.public, Upload(bytes(512 * 4)), [[1] * 4])
        await asyncio.sleep(0)
        assert left() == {}


async def test_an_unforeseen_failure_tells_nothing(pool: KernelPool) -> None:
    with pytest.raises(InternalError) as failure:
        await pool.mask(KEY, wire([1, 2]), [20])
    assert "zip" not in failure.value.message


async def test_a_killed_worker_is_a_retryable_error_and_the_pool_recovers(pool: KernelPool) -> None:
    big, scalars = wire([3]) * 3000, long_scalars(3000)
    before = await pool.process_ids()
    running = asyncio.ensure_future(pool.dot(KEY, big, scalars))
    await asyncio.sleep(0.1)
    for process_id in before:
        os.kill(process_id, signal.SIGKILL)
    with pytest.raises(Unavailable) as failure:
        await running
    assert failure.value.retryable
    assert plain(await pool.dot(KEY, wire([6]), [7])) == [42]
    assert not set(before) & set(await pool.process_ids())


async def test_workers_that_died_while_idle_are_replaced(pool: KernelPool) -> None:
    for process_id in await pool.process_ids():
        os.kill(process_id, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert plain(await pool.dot(KEY, wire([6]), [7])) == [42]


@pytest.mark.alone
async def test_a_cancelled_call_frees_its_worker_at_once(pool: KernelPool) -> None:
    big = wire([3]) * 60_000
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await pool.dot(KEY, big, long_scalars(60_000))
    started = time.perf_counter()
    assert plain(await pool.dot(KEY, wire([6]), [7])) == [42]
    # Finishing the abandoned product first would take several times longer.
    assert time.perf_counter() - started < 5.0


@pytest.mark.alone
async def test_the_event_loop_stays_responsive_while_workers_compute(pool: KernelPool) -> None:
    data, scalars = wire([3]) * 4000, long_scalars(4000)
    running, began, longest = asyncio.ensure_future(pool.dot(KEY, data, scalars)), time.perf_counter(), 0.0
    while not running.done():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - started)
    await running
    # Had the loop done the work, one turn would have taken the whole time.
    assert longest < 0.5 * (time.perf_counter() - began)


async def test_more_calls_than_workers_wait_their_turn(pool: KernelPool) -> None:
    one = wire([1])
    replies = await asyncio.gather(*(pool.dot(KEY, one, [at + 1]) for at in range(12)))
    assert [plain(reply) for reply in replies] == [[at + 1] for at in range(12)]
    assert len(await pool.process_ids()) == 2


async def test_a_closed_pool_refuses_and_leaves_no_process() -> None:
    pool = KernelPool(1)
    await pool.start()
    (process_id,) = await pool.process_ids()
    await pool.close()
    with pytest.raises(Unavailable):
        await pool.dot(KEY, wire([1]), [1])
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_a_worker_ends_when_its_input_does() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", kernel_worker.__name__], input=b"", capture_output=True, timeout=30, check=True
    )
    assert done.stdout == kernel_worker.frame(kernel_worker.READY)
    assert done.stderr == b""


def test_a_worker_imports_nothing_heavy() -> None:
    code = f"import sys, {kernel_worker.__name__}; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"grpc", "phe", "numpy", "duckdb", "opendp", "google.protobuf"} & set(loaded)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs procfs")
async def test_a_worker_stays_small(pool: KernelPool) -> None:
    await pool.dot(KEY, wire([3]) * 2000, [5] * 2000)
    for process_id in await pool.process_ids():
        assert resident_bytes(process_id) < 64 * 1024 * 1024


def resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
