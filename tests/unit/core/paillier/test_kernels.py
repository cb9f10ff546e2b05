# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from tests.support.paillier import fixed_entropy, real_keypair, small_keypair
from weir.errors import InvalidCiphertext, InvalidRequest
from weir.paillier import GmpKernels, add_all, dot, encrypt, matrix_dot, scale
from weir.paillier import _buckets as buckets
from weir.paillier import _subsets as subsets
from weir_client._keys import KeyPair


def scalars_of_every_kind(rng: random.Random, count: int, bits: int) -> list[int]:
    top = 1 << bits
    kinds = (lambda: 0, lambda: top, lambda: -top, lambda: rng.randint(-top, top), lambda: rng.choice((-1, 1)))
    return [rng.choice(kinds)() for _ in range(count)]


def oracle(plaintexts: list[int], scalars: list[int]) -> int:
    return sum(m * s for m, s in zip(plaintexts, scalars, strict=True))


def test_a_thousand_random_weight_vectors_decrypt_to_the_oracle() -> None:
    keys, rng = small_keypair(), random.Random(20_261_122)
    for _ in range(1000):
        count, bits = rng.choice((1, 2, 4, 7, 30)), rng.choice((1, 3, 17, 40, 62))
        weights = scalars_of_every_kind(rng, count, bits)
        cells = scalars_of_every_kind(rng, count, 40)
        ciphertexts = keys.encrypt_many(weights)
        assert signed(keys, dot(keys.public, ciphertexts, cells)) == oracle(weights, cells)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 64, 500], ids=lambda n: f"n={n}")
@pytest.mark.parametrize("bits", [1, 2, 31, 64, 100], ids=lambda b: f"bits={b}")
def test_every_path_gives_the_oracle(count: int, bits: int) -> None:
    keys, rng = small_keypair(), random.Random(f"{count}/{bits}")
    weights = scalars_of_every_kind(rng, count, 40)
    columns = [scalars_of_every_kind(rng, count, bits), [0] * count, [abs(s) for s in weights], [-1] * count]
    ciphertexts = keys.encrypt_many(weights)
    expected = [oracle(weights, column) for column in columns]
    assert [signed(keys, dot(keys.public, ciphertexts, column)) for column in columns] == expected
    assert [signed(keys, c) for c in matrix_dot(keys.public, ciphertexts, columns)] == expected
    if count:
        split = buckets.Split.of(keys.public.n, ciphertexts)
        assert [signed(keys, c) for c in subsets.matrix_dot(split, columns)] == expected
        assert [signed(keys, buckets.split_dot(split, column)) for column in columns] == expected


def signed(keys: KeyPair, ciphertext: int) -> int:
    # decrypt() refuses trivial ciphertexts, which an all-zero column rightly gives before masking.
    plain = keys.decrypt_raw(ciphertext)
    return int(plain if 2 * plain < keys.public.n else plain - keys.public.n)


@pytest.mark.parametrize("bits", [2048, 3072])
def test_real_key_sizes_agree_with_the_oracle(bits: int) -> None:
    keys, rng = real_keypair(bits), random.Random(bits)
    weights = scalars_of_every_kind(rng, 40, 62)
    columns = [scalars_of_every_kind(rng, 40, 62) for _ in range(3)]
    ciphertexts = keys.encrypt_many(weights)
    expected = [oracle(weights, column) for column in columns]
    assert keys.decrypt_many(matrix_dot(keys.public, ciphertexts, columns)) == expected
    assert keys.decrypt(dot(keys.public, ciphertexts, columns[0])) == expected[0]


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 10_000])
@pytest.mark.parametrize("bits", [0, 1, 8, 62, 200])
@pytest.mark.parametrize("signed_scalars", [False, True])
def test_windows_cover_every_bit_once(count: int, bits: int, signed_scalars: bool) -> None:
    windows = buckets.plan(count, bits, signed_scalars) if bits + signed_scalars else ()
    assert [w.shift for w in windows] == [sum(v.width for v in windows[:at]) for at in range(len(windows))]
    assert sum(w.width for w in windows) == bits + signed_scalars
    assert [w.top for w in windows] == [False] * (len(windows) - 1) + [True] * bool(windows)


def test_windows_grow_with_the_number_of_ciphertexts() -> None:
    widths = [buckets.plan(count, 62, False)[0].width for count in (10, 100, 1000, 10_000)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_the_shared_table_is_chosen_for_many_columns_of_few_cells_only() -> None:
    rng = random.Random(7)
    few = [[rng.getrandbits(62) for _ in range(100)] for _ in range(10)]
    many = [[rng.getrandbits(62) for _ in range(5000)] for _ in range(2)]
    assert subsets.is_cheaper(few)
    assert not subsets.is_cheaper(many)


def test_no_ciphertexts_sum_to_nothing() -> None:
    key = small_keypair().public
    assert dot(key, [], []) == 1 == add_all(key, [])
    assert matrix_dot(key, [], [[], []]) == [1, 1]
    assert matrix_dot(key, [3], []) == []


def test_sums_and_multiples_decrypt_to_the_oracle() -> None:
    keys = small_keypair()
    ciphertexts = keys.encrypt_many([5, -7, 1 << 60])
    assert keys.decrypt(add_all(keys.public, ciphertexts)) == 5 - 7 + (1 << 60)
    assert [signed(keys, scale(keys.public, ciphertexts[1], s)) for s in (-3, 0, 4)] == [21, 0, -28]


def test_unequal_lengths_are_refused() -> None:
    key = small_keypair().public
    for call in (lambda: dot(key, [3, 4], [1]), lambda: matrix_dot(key, [3, 4], [[1, 2], [1]])):
        with pytest.raises(InvalidRequest) as refusal:
            call()
        assert refusal.value.rule == "paillier.lengths"


@pytest.mark.parametrize("scalars", [[1, -1], [3] * 8, [5, -5] * 20], ids=["few", "some", "many"])
def test_a_non_unit_is_refused_and_not_an_arithmetic_error(scalars: list[int]) -> None:
    keys = small_keypair()
    good = encrypt(keys.public, 1, entropy=fixed_entropy("unit"))
    ciphertexts = [good] * (len(scalars) - 1) + [keys.p * 3]
    with pytest.raises(InvalidCiphertext):
        matrix_dot(keys.public, ciphertexts, [scalars, [-s for s in scalars]])


def test_kernels_are_deterministic() -> None:
    keys = small_keypair()
    ciphertexts = keys.encrypt_many(range(20))
    assert dot(keys.public, ciphertexts, list(range(20))) == GmpKernels().dot(keys.public, ciphertexts, list(range(20)))
