# SPDX-License-Identifier: Apache-2.0
"""Weir's SDK: questions to a data domain, answers with receipts, and the checks that need no trust in the service.

    import weir_client

    client = weir_client.connect("localhost:7443", identity="alice.weir")
    job = client.query("SELECT region, COUNT(*) FROM census GROUP BY region", contract="c-1")
    answer = job.result()
    answer.to_pandas(); answer.noise; answer.receipt; answer.verify()

Errors are the classes of `weir.errors`. Modules with a leading underscore are no part of the interface.
"""

from __future__ import annotations

from weir import errors
from weir_client import aio
from weir_client._answer import Answer, Column, Coverage
from weir_client._audit import AuditReport, Entry, InclusionProof, Meter, MeterTotal
from weir_client._ciphertexts import EncryptedAnswer, SealedTable, add_sealed
from weir_client._client import Client, Job, connect
from weir_client._identity import Identity, load_identity
from weir_client._keys import KeyPair, generate_keypair
from weir_client._receipts import Receipt, receipt_from_json
from weir_client._records import (
    Approval,
    Balance,
    Contract,
    Dataset,
    Dimension,
    Estimate,
    Measure,
    Noise,
    PolicyChange,
    PolicyDifference,
    Quota,
    RateCard,
    Snapshot,
)

__all__ = [
    "Answer",
    "Approval",
    "AuditReport",
    "Balance",
    "Client",
    "Column",
    "Contract",
    "Coverage",
    "Dataset",
    "Dimension",
    "EncryptedAnswer",
    "Entry",
    "Estimate",
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
    "SealedTable",
    "Snapshot",
    "add_sealed",
    "aio",
    "connect",
    "errors",
    "generate_keypair",
    "load_identity",
    "receipt_from_json",
]

# Names are shown as they are imported, not by the private module that happens to define them.
for _name in __all__:
    _member = globals()[_name]
    if getattr(_member, "__module__", "").startswith("weir_client._"):
        _member.__module__ = __name__
del _member, _name
