# SPDX-License-Identifier: Apache-2.0
"""What a kind of policy document is: how it is read, named, hashed, and when a change of it loosens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weir_server.policy.reader import Reader


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of document. Values of a kind are frozen."""

    word: str
    """`kind:` of the document, and first part of a change's subject: `contract/c-1`."""
    read: Callable[[Reader], Any]
    """The value; None where the reader collected faults."""
    name: Callable[[Any], str]
    """Name of a value, unique within the kind."""
    canonical: Callable[[Any], Mapping[str, object]]
    """JSON form: what is hashed, compared and shown."""
    loosens: Callable[[Any, Any], bool]
    """Whether going from old to new makes something possible that was not; None stands for absent. MUST be True where
    in doubt."""
    compared_apart: tuple[str, ...] = ()
    """Keys of the canonical form whose differences are told elsewhere."""
