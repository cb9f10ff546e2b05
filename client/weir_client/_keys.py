# SPDX-License-Identifier: Apache-2.0
"""Private keys: making, keeping and using them. They never leave this process but into a file of their owner's.

Everything the owner of a key can do faster than others works modulo p² and q² and joins by the Chinese remainder
theorem. Source: Paillier, EUROCRYPT 1999, section 7 (decryption); the same split serves encryption.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from weir.errors import HeadroomExceeded, InvalidKey
from weir.paillier import DEFAULT_KEY_BITS, KEY_BITS, Entropy, PublicKey, check_ciphertexts, check_modulus, unmask
from weir.paillier._gmp import get_context, invert, is_prime, mpz, next_prime, powmod
from weir.paillier.encryption import trivial
from weir.paillier.entropy import uniform_below
from weir_client import _key_file, _key_proof
from weir_client._residues import ResidueTable

if TYPE_CHECKING:
    from weir.paillier._phe import EncryptedNumber, PaillierPrivateKey, PaillierPublicKey

Progress = Callable[[int, int], None]
"""Called as progress(done, total) now and then from the calling thread."""

_BATCH = 64
"""Values between two calls of a progress function, and per piece of work of a decryption thread."""
_WINDOWS = ((700, 8), (100, 6), (0, 4))
"""(encryptions so far and now, window): where the larger table begins to pay. At window 8 it takes 20 MB at 2048 bits
and 45 MB at 3072."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A Paillier key pair, compatible with python-paillier: `public_key` and `private_key` are its types.

    Equality is identity of the key. `repr` shows the public part only.
    """

    public: PublicKey
    """Weir's own public key."""
    p: int = field(repr=False)
    """The smaller prime."""
    q: int = field(repr=False)
    """The larger prime."""
    _owner: _Owner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        p, q = sorted((mpz(self.p), mpz(self.q)))
        if p * q != self.public.n or p == q or not (is_prime(p, 25) and is_prime(q, 25)):
            raise InvalidKey("p and q are not the two primes of the modulus", field="private_key", rule="key.factors")
        if (q - 1) % p == 0:
            raise InvalidKey("p divides q - 1", field="private_key", rule="key.factors")
        object.__setattr__(self, "p", p)
        object.__setattr__(self, "q", q)
        object.__setattr__(self, "_owner", _Owner.of(p, q))

    @classmethod
    def from_phe(cls, private_key: PaillierPrivateKey) -> KeyPair:
        """From python-paillier's private key. Raises: InvalidKey when its size is not accepted."""
        check_modulus(private_key.public_key.n)
        return cls(PublicKey.from_phe(private_key.public_key), private_key.p, private_key.q)

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> KeyPair:
        """Read a file that `save` wrote.

        Raises: InvalidKey when others may read the file, the passphrase is missing or wrong, or it is damaged.
        """
        p, q = _key_file.read(Path(path), passphrase)
        return cls(PublicKey(p * q), p, q)

    def save(self, path: str | Path, passphrase: str | None = None, *, entropy: Entropy = secrets.token_bytes) -> None:
        """Write a file only its owner may read (mode 0600), encrypted when a passphrase is given.

        Raises: FileExistsError rather than overwrite a key.
        """
        _key_file.write(Path(path), self.p, self.q, passphrase, entropy=entropy)

    @property
    def public_key(self) -> PaillierPublicKey:
        """python-paillier's public key."""
        return self.public.to_phe()

    @property
    def private_key(self) -> PaillierPrivateKey:
        """python-paillier's private key."""
        from weir.paillier._phe import PaillierPrivateKey

        return PaillierPrivateKey(self.public_key, int(self.p), int(self.q))

    def prove(self, context: bytes) -> bytes:
        """A proof that the public key is well formed, bound to `context` (a registration's requester identity).

        The same context gives the same bytes. Verified by `weir.paillier.verify_key_proof`.
        """
        return _key_proof.prove(self.public, self.p, self.q, context=context)

    def prepare(self, count: int, *, entropy: Entropy = secrets.token_bytes) -> None:
        """Build tables for `count` encryptions to come, when they will be asked for in pieces. Optional: each piece
        prepares for itself, but cannot know of the next."""
        self._owner.prepare(count, entropy=entropy)

    def encrypt_many(
        self,
        values: Sequence[int],
        progress: Progress | None = None,
        *,
        entropy: Entropy = secrets.token_bytes,
    ) -> list[int]:
        """Fresh ciphertexts of signed integers |value| < n/2, several times faster than with the public key alone.

        Raises: HeadroomExceeded when a value does not fit.
        """
        n = self.public.n
        if any(2 * abs(v) >= n for v in values):
            raise HeadroomExceeded("a value does not fit the key", field="values", rule="paillier.plaintext")
        owner, n_squared = self._owner, self.public.n_squared
        owner.prepare(len(values), entropy=entropy)
        owner.encrypted += len(values)
        ciphertexts: list[int] = []
        for at, value in enumerate(values):
            if progress is not None and at % _BATCH == 0:
                progress(at, len(values))
            ciphertexts.append(trivial(self.public, int(value)) * owner.residue(entropy=entropy) % n_squared)
        if progress is not None:
            progress(len(values), len(values))
        return ciphertexts

    def encrypt(self, value: int, *, entropy: Entropy = secrets.token_bytes) -> int:
        """One fresh ciphertext. Raises: HeadroomExceeded."""
        return self.encrypt_many([value], entropy=entropy)[0]

    def encrypt_phe(self, values: Sequence[int]) -> list[EncryptedNumber]:
        """`encrypt_many` as python-paillier's type."""
        from weir.paillier import to_phe_encrypted

        return to_phe_encrypted(self.public, self.encrypt_many(values))

    def decrypt_raw(self, ciphertext: int) -> int:
        """The plaintext in [0, n). `ciphertext` MUST have been checked; `decrypt_many` checks."""
        return self._owner.decrypt(ciphertext)

    def decrypt_many(
        self,
        ciphertexts: Sequence[int],
        progress: Progress | None = None,
        *,
        bits: int | None = None,
        threads: int | None = None,
    ) -> list[int]:
        """Signed plaintexts. With `bits`, those of masked replies: reduced to `bits` bits with sign.

        `threads`: how many work at once, by default one a core; gmpy2 releases the interpreter lock here.
        Raises: InvalidCiphertext.
        """
        check_ciphertexts(self.public, ciphertexts)
        pieces = [ciphertexts[at : at + _BATCH] for at in range(0, len(ciphertexts), _BATCH)]
        plaintexts: list[int] = []
        for piece in self._decrypt_pieces(pieces, threads if threads is not None else os.cpu_count() or 1):
            if progress is not None:
                progress(len(plaintexts), len(ciphertexts))
            plaintexts.extend(piece)
        if progress is not None:
            progress(len(ciphertexts), len(ciphertexts))
        if bits is not None:
            return [unmask(m, bits) for m in plaintexts]
        return [int(m if 2 * m < self.public.n else m - self.public.n) for m in plaintexts]

    def decrypt(self, ciphertext: int, *, bits: int | None = None) -> int:
        """One signed plaintext; see `decrypt_many`. Raises: InvalidCiphertext."""
        return self.decrypt_many([ciphertext], bits=bits)[0]

    def _decrypt_pieces(self, pieces: Sequence[Sequence[int]], threads: int) -> Iterator[list[int]]:
        if threads <= 1 or len(pieces) <= 1:
            yield from map(self._owner.decrypt_all, pieces)
            return
        with ThreadPoolExecutor(threads, initializer=_release_lock) as pool:
            yield from pool.map(self._owner.decrypt_all, pieces)


def generate_keypair(
    bits: int = DEFAULT_KEY_BITS,
    *,
    progress: Progress | None = None,
    entropy: Entropy = secrets.token_bytes,
) -> KeyPair:
    """A new key pair of 2048 or 3072 bits (seconds at most). `progress` is called after each of the two primes.

    Raises: InvalidKey for another size.
    """
    if bits not in KEY_BITS:
        raise InvalidKey(f"a key has {' or '.join(map(str, KEY_BITS))} bits", field="bits", rule="key.size")
    while True:
        primes = []
        for done in range(2):
            if progress is not None:
                progress(done, 2)
            primes.append(_draw_prime(bits // 2, entropy=entropy))
        n = primes[0] * primes[1]
        if primes[0] != primes[1] and n.bit_length() == bits:
            check_modulus(n)
            if progress is not None:
                progress(2, 2)
            return KeyPair(PublicKey(n), primes[0], primes[1])


def _draw_prime(bits: int, *, entropy: Entropy) -> int:
    # The two highest bits are set, so that the product of two such primes always has its full length.
    top = mpz(3) << (bits - 2)
    while True:
        prime = next_prime(top + uniform_below(1 << (bits - 2), entropy=entropy))
        if prime.bit_length() == bits:
            return prime


def _release_lock() -> None:
    get_context().allow_release_gil = True


class _Owner:
    """What the factors make fast, computed once. Owns the tables that grow with the number of encryptions."""

    __slots__ = ("_halves", "_p_squared_inverse", "_primes", "_tables", "encrypted")

    def __init__(self, halves: tuple[_Half, _Half]) -> None:
        p, q = halves
        self._halves = halves
        self._primes = (p.prime, q.prime, invert(p.prime, q.prime))
        self._p_squared_inverse = invert(p.square, q.square)
        self._tables: tuple[ResidueTable, ResidueTable] | None = None
        self.encrypted = 0

    @classmethod
    def of(cls, p: int, q: int) -> _Owner:
        return cls((_Half.of(p, q), _Half.of(q, p)))

    def prepare(self, count: int, *, entropy: Entropy) -> None:
        """Have tables fit for `count` more encryptions. Never a smaller one than there is."""
        window = next(w for least, w in _WINDOWS if self.encrypted + count >= least)
        if self._tables is None or self._tables[0].window < window:
            p, q = (ResidueTable.prepare(half.prime, window=window, entropy=entropy) for half in self._halves)
            self._tables = (p, q)

    def residue(self, *, entropy: Entropy) -> int:
        """A random n-th residue modulo n²."""
        if self._tables is None:
            raise RuntimeError("prepare() comes first")
        (p, q), (at_p, at_q) = self._halves, (table.draw(entropy=entropy) for table in self._tables)
        return at_p + p.square * ((at_q - at_p) * self._p_squared_inverse % q.square)

    def decrypt_all(self, ciphertexts: Sequence[int]) -> list[int]:
        return [self.decrypt(c) for c in ciphertexts]

    def decrypt(self, ciphertext: int) -> int:
        p, q, p_inverse = self._primes
        at_p, at_q = (half.decrypt(ciphertext) for half in self._halves)
        return at_p + p * ((at_q - at_p) * p_inverse % q)


@dataclass(frozen=True, slots=True)
class _Half:
    """Decryption modulo one prime."""

    prime: int
    square: int
    scale: int
    """1/(-other) mod prime: the discrete logarithm of c**(prime-1) to the base (1+n)**(prime-1) is L(·) times this."""

    @classmethod
    def of(cls, prime: int, other: int) -> _Half:
        return cls(prime, prime * prime, invert(-other % prime, prime))

    def decrypt(self, ciphertext: int) -> int:
        power = powmod(ciphertext % self.square, self.prime - 1, self.square)
        return (power - 1) // self.prime * self.scale % self.prime


def fingerprint(keypair: KeyPair) -> str:
    """A short form of the key id for people to compare: eight groups of four hex digits."""
    digest = hashlib.sha256(keypair.public.to_bytes()).hexdigest()[:32]
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4))
