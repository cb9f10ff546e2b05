# SPDX-License-Identifier: Apache-2.0
"""A row of the table of screens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from weir_server.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Screen:
    """One route. Whoever may make every one of `calls` may open it, and nobody else."""

    name: str
    path: str
    serve: Callable[[Visit], Awaitable[Response]]
    calls: tuple[str, ...]
    """Full names of the calls that it stands for; at least one."""
    method: Literal["GET", "POST"] = "GET"
    proof: bool = False
    """Whether the person must have proved who they are within the last minutes: everything that decides or changes."""
