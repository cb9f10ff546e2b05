# SPDX-License-Identifier: Apache-2.0
"""Receipts as the client holds them, and the checkpoints it keeps so that no log can be rolled back unnoticed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from weir.checkpoint import verify
from weir.errors import InvalidReceipt, LogInconsistent
from weir.receipts import About, VerifiedReceipt, parse_event, verify_receipt
from weir.v1 import receipt_pb2


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that one meter record is in the log, with what the client knows it commits to."""

    message: receipt_pb2.Receipt = field(repr=False)
    """As received."""
    commitments: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Per label the bytes that the leaf must commit to; `request`, `query` and `answer` for an answered query."""
    about: About | None = None
    """What kind of leaf it must be, and whose; None where only the log tells."""

    @property
    def index(self) -> int:
        """Index of the leaf in the log."""
        return int(self.message.leaf_index)

    @property
    def event(self) -> dict[str, object]:
        """The CloudEvents event in the leaf; trust it only after `check`.

        Raises:
            InvalidReceipt: it is none.
        """
        return parse_event(self.message.leaf)

    @property
    def checkpoint(self) -> str:
        """Signed note of the tree that the leaf is proved in."""
        return str(self.message.checkpoint)

    def check(self, log_key: str) -> VerifiedReceipt:
        """Checks leaf, path, signature, whose leaf it is, and commitments, without any service.

        Raises:
            InvalidReceipt: one of them fails; `rule` says which.
        """
        return verify_receipt(self.message, vkey=log_key, commitments=self.commitments, about=self.about)

    def to_json(self) -> str:
        """The text of a receipt file; `weir audit verify FILE` checks it. Keep it as secret as the answer it opens."""
        document: dict[str, object] = {
            "weir_receipt": 1,
            "receipt": MessageToDict(self.message, preserving_proto_field_name=True),
            "commitments": {label: base64.b64encode(data).decode() for label, data in self.commitments.items()},
        }
        if self.about is not None:
            document["about"] = asdict(self.about)
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a receipt file, readable by its owner only."""
        write_file(Path(path), self.to_json())


def receipt_from_json(text: str) -> Receipt:
    """The receipt of a file's text.

    Raises:
        InvalidReceipt: it is not a receipt file.
    """
    try:
        document: Any = json.loads(text)
        if document["weir_receipt"] != 1:
            raise InvalidReceipt("not a receipt file of version 1", rule="receipt.file")
        message = ParseDict(document["receipt"], receipt_pb2.Receipt())
        commitments = {
            str(label): base64.b64decode(data, validate=True) for label, data in document["commitments"].items()
        }
        about = _about(document["about"]) if "about" in document else None
    except (ValueError, KeyError, TypeError, AttributeError, ParseError):
        raise InvalidReceipt("not a receipt file", rule="receipt.file") from None
    return Receipt(message, commitments, about)


@dataclass(frozen=True, slots=True)
class KeptCheckpoints:
    """The newest checkpoint seen of each log, in files of one directory; one per log key."""

    directory: Path

    def newest(self, log_key: str) -> str | None:
        """The note kept, or None. A file that does not verify is treated as evidence, not as absent.

        Raises:
            VerificationError: the kept file was damaged.
        """
        path = self._path(log_key)
        try:
            note = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        verify(note, log_key)
        return note

    def keep(self, log_key: str, note: str) -> None:
        """Keeps a verified note unless a newer one is kept."""
        known = self.newest(log_key)
        if known is None or verify(known, log_key).size <= verify(note, log_key).size:
            write_file(self._path(log_key), note)

    def keep_evidence(self, log_key: str, error: LogInconsistent) -> Path:
        """Writes both signed notes of an inconsistency beside the kept one, for anybody to check."""
        text = json.dumps({"older": error.older, "newer": error.newer}, indent=1) + "\n"
        path = self._path(log_key).with_suffix(f".conflict-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json")
        write_file(path, text)
        return path

    def _path(self, log_key: str) -> Path:
        return self.directory / f"{hashlib.sha256(log_key.encode()).hexdigest()[:32]}.note"


def _about(document: Mapping[str, Any]) -> About:
    """Raises: KeyError, TypeError, AttributeError."""
    types, names = document["types"], (document["requester"], document["contract"])
    if not isinstance(types, list) or any(name is not None and not isinstance(name, str) for name in names):
        raise TypeError("not about anything")
    return About(tuple(str(kind) for kind in types), *names)


def write_file(path: Path, text: str) -> None:
    """Replaces a file as a whole, so that a crash leaves the old or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".weir-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
