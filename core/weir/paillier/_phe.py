# SPDX-License-Identifier: Apache-2.0
"""The part of python-paillier that Weir exchanges. The stub beside it gives types: phe ships none."""

from phe import EncryptedNumber, PaillierPrivateKey, PaillierPublicKey

__all__ = ["EncryptedNumber", "PaillierPrivateKey", "PaillierPublicKey"]
