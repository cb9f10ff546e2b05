# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.support.paillier import fixed_entropy
from weir.paillier._gmp import mpz, powmod
from weir.paillier.entropy import uniform_below, uniform_unit
from weir.paillier.fixed_base import FixedBase


@pytest.mark.parametrize("window", [1, 3, 8])
@pytest.mark.parametrize("bits", [1, 8, 61])
def test_a_table_gives_the_plain_power_of_every_exponent_in_range(window: int, bits: int) -> None:
    table = FixedBase.prepare(mpz(7), modulus=mpz(2**89 - 1), bits=bits, window=window)
    for exponent in {0, 1, (1 << bits) - 1, 0x0123_4567_89AB_CDEF & ((1 << bits) - 1)}:
        assert table.power(exponent) == powmod(7, exponent, 2**89 - 1)


@pytest.mark.parametrize("exponent", [-1, 256])
def test_an_exponent_out_of_range_is_refused(exponent: int) -> None:
    with pytest.raises(ValueError, match="exponent"):
        FixedBase.prepare(7, modulus=1009, bits=8, window=4).power(exponent)


@pytest.mark.parametrize("window", [0, 9])
def test_a_window_out_of_range_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match="window"):
        FixedBase.prepare(7, modulus=1009, bits=8, window=window)


@pytest.mark.parametrize("bound", [1, 2, 3, 255, 256, 257])
def test_uniform_integers_reach_every_value_below_their_bound_and_none_beyond(bound: int) -> None:
    entropy = fixed_entropy(f"uniform/{bound}")
    drawn = {uniform_below(bound, entropy=entropy) for _ in range(40 * bound)}
    # Missing one of 257 values in 10,280 draws has probability below 10**-14; the stream is fixed besides.
    assert drawn == set(range(bound))


def test_values_at_or_above_the_bound_are_drawn_again_and_not_folded() -> None:
    stream = iter([b"\xff", b"\xc8", b"\x05"])
    assert uniform_below(200, entropy=lambda size: next(stream)) == 5


def test_no_integer_is_below_zero_or_one() -> None:
    with pytest.raises(ValueError, match="bound"):
        uniform_below(0, entropy=fixed_entropy("none"))


def test_units_share_no_factor_with_the_modulus() -> None:
    entropy = fixed_entropy("units")
    assert {uniform_unit(15, entropy=entropy) for _ in range(400)} == {1, 2, 4, 7, 8, 11, 13, 14}
