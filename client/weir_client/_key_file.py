# SPDX-License-Identifier: Apache-2.0
"""The file a private key is kept in: JSON, readable by its owner only, encrypted when there is a passphrase.

With a passphrase: AES-256-GCM under a key from scrypt (RFC 7914; N = 2**16, r = 8, p = 1: 64 MiB and a fraction of
a second), with format and parameters as associated data, so that nobody can weaken them in the file unnoticed.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from weir.errors import InvalidKey
from weir.paillier.entropy import Entropy

_FORMAT = "weir-paillier-key/v1"
_SCRYPT_N = 1 << 16
_LARGEST = 64 * 1024


def write(path: Path, p: int, q: int, passphrase: str | None, *, entropy: Entropy) -> None:
    """Create `path` with the primes of a Paillier key. Raises: FileExistsError."""
    write_secret(path, {"p": hex(p), "q": hex(q)}, passphrase, format=_FORMAT, entropy=entropy)


def read(path: Path, passphrase: str | None) -> tuple[int, int]:
    """The two primes. Raises: InvalidKey when the file is open to others, sealed otherwise, or damaged."""
    secret = read_secret(path, passphrase, format=_FORMAT)
    try:
        return int(secret["p"], 16), int(secret["q"], 16)
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None


def write_secret(
    path: Path, secret: Mapping[str, str], passphrase: str | None, *, format: str, entropy: Entropy
) -> None:
    """Create `path` with mode 0600 and make it durable. Raises: FileExistsError."""
    plain = json.dumps(dict(secret)).encode()
    document: dict[str, Any] = {"format": format}
    if passphrase is None:
        document["key"] = plain.decode()
    else:
        salt, nonce = entropy(16), entropy(12)
        sealed = AESGCM(_derive(passphrase, salt)).encrypt(nonce, plain, _associated(salt, format))
        document |= {"salt": _text(salt), "nonce": _text(nonce), "sealed": _text(sealed)}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())


def read_secret(path: Path, passphrase: str | None, *, format: str) -> dict[str, Any]:
    """What `write_secret` wrote. Raises: InvalidKey when open to others, sealed otherwise, or damaged."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _refusal("key.file_mode", "others may read the private key file: make its mode 0600")
        data = file.read(_LARGEST)
    try:
        document = json.loads(data)
        if document["format"] != format:
            raise _refusal("key.file_format", "the private key file has an unknown format")
        secret = json.loads(_open(document, passphrase, format))
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if not isinstance(secret, dict):
        raise _damaged()
    return secret


def _open(document: dict[str, Any], passphrase: str | None, format: str) -> bytes:
    if "sealed" not in document:
        return str(document["key"]).encode()
    if passphrase is None:
        raise _refusal("key.passphrase", "the private key file needs a passphrase")
    salt, nonce, sealed = (base64.b64decode(document[name], validate=True) for name in ("salt", "nonce", "sealed"))
    try:
        return AESGCM(_derive(passphrase, salt)).decrypt(nonce, sealed, _associated(salt, format))
    except InvalidTag:
        raise _refusal("key.passphrase", "the passphrase is wrong, or the private key file was changed") from None


def _derive(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=8, p=1).derive(passphrase.encode())


def _associated(salt: bytes, format: str) -> bytes:
    return f"{format}\0scrypt\0{_SCRYPT_N}\0".encode() + salt


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _damaged() -> InvalidKey:
    return _refusal("key.file_format", "the private key file is damaged")


def _refusal(rule: str, message: str) -> InvalidKey:
    return InvalidKey(message, field="path", rule=rule)
