# SPDX-License-Identifier: Apache-2.0
"""Weir's SDK: questions to a data domain, answers with receipts, and the checks that need no trust in the service.

    import weir_client

    client = weir_client.connect("localhost:7443", identity="alice.weir")
    job = client.query("SELECT region, COUNT(*) FROM census GROUP BY region", contract="c-1")
    answer = job.result()
    answer.to_pandas(); answer.noise; answer.receipt; answer.verify()

Names are loaded at the first use of any, so that `weir --help` need not wait for gRPC and cryptography.
Errors are the classes of `weir.errors`. Modules with a leading underscore are no part of the interface.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from weir import errors
    from weir_client import aio
    from weir_client._answer import Answer, Column, Coverage
    from weir_client._audit import AuditReport, Entry, InclusionProof, Meter, MeterTotal
    from weir_client._catalogue import Dataset, Dimension, Measure, Snapshot
    from weir_client._ciphertexts import EncryptedAnswer, SealedTable, add_sealed
    from weir_client._client import Client, Job, connect
    from weir_client._estimates import Estimate, Exposure, Noise
    from weir_client._governance import Case, Standing, Suspension
    from weir_client._identity import Identity, load_identity
    from weir_client._keys import KeyPair, generate_keypair
    from weir_client._limits import Balance, PolicyChange, PolicyDifference, Quota
    from weir_client._receipts import Receipt, receipt_from_json
    from weir_client._sandbox import Sandbox
    from weir_client._signing import SigningKey
    from weir_client._terms import Approval, Contract, ContractSignature, Duty, StandingTerms
    from weir_client._values import RateCard

__all__ = [
    "Answer",
    "Approval",
    "AuditReport",
    "Balance",
    "Case",
    "Client",
    "Column",
    "Contract",
    "ContractSignature",
    "Coverage",
    "Dataset",
    "Dimension",
    "Duty",
    "EncryptedAnswer",
    "Entry",
    "Estimate",
    "Exposure",
    "Identity",
    "InclusionProof",
    "Job",
    "KeyPair",
    "Measure",
    "Meter",
    "MeterTotal",
    "Noise",
    "PolicyChange",
    "PolicyDifference",
    "Quota",
    "RateCard",
    "Receipt",
    "Sandbox",
    "SealedTable",
    "SigningKey",
    "Snapshot",
    "Standing",
    "StandingTerms",
    "Suspension",
    "add_sealed",
    "aio",
    "connect",
    "errors",
    "generate_keypair",
    "load_identity",
    "receipt_from_json",
]

_HOMES = {
    "_answer": (
        "Answer",
        "Column",
        "Coverage",
    ),
    "_audit": (
        "AuditReport",
        "Entry",
        "InclusionProof",
        "Meter",
        "MeterTotal",
    ),
    "_ciphertexts": (
        "EncryptedAnswer",
        "SealedTable",
        "add_sealed",
    ),
    "_client": (
        "Client",
        "Job",
        "connect",
    ),
    "_governance": (
        "Case",
        "Standing",
        "Suspension",
    ),
    "_identity": (
        "Identity",
        "load_identity",
    ),
    "_keys": (
        "KeyPair",
        "generate_keypair",
    ),
    "_receipts": (
        "Receipt",
        "receipt_from_json",
    ),
    "_sandbox": ("Sandbox",),
    "_catalogue": (
        "Dataset",
        "Dimension",
        "Measure",
        "Snapshot",
    ),
    "_estimates": (
        "Estimate",
        "Exposure",
        "Noise",
    ),
    "_limits": (
        "Balance",
        "PolicyChange",
        "PolicyDifference",
        "Quota",
    ),
    "_terms": (
        "Approval",
        "Contract",
        "ContractSignature",
        "Duty",
        "StandingTerms",
    ),
    "_values": ("RateCard",),
    "_signing": ("SigningKey",),
}
"""Where each name is defined."""


def _load() -> None:
    """Bring in every public name, shown as it is imported and not by the private module that defines it."""
    found = {"aio": _importlib.import_module("weir_client.aio"), "errors": _importlib.import_module("weir.errors")}
    for module, names in _HOMES.items():
        home = _importlib.import_module(f"weir_client.{module}")
        for name in names:
            found[name] = getattr(home, name)
            if getattr(found[name], "__module__", "").startswith("weir_client._"):
                found[name].__module__ = __name__
    globals().update(found)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        _load()
        return globals()[name]
