# SPDX-License-Identifier: Apache-2.0
"""A minimal witness of one log: it cosigns checkpoints over HTTP, of one history only, and remembers the last.

It needs neither server nor identity. Its directory holds its key and, per log, the last checkpoint it cosigned; whoever
puts an older copy of the directory back makes it forget, so back up the key and never the state.

Source: c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from weir.checkpoint import COSIGNATURE_ED25519, Checkpoint, Signer, new_signer, parse_skey
from weir.errors import InvalidRequest
from weir.witness import Reply, judge
from weir_client._receipts import write_file

KEY_FILE, STATE_FILE = "witness.key", "state.json"
MAX_BODY = 256 * 1024
_SECONDS = 10.0


def open_key(directory: Path, *, name: str, entropy: Callable[[int], bytes]) -> Signer:
    """The witness's key; made at the first call.

    Raises:
        InvalidRequest: the directory holds the key of another name, or none that can be read; or the name is malformed.
    """
    path = directory / KEY_FILE
    if not path.exists():
        write_file(path, _new_key(name, entropy(32)).skey + "\n")
    try:
        signer = parse_skey(path.read_text("ascii"))
    except ValueError:
        raise InvalidRequest("the witness's key cannot be read", field="state", rule="witness.key") from None
    if signer.name != name:
        raise InvalidRequest("the directory holds the key of another witness", field="name", rule="witness.name")
    return signer


def _new_key(name: str, seed: bytes) -> Signer:
    try:
        return new_signer(name, seed=seed, kind=COSIGNATURE_ED25519)
    except ValueError:
        raise InvalidRequest(
            "a witness's name is a word without spaces or plus", field="name", rule="witness.name"
        ) from None


class Witness:
    """Decides and remembers, one request at a time: deciding and storing is one step."""

    def __init__(
        self, directory: Path, *, logs: Mapping[str, Sequence[str]], signer: Signer, clock: Callable[[], int]
    ) -> None:
        """`logs`: verifier keys per origin. `clock`: seconds since 1970.

        Raises:
            InvalidRequest: the state is damaged; a witness that forgot must not sign.
        """
        self._path, self._logs, self._signer, self._clock = directory / STATE_FILE, logs, signer, clock
        self._latest = _load(self._path)
        self._lock = threading.Lock()

    def add_checkpoint(self, body: str) -> Reply:
        """The answer to an add-checkpoint request; what it promises is on disk before it is given."""
        with self._lock:
            reply = judge(body, logs=self._logs, latest=self._latest, signer=self._signer, time=self._clock())
            if reply.latest is not None:
                latest = {**self._latest, reply.latest.origin: reply.latest}
                write_file(self._path, _dump(latest))
                _sync(self._path.parent)
                self._latest = latest
            return reply


def witness_server(witness: Witness, *, host: str, port: int) -> HTTPServer:
    """An HTTP server, listening; run `serve_forever`. It takes one connection at a time.

    Raises:
        OSError: the address cannot be taken.
    """
    return HTTPServer((host, port), type("WitnessHandler", (_Handler,), {"witness": witness}))


class _Handler(BaseHTTPRequestHandler):
    witness: Witness
    timeout = _SECONDS
    server_version, sys_version = "weir", ""

    def do_POST(self) -> None:
        """add-checkpoint, the one call there is."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._send(Reply(404))
        elif not (length.isascii() and length.isdecimal()) or len(length) > 9 or int(length) > MAX_BODY:
            self._send(Reply(400))
        else:
            self._send(self._decide(self.rfile.read(int(length))))

    def _decide(self, body: bytes) -> Reply:
        try:
            return self.witness.add_checkpoint(body.decode())
        except UnicodeDecodeError:
            return Reply(400)

    def _send(self, reply: Reply) -> None:
        content = reply.body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: request lines are the sender's text."""


def _load(path: Path) -> dict[str, Checkpoint]:
    try:
        document = json.loads(path.read_text("utf-8"))
        return {
            str(origin): Checkpoint(str(origin), int(item["size"]), base64.b64decode(item["root"], validate=True))
            for origin, item in document.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        sentence = "the witness's state is damaged; it must not sign without it"
        raise InvalidRequest(sentence, field="state", rule="witness.state") from None


def _dump(latest: Mapping[str, Checkpoint]) -> str:
    content = {
        origin: {"size": item.size, "root": base64.b64encode(item.root).decode()} for origin, item in latest.items()
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _sync(directory: Path) -> None:
    """Makes the replaced file's name durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
