# SPDX-License-Identifier: Apache-2.0
"""The part of gmpy2 that Weir uses. The stub beside it gives types: gmpy2 ships none."""

from gmpy2 import f_divmod, gcd, get_context, invert, iroot_rem, is_prime, jacobi, mpz, next_prime, powmod, primorial

__all__ = [
    "f_divmod",
    "gcd",
    "get_context",
    "invert",
    "iroot_rem",
    "is_prime",
    "jacobi",
    "mpz",
    "next_prime",
    "powmod",
    "primorial",
]
