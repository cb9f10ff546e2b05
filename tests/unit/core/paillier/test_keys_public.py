# SPDX-License-Identifier: Apache-2.0
import time

import phe
import pytest

from tests.support.paillier import real_keypair
from weir.errors import InvalidKey
from weir.paillier import PublicKey, as_public_key, check_modulus
from weir.paillier._gmp import iroot_rem, mpz, next_prime


def rule_of(n: int) -> str | None:
    with pytest.raises(InvalidKey) as refusal:
        check_modulus(n)
    assert refusal.value.field == "public_key"
    return refusal.value.rule


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_generated_modulus_is_accepted(bits: int) -> None:
    check_modulus(real_keypair(bits).public.n)


@pytest.mark.parametrize("bits", [512, 1024, 2047, 2049, 4096, 8192, 65_536])
def test_a_modulus_of_another_size_is_refused_at_once(bits: int) -> None:
    n = (1 << (bits - 1)) | 1
    data = n.to_bytes((bits + 7) // 8 + 1, "big")
    seconds = []
    # The least of three: the machine may be busy, but what it does is the same each time.
    for _ in range(3):
        started = time.perf_counter()
        assert rule_of(n) == "key.size"
        with pytest.raises(InvalidKey):
            PublicKey(n)
        with pytest.raises(InvalidKey):
            PublicKey.from_bytes(data)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05


@pytest.mark.parametrize("n", [0, -1, -(1 << 2047), 1])
def test_a_modulus_that_is_no_large_positive_number_is_refused(n: int) -> None:
    assert rule_of(n) == "key.size"


def test_an_even_modulus_is_refused() -> None:
    assert rule_of((1 << 2047) + 2) == "key.odd"


def test_a_prime_modulus_is_refused() -> None:
    assert rule_of(2**2048 - 1_557) == "key.prime"


@pytest.mark.parametrize("exponent", [2, 3, 4, 7, 31])
def test_a_prime_power_is_refused(exponent: int) -> None:
    base = next_prime(iroot_rem(mpz(3) << 2046, exponent)[0])
    assert rule_of(int(base**exponent)) == "key.perfect_power"


@pytest.mark.parametrize("factor", [3, 5, 257, 6367, 65_521])
def test_a_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    rest = (3 << 2046) // factor | 1
    assert rule_of(factor * rest) == "key.small_factor"


def test_key_id_is_the_digest_of_the_modulus_and_survives_the_wire() -> None:
    key = real_keypair().public
    assert key.key_id.startswith("sha256:")
    assert len(key.key_id) == 7 + 64
    assert PublicKey.from_bytes(key.to_bytes()).key_id == key.key_id
    assert real_keypair(3072).public.key_id != key.key_id


@pytest.mark.parametrize(("bits", "size"), [(2048, 512), (3072, 768)])
def test_a_ciphertext_takes_twice_the_bytes_of_the_modulus(bits: int, size: int) -> None:
    assert real_keypair(bits).public.ciphertext_bytes == size


def test_a_phe_key_becomes_the_same_key_and_back() -> None:
    key = real_keypair().public
    converted = key.to_phe()
    assert isinstance(converted, phe.PaillierPublicKey)
    assert as_public_key(converted) == key == as_public_key(key)
    with pytest.raises(InvalidKey):
        PublicKey.from_phe(phe.PaillierPublicKey((1 << 1023) | 1))


def test_equal_moduli_are_equal_keys() -> None:
    key = real_keypair().public
    assert key == PublicKey(int(key.n))
    assert hash(key) == hash(PublicKey(int(key.n)))
