# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.support.paillier import fixed_entropy, real_keypair, small_keypair
from weir.errors import HeadroomExceeded, InvalidCiphertext, InvalidRequest
from weir.paillier import Packing, encrypt, pack, sum_tables, unpack


@pytest.mark.parametrize(("bits", "slots"), [(2048, 30), (3072, 45)])
def test_a_plaintext_holds_as_many_values_as_fit(bits: int, slots: int) -> None:
    layout = Packing.for_key(real_keypair(bits).public, value_bits=63, parties=15)
    assert layout.slot_bits == 68
    assert layout.slots == slots
    assert [layout.ciphertexts_for(n) for n in (0, 1, slots, slots + 1)] == [0, 1, 1, 2]


def test_signed_values_at_the_edges_come_back() -> None:
    layout = Packing.for_key(small_keypair().public, value_bits=20, parties=3)
    edge = (1 << 20) - 1
    values = [edge, -edge, 0, -1, 1, edge] * 20
    assert unpack(layout, pack(layout, values), len(values)) == values


def test_the_sum_of_every_partys_extreme_does_not_reach_the_next_slot() -> None:
    keys = small_keypair()
    layout = Packing.for_key(keys.public, value_bits=12, parties=5)
    edge = (1 << 12) - 1
    values = [edge, -edge, edge, edge, -edge, 0, -edge] * 10
    entropy = fixed_entropy("tables")
    tables = [[encrypt(keys.public, m, entropy=entropy) for m in pack(layout, values)] for _ in range(5)]
    total = keys.decrypt_many(sum_tables(keys.public, tables))
    assert unpack(layout, total, len(values)) == [5 * v for v in values]


def test_tables_of_different_values_add_position_by_position() -> None:
    keys = small_keypair()
    tables = [keys.encrypt_many(row) for row in ([1, 2, 3], [10, -20, 30], [0, 0, -400])]
    assert keys.decrypt_many(sum_tables(keys.public, tables)) == [11, -18, -367]
    assert sum_tables(keys.public, [tables[0]]) == tables[0]


def test_tables_that_do_not_fit_together_are_refused() -> None:
    key = small_keypair().public
    for tables in ([], [[3, 4], [5]]):
        with pytest.raises(InvalidRequest):
            sum_tables(key, tables)
    with pytest.raises(InvalidCiphertext):
        sum_tables(key, [[3], [key.n_squared]])


def test_a_value_over_its_declared_bits_is_refused() -> None:
    layout = Packing.for_key(small_keypair().public, value_bits=8, parties=1)
    for value in (256, -256):
        with pytest.raises(HeadroomExceeded):
            pack(layout, [1, value])


def test_impossible_layouts_are_refused() -> None:
    key = small_keypair().public
    for value_bits, parties in ((0, 1), (1, 0)):
        with pytest.raises(InvalidRequest):
            Packing.for_key(key, value_bits=value_bits, parties=parties)
    with pytest.raises(HeadroomExceeded):
        Packing.for_key(key, value_bits=600, parties=1)


def test_unpacking_needs_the_right_number_of_plaintexts() -> None:
    layout = Packing.for_key(small_keypair().public, value_bits=8, parties=1)
    with pytest.raises(InvalidRequest):
        unpack(layout, [1, 2], 3)
