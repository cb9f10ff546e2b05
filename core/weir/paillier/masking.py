# SPDX-License-Identifier: Apache-2.0
"""Headroom of encrypted sums, and the product that finishes every reply.

A reply is Enc(T), T = Σ wᵢ·cᵢ mod n with weights the server cannot see. Sent as it is, weights 2**(64·i) would
read thirty cells at once, and the randomness of the reply (a product of powers of the requester's own) more of
them. So each reply is multiplied by Enc(2**B·ρ): B is the public bound of an honest result in bits, ρ is uniform in
[1, R] with R the largest that cannot carry an honest result past n, and the encryption draws fresh full-length
randomness. The owner reduces modulo 2**B.

* Honest T, read as |T| < 2**(B-1): T + 2**B·ρ lies in (0, n), so the result is exact.
* Hostile T = h·2**B + l: the plaintext is a uniform multiple of 2**B added to T, modulo n. It shows l, or
  (l - n) mod 2**B when the addition passed n; which of the two happened has probability about T/n, so that a reply
  carries B bits and at most one comparison of T with a random threshold. Callers charge it as one number, or by
  `numbers_in_reply` where declared weights are longer than a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

from weir.errors import HeadroomExceeded, InvalidRequest
from weir.paillier.encryption import encrypt
from weir.paillier.entropy import Entropy, uniform_below
from weir.paillier.keys import PublicKey

MAX_REPLY_BITS = 192
"""Most bits one reply may declare. A reply is charged as one number, so it must not hold many."""
HIDING_BITS = 128
"""ρ has at least this many bits; what lies above the declared bits is then hidden but for the wrap (see above)."""


def reply_bits(max_abs_weight_bits: int, column_bounds: tuple[int, int], count: int) -> int:
    """Bits, sign included, that hold every Σ wᵢ·cellᵢ with |wᵢ| ≤ 2**max_abs_weight_bits and cells within the bounds.

    `column_bounds`: smallest and largest value a cell of the column may have (public, never the data's own extremes).
    `count`: number of cells. All are public, so the result is too.

    Raises: InvalidRequest when an argument is negative or the bounds are reversed.
    """
    low, high = column_bounds
    if max_abs_weight_bits < 0 or count < 0 or low > high:
        raise InvalidRequest(
            "weight bits and count must not be negative, and bounds must be in order", rule="paillier.bounds"
        )
    largest = (count << max_abs_weight_bits) * max(abs(low), abs(high))
    return largest.bit_length() + 1


def numbers_in_reply(bits: int, column_bounds: tuple[int, int]) -> int:
    """How many whole cells of a column the `bits` bits of one reply can hold at most, when weights pack them side by
    side: 1 for weights of few bits, more for weights longer than a cell. For callers that charge by cell.
    """
    low, high = column_bounds
    return max(1, bits // max(1, max(abs(low), abs(high)).bit_length()))


def check_headroom(key: PublicKey, bits: int) -> None:
    """Refuse a reply of `bits` bits that a mask could carry past n, or that is too wide to count as one number.

    Raises: HeadroomExceeded.
    """
    limit = min(MAX_REPLY_BITS, key.bits - HIDING_BITS - 2)
    if not 1 < bits <= limit:
        raise HeadroomExceeded(
            f"the result may need {bits} bits; at most {limit} fit one reply",
            field="weights",
            rule="paillier.headroom",
            metadata={"bits": str(bits), "limit": str(limit)},
        )


def mask_reply(key: PublicKey, ciphertext: int, *, bits: int, entropy: Entropy) -> int:
    """`ciphertext` times Enc(2**bits·ρ): fresh full-length randomness, and all but the low `bits` bits hidden.

    Against the key's owner the hiding is statistical and needs no assumption: r**n with r uniform is a uniform n-th
    residue when gcd(n, φ(n)) = 1, which the key proof shows.

    Raises: HeadroomExceeded.
    """
    check_headroom(key, bits)
    rho = 1 + uniform_below(mask_range(key, bits), entropy=entropy)
    return ciphertext * encrypt(key, rho << bits, entropy=entropy) % key.n_squared


def mask_replies(key: PublicKey, ciphertexts: Sequence[int], *, bits: Sequence[int], entropy: Entropy) -> list[int]:
    """`mask_reply` for a row of replies, each with its own bits. Raises: HeadroomExceeded."""
    return [mask_reply(key, c, bits=b, entropy=entropy) for c, b in zip(ciphertexts, bits, strict=True)]


def mask_range(key: PublicKey, bits: int) -> int:
    """R, the largest ρ such that v + 2**bits·ρ < n for every v < 2**(bits-1)."""
    return int((key.n - 1 - (1 << (bits - 1))) >> bits)


def unmask(plaintext: int, bits: int) -> int:
    """The signed result in [-2**(bits-1), 2**(bits-1)) of a masked reply's plaintext. `bits` as the reply declared."""
    low = int(plaintext) & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low
