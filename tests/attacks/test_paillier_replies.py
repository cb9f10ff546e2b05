# SPDX-License-Identifier: Apache-2.0
"""What a hostile requester can read from one reply: packed weights, and randomness chosen to carry more."""

import random
from math import prod

import pytest

from tests.support.paillier import fixed_entropy, real_keypair, small_keypair, smooth_keypair
from weir.paillier import dot, mask_reply, numbers_in_reply, reply_bits
from weir.paillier._gmp import invert, mpz, powmod
from weir_client._keys import KeyPair

SLOT = 64
CELL_BITS = 60
CELLS = 31


def packed_reply(keys: KeyPair, cells: list[int]) -> int:
    return dot(keys.public, keys.encrypt_many([1 << (SLOT * at) for at in range(len(cells))]), cells)


def slots_read(plaintext: int, cells: list[int]) -> int:
    """How many cells the attacker reads off, lowest first, as they would be without a mask."""
    return sum((plaintext >> (SLOT * at)) % (1 << SLOT) == cell for at, cell in enumerate(cells))


def some_cells(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(CELL_BITS) | 1 << (CELL_BITS - 1) for _ in range(CELLS)]


def test_packed_weights_read_every_cell_of_a_reply_that_is_not_masked() -> None:
    keys, cells = real_keypair(), some_cells(1)
    assert slots_read(keys.decrypt_raw(packed_reply(keys, cells)), cells) == CELLS


@pytest.mark.parametrize("seed", range(5))
def test_packed_weights_read_one_number_of_a_masked_reply(seed: int) -> None:
    """Weights declared as bits: the reply's bits hold one cell, and one is what thirty-one packed weights read."""
    keys, cells = real_keypair(), some_cells(seed)
    bits = reply_bits(0, (0, (1 << CELL_BITS) - 1), CELLS)
    masked = mask_reply(keys.public, packed_reply(keys, cells), bits=bits, entropy=fixed_entropy(f"packed/{seed}"))
    assert slots_read(keys.decrypt_raw(masked), cells) == 1


@pytest.mark.parametrize("weight_bits", [0, 16, 32, 62])
def test_a_masked_reply_holds_no_more_than_its_declared_bits(weight_bits: int) -> None:
    keys, cells = real_keypair(), some_cells(9)
    bits = reply_bits(weight_bits, (0, (1 << CELL_BITS) - 1), CELLS)
    reply = packed_reply(keys, cells)
    for at in range(3):
        masked = mask_reply(keys.public, reply, bits=bits, entropy=fixed_entropy(f"bits/{at}"))
        read = slots_read(keys.decrypt_raw(masked), cells)
        assert read <= numbers_in_reply(bits, (0, (1 << CELL_BITS) - 1)) <= 2


def test_what_lies_above_the_declared_bits_is_different_every_time() -> None:
    keys, cells = small_keypair(), [3, 5]
    reply = dot(keys.public, keys.encrypt_many([1, 1 << 200]), cells)
    entropy = fixed_entropy("above")
    highs = {keys.decrypt_raw(mask_reply(keys.public, reply, bits=40, entropy=entropy)) >> 40 for _ in range(50)}
    assert len(highs) == 50


def test_the_same_request_twice_gives_different_ciphertexts() -> None:
    keys = small_keypair()
    reply, entropy = dot(keys.public, keys.encrypt_many([1, 2, 3, 4]), [1, 1, 1, 1]), fixed_entropy("twice")
    first, second = (mask_reply(keys.public, reply, bits=40, entropy=entropy) for _ in range(2))
    assert first != second
    assert keys.decrypt(first, bits=40) == keys.decrypt(second, bits=40) == 10


class RandomnessAttack:
    """Ciphertexts of zero whose randomness is g**(2**(16·i)): the reply's randomness is g**(Σ cellᵢ·2**(16·i)), and
    since p - 1 is smooth, the attacker takes its logarithm modulo p (Pohlig and Hellman)."""

    width, count = 16, 14

    def __init__(self) -> None:
        self.keys, self.factors = smooth_keypair()
        self.p = mpz(prod(self.factors) + 1)
        assert self.p in (self.keys.p, self.keys.q)
        self.g = next(
            mpz(x) for x in range(2, 1000) if all(powmod(x, (self.p - 1) // f, self.p) != 1 for f in self.factors)
        )

    def ciphertexts(self) -> list[int]:
        key = self.keys.public
        return [
            powmod(powmod(self.g, 1 << (self.width * at), self.p), key.n, key.n_squared) for at in range(self.count)
        ]

    def read(self, reply: int) -> list[int]:
        randomness = powmod(reply, invert(self.keys.public.n, self.p - 1), self.p)
        logarithm = self.logarithm(randomness)
        return [(logarithm >> (self.width * at)) % (1 << self.width) for at in range(self.count)]

    def logarithm(self, value: int) -> int:
        total, modulus = mpz(0), self.p - 1
        for factor in self.factors:
            cofactor = modulus // factor
            digit = self.digit(powmod(value, cofactor, self.p), powmod(self.g, cofactor, self.p), factor)
            total += digit * cofactor * invert(cofactor, factor)
        return int(total % modulus)

    def digit(self, value: int, base: int, order: int) -> int:
        power = mpz(1)
        for digit in range(order):
            if power == value:
                return digit
            power = power * base % self.p
        raise AssertionError("value is not a power of base")


def test_chosen_randomness_carries_every_cell_out_of_a_reply_that_is_not_masked() -> None:
    attack, cells = RandomnessAttack(), [random.Random(2).getrandbits(16) for _ in range(14)]
    assert attack.read(dot(attack.keys.public, attack.ciphertexts(), cells)) == cells


def test_chosen_randomness_carries_nothing_out_of_a_masked_reply() -> None:
    attack, rng = RandomnessAttack(), random.Random(3)
    cells = [rng.getrandbits(16) for _ in range(14)]
    reply = dot(attack.keys.public, attack.ciphertexts(), cells)
    bits = reply_bits(8, (0, 1 << 16), 14)
    for at in range(3):
        masked = mask_reply(attack.keys.public, reply, bits=bits, entropy=fixed_entropy(f"randomness/{at}"))
        # A 16-bit guess is right by chance once in 65,536; the entropy is fixed, so this either holds or does not.
        assert sum(a == b for a, b in zip(attack.read(masked), cells, strict=True)) == 0
        assert attack.keys.decrypt(masked, bits=bits) == 0
