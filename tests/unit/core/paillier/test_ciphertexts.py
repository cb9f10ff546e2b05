# SPDX-License-Identifier: Apache-2.0
import random

import phe
import pytest

from tests.support.paillier import fixed_entropy, real_keypair, small_keypair
from weir.errors import HeadroomExceeded, InvalidCiphertext
from weir.paillier import (
    ObfuscatorPool,
    ShortExponent,
    check_ciphertexts,
    decode_ciphertexts,
    encode_ciphertexts,
    encrypt,
    encrypt_with,
    from_phe_encrypted,
    obfuscator,
    to_phe_encrypted,
)

KEYS = small_keypair()
KEY = KEYS.public


def refusal_text(ciphertexts: list[int]) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidCiphertext) as refusal:
        check_ciphertexts(KEY, ciphertexts)
    return refusal.value.message, refusal.value.field, refusal.value.rule


def test_the_wire_form_has_fixed_length_and_comes_back() -> None:
    ciphertexts = KEYS.encrypt_many([1, 2, 3])
    data = encode_ciphertexts(KEY, [*ciphertexts, 5])
    assert len(data) == 4 * KEY.ciphertext_bytes
    assert decode_ciphertexts(KEY, data) == [*ciphertexts, 5]
    assert decode_ciphertexts(KEY, b"") == []


@pytest.mark.parametrize("cut", [1, 64, 127])
def test_a_partial_ciphertext_on_the_wire_is_refused(cut: int) -> None:
    with pytest.raises(InvalidCiphertext):
        decode_ciphertexts(KEY, encode_ciphertexts(KEY, KEYS.encrypt_many([1, 2]))[:-cut])


@pytest.mark.parametrize("value", [-1, KEY.n_squared, KEY.n_squared + 1])
def test_what_is_no_residue_is_not_encoded(value: int) -> None:
    with pytest.raises(InvalidCiphertext):
        encode_ciphertexts(KEY, [value])


BAD = {
    "zero": 0,
    "one": 1,
    "unencrypted": 1 + 41 * KEY.n,
    "n": KEY.n,
    "multiple of n": 7 * KEY.n,
    "n squared minus one": KEY.n_squared - 1,
    "minus unencrypted": KEY.n_squared - 1 - 41 * KEY.n,
    "n squared": KEY.n_squared,
    "beyond": KEY.n_squared * 3 + 17,
    "negative": -5,
    "multiple of p": 12_345 * KEYS.p,
    "multiple of q": KEYS.q,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("place", [0, 5, 9])
def test_each_bad_ciphertext_is_refused_wherever_it_hides_with_one_text(bad: int, place: int) -> None:
    ciphertexts = KEYS.encrypt_many(list(range(10)))
    check_ciphertexts(KEY, ciphertexts)
    ciphertexts[place] = bad
    assert refusal_text(ciphertexts) == refusal_text([0])


def test_two_non_units_that_multiply_to_a_multiple_of_n_are_refused() -> None:
    refusal_text([KEYS.p, KEYS.q])


def test_two_thousand_fuzzed_wire_forms_are_refused_or_are_units() -> None:
    keys, rng = real_keypair(), random.Random(1)
    good = encode_ciphertexts(keys.public, keys.encrypt_many([1]))
    accepted = 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            kind = rng.randrange(4)
            if kind == 0:
                data = data[: rng.randrange(len(data) + 1)]
            elif kind == 1:
                data += rng.randbytes(rng.randint(1, 40))
            elif kind == 2 and data:
                data[0] = 255
            elif data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            decoded = decode_ciphertexts(keys.public, bytes(data))
            check_ciphertexts(keys.public, decoded)
        except InvalidCiphertext:
            continue
        # Every unit modulo n² is an encryption of something; nothing else may pass.
        accepted += 1
        assert all(0 < c < keys.public.n_squared and c % keys.p and c % keys.q for c in decoded)
    assert accepted < 1000


def test_encryption_with_the_public_key_decrypts() -> None:
    entropy = fixed_entropy("public")
    values = [0, 1, -1, 10**30, -(10**30)]
    assert KEYS.decrypt_many([encrypt(KEY, v, entropy=entropy) for v in values]) == values


def test_encryption_follows_its_entropy() -> None:
    assert encrypt(KEY, 5, entropy=fixed_entropy("a")) == encrypt(KEY, 5, entropy=fixed_entropy("a"))
    assert encrypt(KEY, 5, entropy=fixed_entropy("a")) != encrypt(KEY, 5, entropy=fixed_entropy("b"))


def test_a_plaintext_outside_the_key_is_refused() -> None:
    for value in (int(KEY.n), -int(KEY.n) // 2 - 1):
        with pytest.raises(HeadroomExceeded):
            encrypt(KEY, value, entropy=fixed_entropy("a"))


def test_short_exponents_encrypt_correctly_and_differ() -> None:
    entropy = fixed_entropy("short")
    short = ShortExponent.prepare(KEY, entropy=entropy, window=4)
    ciphertexts = encrypt_with(KEY, [9] * 20 + [-9], obfuscators=lambda: short.draw(entropy=entropy))
    assert KEYS.decrypt_many(ciphertexts) == [9] * 20 + [-9]
    assert len(set(ciphertexts)) == 21


def test_a_filled_pool_hands_out_each_obfuscator_once() -> None:
    with ObfuscatorPool(KEY, capacity=16, entropy=fixed_entropy("pool")) as pool:
        assert pool.wait_until_full(timeout=30)
        assert len(pool) == 16
        taken = [pool.take() for _ in range(40)]
        assert len(set(taken)) == 40
        assert pool.wait_until_full(timeout=30)
        assert len(pool) == 16
    assert len(pool) == 0
    assert [KEYS.decrypt(c) for c in taken] == [0] * 40
    assert KEYS.decrypt(encrypt_with(KEY, [3], obfuscators=pool.take)[0]) == 3


def test_a_pool_tells_when_its_source_of_entropy_failed() -> None:
    def broken(size: int) -> bytes:
        raise OSError("no entropy")

    with (
        ObfuscatorPool(KEY, capacity=1, entropy=broken) as pool,
        pytest.raises(OSError, match="no entropy"),
    ):
        pool.wait_until_full(timeout=30)


def test_an_obfuscator_is_an_encryption_of_zero() -> None:
    assert KEYS.decrypt(obfuscator(KEY, entropy=fixed_entropy("zero"))) == 0


def test_phe_numbers_of_another_key_or_with_an_exponent_are_refused() -> None:
    keys = real_keypair()
    other, _ = phe.generate_paillier_keypair(n_length=2048)
    for number in (other.encrypt(1), keys.public_key.encrypt(0.5), keys.public_key.encrypt(1) * 0.25):
        with pytest.raises(InvalidCiphertext):
            from_phe_encrypted(keys.public, [number])


def test_phe_numbers_are_obfuscated_before_they_go_in() -> None:
    keys = real_keypair()
    bare = keys.public_key.encrypt(3) + 4
    (ciphertext,) = from_phe_encrypted(keys.public_key, [bare])
    assert keys.decrypt(ciphertext) == 7


def test_ciphertexts_come_out_as_phe_numbers_of_exponent_zero() -> None:
    keys = real_keypair()
    (number,) = to_phe_encrypted(keys.public, [keys.encrypt(-12)])
    assert isinstance(number, phe.EncryptedNumber)
    assert number.exponent == 0
    assert keys.private_key.decrypt(number * 2 + 1) == -23
