# SPDX-License-Identifier: Apache-2.0
"""The part of gmpy2 that Weir uses. The stub beside it gives types: gmpy2 ships none."""

from gmpy2 import (
    f_divmod,
    gcd,
    get_context,
    invert,
    is_prime,
    is_strong_prp,
    isqrt,
    jacobi,
    mpz,
    next_prime,
    powmod,
)
from gmpy2 import iroot_rem as iroot_rem
from gmpy2 import primorial as primorial

__all__ = [
    "f_divmod",
    "gcd",
    "get_context",
    "invert",
    "iroot_rem",
    "is_prime",
    "is_strong_prp",
    "isqrt",
    "jacobi",
    "mpz",
    "next_prime",
    "powmod",
    "primorial",
]
