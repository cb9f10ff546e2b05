# SPDX-License-Identifier: Apache-2.0
"""Keys with which a party signs contracts. The private key never leaves its owner's file and process.

It is another key than that of the certificate: a certificate says who calls for some days, a signature who agreed for
as long as anybody keeps the contract.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path

from weir.agreements import format_signing_key, public_key_of, sign_terms
from weir.errors import InvalidKey
from weir.paillier.entropy import Entropy
from weir_client import _key_file

_FORMAT = "weir-signing-key/v1"
_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair for contracts. `repr` shows the public part only."""

    public: bytes = field(init=False)
    """Public key, 32 bytes."""
    seed: bytes = field(repr=False)
    """Private key, 32 bytes."""

    def __post_init__(self) -> None:
        if len(self.seed) != _SEED_BYTES:
            raise InvalidKey("a private signing key has 32 bytes", field="seed", rule="key.form")
        object.__setattr__(self, "public", public_key_of(self.seed))

    @classmethod
    def generate(cls, *, entropy: Entropy = secrets.token_bytes) -> SigningKey:
        """A new key."""
        return cls(entropy(_SEED_BYTES))

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> SigningKey:
        """Read a file that `save` wrote.

        Raises:
            InvalidKey: others may read the file, the passphrase is missing or wrong, or it is damaged.
        """
        secret = _key_file.read_secret(Path(path), passphrase, format=_FORMAT)
        try:
            return cls(b64decode(secret["seed"], validate=True))
        except (KeyError, TypeError, ValueError):
            raise InvalidKey("the private key file is damaged", field="path", rule="key.file_format") from None

    def save(self, path: str | Path, passphrase: str | None = None, *, entropy: Entropy = secrets.token_bytes) -> None:
        """Write a file only its owner may read (mode 0600), encrypted when a passphrase is given.

        Raises:
            FileExistsError: a key is never overwritten.
        """
        secret = {"seed": b64encode(self.seed).decode()}
        _key_file.write_secret(Path(path), secret, passphrase, format=_FORMAT, entropy=entropy)

    @property
    def line(self) -> str:
        """The public key as an operator writes it into the party document: `ed25519:…`."""
        return format_signing_key(self.public)

    def sign(self, canonical: bytes) -> bytes:
        """Signature on the terms whose canonical form this is, 64 bytes."""
        return sign_terms(canonical, seed=self.seed)
