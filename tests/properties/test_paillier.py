# SPDX-License-Identifier: Apache-2.0
from functools import cache

import phe
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paillier import fixed_entropy, small_keypair
from weir.paillier import (
    Packing,
    add_all,
    decode_ciphertexts,
    dot,
    encode_ciphertexts,
    encrypt,
    mask_reply,
    matrix_dot,
    pack,
    reply_bits,
    scale,
    unmask,
    unpack,
)
from weir.paillier.masking import mask_range

KEYS = small_keypair()
KEY = KEYS.public
values = st.integers(-(2**80), 2**80)
scalars = st.one_of(st.integers(-(2**62), 2**62), st.sampled_from([0, 1, -1, 2**62, -(2**62), 2**61]))


@cache
def phe_pair() -> tuple[phe.PaillierPublicKey, phe.PaillierPrivateKey]:
    return KEYS.public_key, KEYS.private_key


def phe_decrypt(ciphertext: int) -> object:
    public, private = phe_pair()
    return private.decrypt(phe.EncryptedNumber(public, int(ciphertext), 0))


@given(st.lists(st.tuples(values, scalars), min_size=1, max_size=24))
def test_a_dot_product_is_what_phe_computes(pairs: list[tuple[int, int]]) -> None:
    public, private = phe_pair()
    numbers = [public.encrypt(m) for m, _ in pairs]
    theirs = sum(number * s for number, (_, s) in zip(numbers, pairs, strict=True))
    ours = dot(KEY, [number.ciphertext() for number in numbers], [s for _, s in pairs])
    assert phe_decrypt(ours) == private.decrypt(theirs) == sum(m * s for m, s in pairs)


@given(values, values, scalars)
def test_sums_and_multiples_obey_the_homomorphic_laws_under_phe(a: int, b: int, s: int) -> None:
    entropy = fixed_entropy(f"{a}/{b}")
    x, y = encrypt(KEY, a, entropy=entropy), encrypt(KEY, b, entropy=entropy)
    assert phe_decrypt(add_all(KEY, [x, y])) == a + b
    assert phe_decrypt(scale(KEY, x, s)) == a * s
    assert phe_decrypt(scale(KEY, add_all(KEY, [x, y]), s)) == phe_decrypt(
        add_all(KEY, [scale(KEY, x, s), scale(KEY, y, s)])
    )


@given(st.lists(values, max_size=70), st.lists(values, max_size=70))
def test_a_dot_product_is_linear_in_its_parts(first: list[int], second: list[int]) -> None:
    cells = list(range(-3, len(first) + len(second) - 3))
    ciphertexts = KEYS.encrypt_many(first + second)
    cut = len(first)
    whole = dot(KEY, ciphertexts, cells)
    parts = [dot(KEY, ciphertexts[:cut], cells[:cut]), dot(KEY, ciphertexts[cut:], cells[cut:])]
    assert add_all(KEY, parts) == whole


@given(st.data(), st.integers(1, 12), st.integers(1, 5))
def test_columns_together_are_the_columns_one_by_one(data: st.DataObject, count: int, columns: int) -> None:
    table = [data.draw(st.lists(scalars, min_size=count, max_size=count)) for _ in range(columns)]
    ciphertexts = KEYS.encrypt_many(range(1, count + 1))
    assert matrix_dot(KEY, ciphertexts, table) == [dot(KEY, ciphertexts, column) for column in table]


@given(st.lists(st.integers(0, int(KEY.n_squared) - 1), max_size=5))
def test_the_wire_form_loses_nothing(ciphertexts: list[int]) -> None:
    assert decode_ciphertexts(KEY, encode_ciphertexts(KEY, ciphertexts)) == ciphertexts


@given(
    st.integers(0, 40),
    st.integers(-(2**40), 0),
    st.integers(0, 2**40),
    st.lists(st.tuples(st.integers(-1, 1), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_an_honest_masked_reply_is_exact(
    weight_bits: int, low: int, high: int, choices: list[tuple[int, bool]]
) -> None:
    weights = [sign << weight_bits for sign, _ in choices]
    cells = [high if top else low for _, top in choices]
    bits = reply_bits(weight_bits, (low, high), len(choices))
    if bits == 1:
        return
    reply = dot(KEY, KEYS.encrypt_many(weights), cells)
    masked = mask_reply(KEY, reply, bits=bits, entropy=fixed_entropy(f"{weights}/{cells}"))
    assert KEYS.decrypt(masked, bits=bits) == sum(w * c for w, c in zip(weights, cells, strict=True))


@given(st.integers(0, int(KEY.n) - 1), st.integers(2, 192), st.data())
def test_a_hostile_masked_plaintext_tells_low_bits_and_one_comparison(
    plaintext: int, bits: int, data: st.DataObject
) -> None:
    """Whatever the plaintext and the mask, the low bits are those of T or of T - n, by whether the sum passed n."""
    n = int(KEY.n)
    rho = data.draw(st.integers(1, mask_range(KEY, bits)))
    shown = (plaintext + (rho << bits)) % n
    wrapped = plaintext + (rho << bits) >= n
    assert (shown - plaintext + (n if wrapped else 0)) % (1 << bits) == 0
    assert plaintext + (rho << bits) < 2 * n


@given(st.integers(-(2**99), 2**99 - 1), st.integers(0, 2**100))
def test_unmasking_forgets_the_mask(value: int, rho: int) -> None:
    assert unmask(value + (rho << 100), 100) == value


@given(st.integers(1, 70), st.integers(1, 9), st.data())
def test_packed_tables_add_slot_by_slot(value_bits: int, parties: int, data: st.DataObject) -> None:
    layout = Packing.for_key(KEY, value_bits=value_bits, parties=parties)
    edge = (1 << value_bits) - 1
    count = data.draw(st.integers(0, 2 * layout.slots + 1))
    tables = [data.draw(st.lists(st.integers(-edge, edge), min_size=count, max_size=count)) for _ in range(parties)]
    packed = [pack(layout, table) for table in tables]
    totals = [sum(column) for column in zip(*packed, strict=True)]
    assert unpack(layout, totals, count) == [sum(column) for column in zip(*tables, strict=True)]
    assert all(2 * abs(total) < KEY.n for total in totals)
