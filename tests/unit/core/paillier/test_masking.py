# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.support.paillier import fixed_entropy, real_keypair, small_keypair
from weir.errors import HeadroomExceeded, InvalidRequest
from weir.paillier import (
    MAX_REPLY_BITS,
    PublicKey,
    check_headroom,
    mask_replies,
    mask_reply,
    numbers_in_reply,
    reply_bits,
    unmask,
)
from weir.paillier.masking import mask_range


@pytest.mark.parametrize(
    ("weight_bits", "bounds", "count", "largest"),
    [
        (0, (0, 1), 1, 1),
        (3, (-5, 2), 10, 8 * 5 * 10),
        (62, (0, 2**40), 1000, 2**62 * 2**40 * 1000),
        (40, (-(2**31), 2**31 - 1), 7, 2**40 * 2**31 * 7),
    ],
)
def test_reply_bits_hold_the_largest_result_and_not_twice_it(
    weight_bits: int, bounds: tuple[int, int], count: int, largest: int
) -> None:
    bits = reply_bits(weight_bits, bounds, count)
    assert largest < 1 << (bits - 1) <= 2 * largest
    for value in (largest, -largest):
        assert unmask(value % (1 << bits), bits) == value


@pytest.mark.parametrize(("weight_bits", "bounds", "count"), [(-1, (0, 1), 1), (1, (2, 1), 1), (1, (0, 1), -1)])
def test_impossible_bounds_are_refused(weight_bits: int, bounds: tuple[int, int], count: int) -> None:
    with pytest.raises(InvalidRequest):
        reply_bits(weight_bits, bounds, count)


@pytest.mark.parametrize(
    ("bits", "bounds", "numbers"),
    [(66, (0, 2**60 - 1), 1), (128, (0, 2**60 - 1), 2), (90, (-(2**29), 5), 3), (9, (0, 0), 9)],
)
def test_a_reply_counts_as_the_cells_it_could_hold(bits: int, bounds: tuple[int, int], numbers: int) -> None:
    assert numbers_in_reply(bits, bounds) == numbers


@pytest.mark.parametrize("bits", [0, 1, MAX_REPLY_BITS + 1, 2046, 5000])
def test_a_reply_without_headroom_is_refused(bits: int) -> None:
    keys = real_keypair()
    with pytest.raises(HeadroomExceeded) as refusal:
        check_headroom(keys.public, bits)
    assert refusal.value.metadata == {"bits": str(bits), "limit": str(MAX_REPLY_BITS)}
    with pytest.raises(HeadroomExceeded):
        mask_reply(keys.public, keys.encrypt(1), bits=bits, entropy=fixed_entropy("m"))


@pytest.mark.parametrize("bits", [2, 3, 64, 130, MAX_REPLY_BITS])
def test_honest_results_survive_the_mask_at_both_ends(bits: int) -> None:
    keys = small_keypair()
    edge = (1 << (bits - 1)) - 1
    entropy = fixed_entropy(f"mask/{bits}")
    for value in (0, 1, -1, edge, -edge, -edge - 1):
        masked = mask_reply(keys.public, keys.encrypt(value), bits=bits, entropy=entropy)
        assert keys.decrypt(masked, bits=bits) == value


@pytest.mark.parametrize("bits", [2, 64, MAX_REPLY_BITS])
def test_no_mask_in_range_carries_an_honest_result_past_the_modulus(bits: int) -> None:
    n = small_keypair().public.n
    largest, top = mask_range(small_keypair().public, bits), (1 << (bits - 1)) - 1
    assert (1 << bits) - top - 1 > 0
    assert (largest << bits) + top < n <= ((largest + 1) << bits) + top


def test_the_smallest_mask_is_one_so_that_a_negative_result_stays_below_the_modulus() -> None:
    keys, later = small_keypair(), fixed_entropy("later")
    first = iter([True])

    def lowest_first(size: int) -> bytes:
        return bytes(size) if next(first, False) else later(size)

    masked = mask_reply(keys.public, keys.encrypt(-9), bits=16, entropy=lowest_first)
    assert keys.decrypt_raw(masked) == (1 << 16) - 9
    assert keys.decrypt(masked, bits=16) == -9


def test_the_mask_leaves_at_least_the_promised_room() -> None:
    for bits in (2048, 3072):
        assert mask_range(real_keypair(bits).public, MAX_REPLY_BITS).bit_length() >= 128


def test_a_key_without_room_for_a_mask_is_refused() -> None:
    with pytest.raises(HeadroomExceeded):
        check_headroom(PublicKey.unchecked(small_keypair().public.n), 512 - 128)


def test_replies_are_masked_each_by_its_own_bits() -> None:
    keys = small_keypair()
    masked = mask_replies(keys.public, keys.encrypt_many([5, -6]), bits=[10, 100], entropy=fixed_entropy("each"))
    assert [keys.decrypt(c, bits=b) for c, b in zip(masked, [10, 100], strict=True)] == [5, -6]
    assert abs(keys.decrypt(masked[0])) > 1 << 100
