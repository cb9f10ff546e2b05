# SPDX-License-Identifier: Apache-2.0
"""What every command shares: options, the connection, tables or JSON, exit codes, progress."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weir.errors import (
    ApprovalRequired,
    InvalidRequest,
    Overloaded,
    PolicyDenied,
    RefusalError,
    RequestError,
    Unavailable,
    VerificationError,
    WeirError,
)
from weir_client._tables import text_table

if TYPE_CHECKING:
    from weir_client._client import Client
    from weir_client._identity import Identity

EXIT_OTHER, EXIT_USAGE, EXIT_REFUSED, EXIT_UNVERIFIED, EXIT_UNAVAILABLE = 1, 2, 3, 4, 5
EXIT_STOPPED = 130
_CODES: tuple[tuple[type[WeirError], int], ...] = (
    (RequestError, EXIT_USAGE),
    (RefusalError, EXIT_REFUSED),
    (VerificationError, EXIT_UNVERIFIED),
    (Unavailable, EXIT_UNAVAILABLE),
    (Overloaded, EXIT_UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class Session:
    """Common options of one command."""

    server: str | None
    identity_file: str | None
    timeout: float
    as_json: bool
    token_file: str | None = None

    def identity(self) -> Identity:
        """The identity asked for."""
        if self.identity_file is None:
            raise click.UsageError("no identity: give --identity FILE or set WEIR_IDENTITY")
        from weir_client._identity import load_identity

        return load_identity(self.identity_file)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connected client."""
        from weir_client._client import connect

        token = None if self.token_file is None else Path(self.token_file)
        with connect(self.server, identity=self.identity(), token=token, timeout=self.timeout) as client:
            yield client

    def show(self, value: object, text: str | Callable[[], str]) -> None:
        """The value as JSON, or its text."""
        print_value(value, text, as_json=self.as_json)


def print_value(value: object, text: str | Callable[[], str], *, as_json: bool) -> None:
    """The value as JSON, or its text."""
    if as_json:
        click.echo(json.dumps(to_json(value), ensure_ascii=False, indent=2))
    else:
        click.echo(text if isinstance(text, str) else text())


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the common options, and the Session made of them as first argument."""

    @click.option("--server", envvar="WEIR_SERVER", help="host:port of the service (or WEIR_SERVER).")
    @click.option(
        "--identity", "identity_file", envvar="WEIR_IDENTITY", help="Identity file or short name (or WEIR_IDENTITY)."
    )
    @click.option(
        "--token-file",
        envvar="WEIR_TOKEN_FILE",
        help="File of a bearer token, where the service asks for one (or WEIR_TOKEN_FILE).",
    )
    @click.option("--timeout", type=click.FloatRange(0.1, 600), default=60.0, show_default=True, help="Seconds.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def wrapped(
        server: str | None,
        identity_file: str | None,
        token_file: str | None,
        timeout: float,
        as_json: bool,
        **rest: Any,
    ) -> Any:
        return command(Session(server or None, identity_file or None, timeout, as_json, token_file or None), **rest)

    return wrapped


def exit_code(error: WeirError) -> int:
    """Documented exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), EXIT_OTHER)


def message_line(error: WeirError) -> str:
    """One line with everything a caller can act on."""
    parts = [" ".join(error.message.split())]
    if isinstance(error, PolicyDenied):
        parts += [reason.sentence for reason in error.reasons if reason.sentence not in error.message]
    notes = []
    if error.rule is not None:
        notes.append(f"rule {error.rule}")
    if error.field is not None:
        notes.append(f"field {error.field}")
    if isinstance(error, ApprovalRequired) and "approval" in error.metadata:
        notes.append(f"approval {error.metadata['approval']}")
    return _printable("; ".join(dict.fromkeys(parts)) + (f" ({', '.join(notes)})" if notes else ""))


def error_text(error: WeirError) -> str:
    """An error for people: what it is, each fault by itself where there are several, and how to go on."""
    faults = [f"  {_printable(' '.join(found.split()))}" for found in _findings(error)]
    return "\n".join(filter(None, (f"weir: {message_line(error)}", *faults, advice(error))))


def _findings(error: WeirError) -> tuple[str, ...]:
    return error.findings if isinstance(error, InvalidRequest) else ()


def _printable(text: str) -> str:
    """Other people's text as a part of one line: nothing in it moves the cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def advice(error: WeirError) -> str | None:
    """How the caller goes on, where the command or the kind of error knows it."""
    notes = getattr(error, "__notes__", [])
    if not notes and isinstance(error, ApprovalRequired) and "approval" in error.metadata:
        return "once approved, ask again with the same words"
    return "; ".join(notes) or None


def error_document(error: WeirError) -> dict[str, object]:
    """An error for programs: all that a caller can act on, whatever has nothing to say left out."""
    told = {
        "reason": error.reason,
        "message": error.message,
        "rule": error.rule,
        "field": error.field,
        "retryable": error.retryable,
        "metadata": error.metadata,
        "limits": getattr(error, "limits", ()),
        "reasons": getattr(error, "reasons", ()),
        "violations": getattr(error, "violations", ()),
        "findings": _findings(error),
        "advice": advice(error),
    }
    present = {name: to_json(value) for name, value in told.items() if value not in (None, (), {})}
    return {"error": {**present, "exit_code": exit_code(error)}}


def usage_document(error: click.ClickException) -> dict[str, object]:
    """The same of a command line that is wrong, or that cannot be run here."""
    reason = "USAGE" if isinstance(error, click.UsageError) else "FAILED"
    return {"error": {"reason": reason, "message": error.format_message(), "exit_code": error.exit_code}}


def file_line(error: OSError) -> str:
    """One line of an error of the operating system: the file, and what it says of it."""
    said = error.strerror or type(error).__name__
    line = said if error.filename is None else f"{error.filename}: {said}"
    return "".join(character if character.isprintable() else " " for character in line)


def to_json(value: object) -> object:
    """JSON form of the SDK's values: amounts and decimals as text, times in RFC 3339, bytes in base64."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.name.startswith("_")
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal | Fraction):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def table(names: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> str:
    """A table, or the sentence for none."""
    return text_table(names, rows) if rows else empty


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress function that draws a bar while standard error is a terminal; None otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield update
