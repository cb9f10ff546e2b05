# SPDX-License-Identifier: Apache-2.0
"""Parties: who stands behind a name, where they are registered, and under which keys they sign contracts.

A party's certificate says who calls; its signing key says who agreed, for as long as anybody keeps the contract. The
operator writes the key down after having checked out of band whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from weir.agreements import format_signing_key, parse_signing_key
from weir.errors import InvalidKey
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader

REGION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
"""ISO 3166 codes: a country, or a part of one."""


def lies_in(region: str, wider: str) -> bool:
    """Whether a region is, or lies in, another: CN-31 lies in CN."""
    return region == wider or region.startswith(f"{wider}-")


@dataclass(frozen=True, slots=True)
class Party:
    """A requester or a provider."""

    name: str
    """As in its certificate and in contracts."""
    role: Literal["requester", "provider"]
    organisation: str
    """Legal person behind the name."""
    responsible: str
    """Person answerable."""
    region: str
    """ISO 3166 code of where it is registered: `CN`, `CN-31`."""
    signing_keys: tuple[bytes, ...]
    """Ed25519 public keys, 32 bytes each."""


def read_party(reader: Reader) -> Party | None:
    """A party as operators write it."""
    party = Party(
        name=reader.identifier("party"),
        role=reader.word("role", ("requester", "provider"), default=None),
        organisation=reader.text("organisation"),
        responsible=reader.text("responsible"),
        region=reader.text("region"),
        signing_keys=tuple(_key(reader, text) for text in reader.texts("signing_keys")),
    )
    if not REGION.fullmatch(party.region):
        reader.fault("region", "must be an ISO 3166 code such as CN or CN-31")
    return party if not reader.faults else None


def _key(reader: Reader, text: str) -> bytes:
    try:
        return parse_signing_key(text)
    except InvalidKey as error:
        reader.fault("signing_keys", error.message)
        return b""


def party_json(party: Party) -> Mapping[str, object]:
    """JSON form."""
    return {
        "party": party.name,
        "role": party.role,
        "organisation": party.organisation,
        "responsible": party.responsible,
        "region": party.region,
        "signing_keys": [format_signing_key(key) for key in party.signing_keys],
    }


def loosens(old: Party | None, new: Party | None) -> bool:
    """A new key can sign, another region may ask: only less of either is none."""
    if new is None:
        return False
    if old is None:
        return True
    return old.region != new.region or not set(new.signing_keys) <= set(old.signing_keys)


PARTY = Kind("party", read_party, lambda party: f"{party.role}/{party.name}", party_json, loosens)
"""Parties among the policy's documents."""
