# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from weir.agreements import (
    SIGNED,
    SignedTerms,
    format_signing_key,
    is_signed,
    parse_signing_key,
    public_key_of,
    sign_terms,
    signed_data,
    verify_signed_event,
)
from weir.canonical import digest
from weir.errors import InvalidKey, InvalidReceipt

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))
KEY = public_key_of(SEED)
TERMS = b'{"contract":"c-1"}'
P = 2**255 - 19


def signed(**changes: Any) -> SignedTerms:
    values: dict[str, Any] = {
        "digest": digest(TERMS),
        "role": "requester",
        "party": "alice",
        "public_key": KEY,
        "signature": sign_terms(TERMS, seed=SEED),
    }
    return SignedTerms(**(values | changes))


def event(data: object = None, kind: str = SIGNED) -> dict[str, Any]:
    return {"type": kind, "data": signed_data(signed()) if data is None else data}


def test_a_signature_fits_its_terms_and_key_and_no_others() -> None:
    signature = sign_terms(TERMS, seed=SEED)
    assert len(signature) == 64
    assert is_signed(TERMS, public_key=KEY, signature=signature)
    assert not is_signed(TERMS + b" ", public_key=KEY, signature=signature)
    assert not is_signed(TERMS, public_key=public_key_of(OTHER), signature=signature)
    assert not is_signed(TERMS, public_key=KEY, signature=signature[:-1])
    assert not is_signed(TERMS, public_key=KEY[:-1], signature=signature)


def test_a_signature_of_the_bare_terms_is_none() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    bare = Ed25519PrivateKey.from_private_bytes(SEED).sign(TERMS)
    assert not is_signed(TERMS, public_key=KEY, signature=bare)


def test_the_entry_of_a_signature_proves_who_signed_which_terms() -> None:
    assert verify_signed_event(event(), TERMS) == signed()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (event(kind="weir.contract.activated"), "contract.entry"),
        (event(data="x"), "contract.entry"),
        (event(data={}), "contract.entry"),
        (event(data=signed_data(signed(role="operator"))), "contract.entry"),
        (event(data=signed_data(signed(digest="AA" * 32))), "contract.entry"),
        (event(data={**signed_data(signed()), "party": 7}), "contract.entry"),
        (event(data={**signed_data(signed()), "public_key": "ed25519:AAAA"}), "contract.entry"),
        (event(data={**signed_data(signed()), "public_key": 7}), "contract.entry"),
        (event(data={**signed_data(signed()), "signature": "*"}), "contract.entry"),
        (event(data=signed_data(signed(digest=digest(b"other")))), "contract.terms"),
        (event(data=signed_data(signed(public_key=public_key_of(OTHER)))), "contract.signature"),
        (event(data=signed_data(signed(signature=bytes(64)))), "contract.signature"),
    ],
    ids=[
        "kind", "no data", "empty", "role", "digest", "party", "key", "key type", "base64", "terms", "another", "zero",
    ],
)  # fmt: skip
def test_an_entry_that_does_not_fit_proves_nothing(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidReceipt) as caught:
        verify_signed_event(changed, TERMS)
    assert caught.value.rule == rule


def test_a_key_reads_back_as_it_was_written() -> None:
    assert parse_signing_key(format_signing_key(KEY)) == KEY


@pytest.mark.parametrize(
    "text", ["", "ed25519:", "rsa:AAAA", "ed25519:AAAA", f"{format_signing_key(KEY)}=", "ed25519:é"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_signing_key(text)


def small_order_keys() -> list[bytes]:
    """Every encoding of every point of order 1, 2, 4 and 8, worked out from the curve's equation."""
    d = -121665 * pow(121666, -1, P) % P
    point = next(p for p in points_on(d) if order_divides_8(times_large_prime(p, d), d) == 8)
    torsion = [multiple(times_large_prime(point, d), n, d) for n in range(8)]
    return [
        (y | sign << 255).to_bytes(32, "little")
        for _, base in torsion
        for y in ((base, base + P) if base + P < 2**255 else (base,))
        for sign in (0, 1)
    ]


Point = tuple[int, int]


def points_on(d: int) -> list[Point]:
    found = []
    for y in range(2, 60):
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        for root in (x, x * pow(2, (P - 1) // 4, P) % P):
            if root * root % P == square:
                found.append((root, y))
    return found


def add(one: Point, other: Point, d: int) -> Point:
    (x1, y1), (x2, y2) = one, other
    k = d * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def multiple(point: Point, count: int, d: int) -> Point:
    total = (0, 1)
    for bit in bin(count)[2:]:
        total = add(total, total, d)
        total = add(total, point, d) if bit == "1" else total
    return total


def times_large_prime(point: Point, d: int) -> Point:
    return multiple(point, 2**252 + 27742317777372353535851937790883648493, d)


def order_divides_8(point: Point, d: int) -> int:
    return next(n for n in (1, 2, 4, 8) if multiple(point, n, d) == (0, 1))


def test_keys_under_which_one_signature_fits_many_texts_are_refused() -> None:
    keys = small_order_keys()
    assert len(set(keys)) >= 12
    for key in keys:
        with pytest.raises(InvalidKey):
            parse_signing_key(format_signing_key(key))
    # What the refusal prevents: under the neutral point, no private key is needed, and every text is signed.
    neutral, universal = (1).to_bytes(32, "little"), (1).to_bytes(32, "little") + bytes(32)
    assert not is_signed(TERMS, public_key=neutral, signature=universal)
