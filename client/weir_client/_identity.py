# SPDX-License-Identifier: Apache-2.0
"""Identity files: who the caller is towards one domain, and how the caller knows that domain and its log."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weir.errors import InvalidRequest

_REQUIRED = ("name", "role", "domain", "certificate", "private_key", "ca", "server_name", "log_key")
_LARGEST = 1024 * 1024
GATEWAY = "gateway"
"""Role whose calls are those of the requester that a token names."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, the domain's authority, and the key of the domain's log."""

    name: str
    """Holder's name."""
    role: str
    """`requester`, `provider`, `operator`, `approver` or `auditor`; `gateway` for a portal that shows tokens."""
    domain: str
    """Domain that issued it."""
    certificate: str
    """PEM certificate chain shown to the service."""
    private_key: str = field(repr=False)
    """PEM private key of the certificate."""
    ca: str = field(repr=False)
    """PEM certificates of the authority that the service's certificate must come from."""
    server_name: str
    """Name that the service's certificate must carry, whatever the address."""
    log_key: str
    """vkey of the log: receipts verify under it. It came with the identity, not from the service."""
    address: str | None = None
    """Address used where none is given."""
    carries: str | None = None
    """A gateway's: the requester that its tokens stand for."""

    @property
    def uri(self) -> str:
        """The SAN URI of the certificate, `weir://domain/role/name`."""
        return f"weir://{self.domain}/{self.role}/{self.name}"

    @property
    def caller(self) -> str | None:
        """Name that calls are booked under; None for a gateway that does not say whom it carries."""
        return self.carries if self.role == GATEWAY else self.name

    @property
    def key_context(self) -> bytes:
        """What proofs of public keys are bound to: the URI of the caller.

        Raises:
            InvalidRequest: a gateway that does not say whom it carries.
        """
        if self.role != GATEWAY:
            return self.uri.encode()
        if self.carries is None:
            raise _refusal("a gateway registers keys for somebody: connect(requester=…)", "identity.carries")
        return f"weir://{self.domain}/requester/{self.carries}".encode()


def load_identity(reference: str | os.PathLike[str]) -> Identity:
    """The identity of a file: a path, or the short name of `~/.config/weir/NAME.json`.

    Raises:
        InvalidRequest: no such file, others may read it, or it is no identity file.
    """
    path = _find(reference)
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _refusal(f"others may read {path}, which holds a private key: chmod 600 it", "identity.mode")
        data = file.read(_LARGEST)
    try:
        document = json.loads(data)
    except ValueError:
        raise _refusal(f"{path} is not an identity file", "identity.form") from None
    return identity_from_json(document, where=str(path))


def chosen_identity(identity: str | os.PathLike[str] | Identity, *, requester: str | None) -> Identity:
    """An identity as `connect` takes it, with the requester that it carries.

    Raises:
        InvalidRequest: as `load_identity`, or a requester is named and the identity is no gateway's.
    """
    known = identity if isinstance(identity, Identity) else load_identity(identity)
    if requester is None:
        return known
    if known.role != GATEWAY:
        raise _refusal("only a gateway's calls are somebody else's", "identity.carries")
    return replace(known, carries=requester)


def identity_from_json(document: Any, *, where: str = "the identity") -> Identity:
    """The identity of a parsed file.

    Raises:
        InvalidRequest: a member is missing or of the wrong kind.
    """
    if not isinstance(document, Mapping) or document.get("weir_identity") != 1:
        raise _refusal(f"{where} is not an identity file of version 1", "identity.form")
    missing = [name for name in _REQUIRED if not isinstance(document.get(name), str) or not document[name]]
    if missing:
        raise _refusal(f"{where} lacks {', '.join(missing)}", "identity.form")
    address = document.get("address")
    members = {name: str(document[name]) for name in _REQUIRED}
    return Identity(**members, address=str(address) if address else None)


def config_directory() -> Path:
    """Where identities live: `$XDG_CONFIG_HOME/weir`, by default `~/.config/weir`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "weir"


def state_directory() -> Path:
    """Where checkpoints are kept: `$XDG_STATE_HOME/weir`, by default `~/.local/state/weir`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "weir"


def _find(reference: str | os.PathLike[str]) -> Path:
    path = Path(reference).expanduser()
    named = config_directory() / f"{path.name}.json"
    if path.is_file():
        return path
    if len(path.parts) == 1 and named.is_file():
        return named
    raise _refusal(f"no identity file {path} and no {named}", "identity.missing")


def _refusal(sentence: str, rule: str) -> InvalidRequest:
    return InvalidRequest(sentence, field="identity", rule=rule)
