# SPDX-License-Identifier: Apache-2.0
"""What statements are keyed with in place of the domain's salt, where they leave this machine.

A cluster keeps the text of statements in its event log. What it sees is derived from the salt for one dataset and one
purpose, and says nothing of any other.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def units_key(salt: bytes, *, dataset: str) -> bytes:
    """For hashes of units, in the private records of members and of consents."""
    return _derived(salt, f"units|{dataset}")


def content_key(salt: bytes, *, dataset: str) -> bytes:
    """For fingerprints of what was read, and of what is kept."""
    return _derived(salt, f"content|{dataset}")


def _derived(salt: bytes, purpose: str) -> bytes:
    """Source: RFC 5869."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"weir/rows/1|{purpose}".encode()).derive(salt)
