# SPDX-License-Identifier: Apache-2.0
"""The public-key side of Paillier: what a data domain, and anybody who holds no private key, can do.

    keys         public keys and the checks on a modulus        encryption   Enc with the public key alone
    proof        is a key well formed?                          kernels      sums and products of ciphertexts
    ciphertexts  wire form and checks                           masking      headroom; finishing a reply
    interop      python-paillier's types in and out             packing      many values in one plaintext

Ciphertexts, plaintexts and moduli are integers in the interface and may be gmpy2.mpz at run time; call int() where
an instance of int is required. Randomness is always an argument (`Entropy`). Importing this package loads gmpy2
and nothing else that is large: `from_phe_encrypted` and `to_phe_encrypted` load phe at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weir.paillier.ciphertexts import check_ciphertexts, decode_ciphertexts, encode_ciphertexts
from weir.paillier.encryption import ShortExponent, encrypt, encrypt_with, obfuscator
from weir.paillier.entropy import Entropy
from weir.paillier.kernels import KERNELS, GmpKernels, Kernels, add_all, dot, matrix_dot, scale
from weir.paillier.keys import DEFAULT_KEY_BITS, KEY_BITS, PublicKey, as_public_key, check_modulus
from weir.paillier.masking import (
    MAX_REPLY_BITS,
    check_headroom,
    mask_replies,
    mask_reply,
    numbers_in_reply,
    reply_bits,
    unmask,
)
from weir.paillier.obfuscators import ObfuscatorPool
from weir.paillier.packing import Packing, pack, sum_tables, unpack
from weir.paillier.packing import sum_tables as sum
from weir.paillier.proof import proof_bytes, verify_key_proof

if TYPE_CHECKING:
    from weir.paillier.interop import from_phe_encrypted, to_phe_encrypted

__all__ = [
    "DEFAULT_KEY_BITS",
    "KERNELS",
    "KEY_BITS",
    "MAX_REPLY_BITS",
    "Entropy",
    "GmpKernels",
    "Kernels",
    "ObfuscatorPool",
    "Packing",
    "PublicKey",
    "ShortExponent",
    "add_all",
    "as_public_key",
    "check_ciphertexts",
    "check_headroom",
    "check_modulus",
    "decode_ciphertexts",
    "dot",
    "encode_ciphertexts",
    "encrypt",
    "encrypt_with",
    "from_phe_encrypted",
    "mask_replies",
    "mask_reply",
    "matrix_dot",
    "numbers_in_reply",
    "obfuscator",
    "pack",
    "proof_bytes",
    "reply_bits",
    "scale",
    "sum",
    "sum_tables",
    "to_phe_encrypted",
    "unmask",
    "unpack",
    "verify_key_proof",
]


def __getattr__(name: str) -> Any:
    if name in ("from_phe_encrypted", "to_phe_encrypted"):
        from weir.paillier import interop

        return getattr(interop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
