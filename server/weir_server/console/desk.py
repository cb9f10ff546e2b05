# SPDX-License-Identifier: Apache-2.0
"""What every screen stands on, built once: services, sessions, templates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from weir_server.console import charts, show
from weir_server.console.figures import Figures
from weir_server.console.gate import Gate
from weir_server.console.sessions import Sessions
from weir_server.console.text import LANGUAGES, Words
from weir_server.plan.values import Principal
from weir_server.services.admission import Admission
from weir_server.state import State
from weir_server.store import Store


@dataclass(frozen=True, slots=True)
class Desk:
    """The console's parts."""

    data_dir: Path
    domain: str
    authenticate: Callable[[bytes], Principal]
    """Holder of a client certificate in PEM, as the gRPC listeners take it, revocation included."""
    revoked: Callable[[], frozenset[int]]
    """Serial numbers of certificates that were taken back, as of now."""
    log_key: str
    """Verifier keys of the log, as identities hold them: what a reader would check with."""
    witness_key: str
    """Verifier key of the witness that is asked; empty without one."""
    hosts: frozenset[str]
    """Names under which the console may be addressed: those of the server's certificate."""
    state: State
    store: Store
    gate: Gate
    sessions: Sessions
    admission: Admission
    healthy: Callable[[], bool]
    now: Callable[[], datetime]
    templates: Environment
    figures: Figures

    def render(self, template: str, *, words: Words, request: Request, status: int, **values: Any) -> Response:
        """A page. Everything is escaped; a name that is missing is an error and never an empty place."""
        page = self.templates.get_template(template).render(
            t=words.say,
            words=words,
            languages=LANGUAGES,
            request=request,
            domain=self.domain,
            show=show.Show(words),
            chart=charts.Charts(words),
            **values,
        )
        return HTMLResponse(page, status_code=status)


def environment() -> Environment:
    """Templates of the package."""
    return Environment(
        loader=PackageLoader("weir_server.console"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def static_files() -> dict[str, bytes]:
    """The console's own stylesheet, script and mark, by name."""
    directory = resources.files("weir_server.console") / "static"
    return {item.name: item.read_bytes() for item in directory.iterdir() if item.is_file()}


def monotonic() -> float:
    """Seconds that never run back."""
    return time.monotonic()
