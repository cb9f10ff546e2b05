# SPDX-License-Identifier: Apache-2.0
import json
import os
import stat
from pathlib import Path

import phe
import pytest

from tests.support.paillier import fixed_entropy, key_with_common_factor, prime, real_keypair, small_keypair
from weir.errors import HeadroomExceeded, InvalidCiphertext, InvalidKey
from weir.paillier import PublicKey, check_modulus, from_phe_encrypted, to_phe_encrypted, verify_key_proof
from weir.paillier._gmp import jacobi, powmod
from weir_client._keys import KeyPair, generate_keypair
from weir_client._residues import ResidueTable

EXTREMES = [0, 1, -1, 2**62, -(2**62), 2**200, -(2**200)]


@pytest.mark.parametrize("bits", [2048, 3072])
def test_a_generated_pair_has_its_size_and_works_with_phe_on_the_other_side(bits: int) -> None:
    keys = real_keypair(bits)
    check_modulus(keys.public.n)
    assert keys.public.bits == bits
    private = keys.private_key
    encrypted = to_phe_encrypted(keys.public, keys.encrypt_many(EXTREMES))
    assert [private.decrypt(number) for number in encrypted] == EXTREMES
    theirs = [keys.public_key.encrypt(value) for value in EXTREMES]
    assert keys.decrypt_many(from_phe_encrypted(keys.public, theirs)) == EXTREMES


def test_a_phe_private_key_becomes_the_same_pair() -> None:
    public, private = phe.generate_paillier_keypair(n_length=2048)
    keys = KeyPair.from_phe(private)
    assert keys.public == PublicKey.from_phe(public)
    assert private.decrypt(keys.encrypt_phe([-5])[0]) == -5
    assert keys.private_key == private


def test_a_phe_key_of_another_size_is_refused() -> None:
    _, private = phe.generate_paillier_keypair(n_length=1024)
    with pytest.raises(InvalidKey) as refusal:
        KeyPair.from_phe(private)
    assert refusal.value.rule == "key.size"


@pytest.mark.parametrize("bits", [512, 1024, 4096, 65_536])
def test_another_size_is_refused_before_any_prime_is_drawn(bits: int) -> None:
    def no_entropy(size: int) -> bytes:
        raise AssertionError("drew entropy")

    with pytest.raises(InvalidKey):
        generate_keypair(bits, entropy=no_entropy)


def test_generation_follows_its_entropy_and_reports_progress() -> None:
    seen: list[tuple[int, int]] = []
    first = generate_keypair(2048, progress=lambda done, total: seen.append((done, total)), entropy=fixed_entropy("g"))
    assert first == generate_keypair(2048, entropy=fixed_entropy("g"))
    assert first != generate_keypair(2048, entropy=fixed_entropy("h"))
    assert seen[0] == (0, 2)
    assert seen[-1] == (2, 2)


def test_factors_must_be_the_two_primes_of_the_modulus() -> None:
    keys = small_keypair()
    p, q = prime(256, "other/p"), prime(256, "other/q")
    for public, a, b in [
        (keys.public, p, q),
        (PublicKey.unchecked(p * p), p, p),
        (PublicKey.unchecked(p * q), p * q, 1),
        (PublicKey.unchecked(p * q * keys.p), p * q, keys.p),
    ]:
        with pytest.raises(InvalidKey):
            KeyPair(public, a, b)


def test_a_pair_whose_encryption_would_not_be_unique_is_refused() -> None:
    p, q = key_with_common_factor()
    with pytest.raises(InvalidKey):
        KeyPair(PublicKey.unchecked(p * q), p, q)


def test_the_private_part_is_not_in_the_text_of_a_pair() -> None:
    keys = small_keypair()
    assert str(keys.p) not in repr(keys)
    assert str(keys.q) not in str(keys)


@pytest.mark.parametrize("count", [1, 99, 100, 130, 800])
def test_many_values_round_trip_with_every_table(count: int) -> None:
    keys = small_keypair(seed=f"table/{count}")
    values = [(-1) ** at * at * 12_345 for at in range(count)]
    seen: list[tuple[int, int]] = []
    ciphertexts = keys.encrypt_many(values, progress=lambda done, total: seen.append((done, total)))
    assert keys.decrypt_many(ciphertexts) == values
    assert seen[-1] == (count, count)
    assert len(set(ciphertexts)) == count


def test_tables_are_prepared_once_for_pieces_to_come() -> None:
    keys, drawn = small_keypair(seed="pieces"), 0
    source = fixed_entropy("pieces")

    def counted(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return source(size)

    keys.prepare(2000, entropy=counted)
    before = drawn
    keys.prepare(3, entropy=counted)
    keys.prepare(1000, entropy=counted)
    assert 0 < before == drawn
    assert keys.decrypt_many(keys.encrypt_many([8, -8])) == [8, -8]


def test_equal_values_give_unequal_ciphertexts() -> None:
    keys = small_keypair()
    assert len(set(keys.encrypt_many([7] * 100))) == 100


def test_threads_decrypt_the_same() -> None:
    keys = small_keypair()
    values = list(range(-150, 150))
    assert keys.decrypt_many(keys.encrypt_many(values), threads=3) == values


def test_a_value_beyond_half_the_modulus_is_refused() -> None:
    keys = small_keypair()
    for value in (keys.public.n // 2 + 1, -(keys.public.n // 2 + 1)):
        with pytest.raises(HeadroomExceeded):
            keys.encrypt(int(value))
    assert keys.decrypt(keys.encrypt(int(keys.public.n // 2))) == keys.public.n // 2


def test_a_malformed_ciphertext_is_not_decrypted() -> None:
    keys = small_keypair()
    for bad in (0, 1, keys.public.n, keys.public.n_squared - 1, keys.public.n_squared, keys.p):
        with pytest.raises(InvalidCiphertext):
            keys.decrypt(bad)


def test_the_owners_randomness_covers_residues_and_non_residues() -> None:
    keys = small_keypair()
    symbols = {(jacobi(c, keys.p), jacobi(c, keys.q)) for c in keys.encrypt_many([0] * 200)}
    assert symbols == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


@pytest.mark.parametrize("window", [4, 6, 8])
def test_the_table_gives_nth_residues_equal_to_plain_powers(window: int) -> None:
    keys = small_keypair()
    table = ResidueTable.prepare(keys.p, window=window, entropy=fixed_entropy("table"))
    square = keys.p * keys.p
    base = table.power(1)
    for exponent in (0, 1, 2, 15, 16, 255, 10**40, int(keys.p) - 1):
        assert table.power(exponent) == powmod(base, exponent, square)
    assert powmod(base, keys.p - 1, square) == 1


@pytest.mark.parametrize("passphrase", [None, "", "correct horse 水"], ids=["none", "empty", "some"])
def test_a_saved_key_is_private_and_comes_back(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "key.json"
    real_keypair().save(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyPair.load(path, passphrase) == real_keypair()
    assert (hex(real_keypair().p) in path.read_text()) == (passphrase is None)


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        real_keypair().save(path)
    assert path.read_text() == "precious"


def refusal_rule(path: Path, passphrase: str | None) -> str | None:
    with pytest.raises(InvalidKey) as refusal:
        KeyPair.load(path, passphrase)
    return refusal.value.rule


def test_a_wrong_or_missing_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    real_keypair().save(path, "right")
    assert refusal_rule(path, "wrong") == "key.passphrase"
    assert refusal_rule(path, None) == "key.passphrase"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    real_keypair().save(path)
    path.chmod(mode)
    assert refusal_rule(path, None) == "key.file_mode"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "not json",
        '{"format": "weir-paillier-key/v9"}',
        '{"format": "weir-paillier-key/v1", "key": "{}"}',
    ],
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    path.chmod(0o600)
    assert refusal_rule(path, "any") == "key.file_format"


def test_a_changed_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    real_keypair().save(path, "right")
    document = json.loads(path.read_text())
    document["nonce"] = document["salt"][:16]
    path.write_text(json.dumps(document))
    assert refusal_rule(path, "right") == "key.passphrase"


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        real_keypair().save(tmp_path / "key.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600


def test_a_proof_is_the_same_each_time_and_bound_to_its_context() -> None:
    keys = real_keypair()
    proof = keys.prove(b"alice")
    assert proof == keys.prove(b"alice")
    verify_key_proof(keys.public, proof, context=b"alice")
    with pytest.raises(InvalidKey):
        verify_key_proof(keys.public, proof, context=b"alicf")
