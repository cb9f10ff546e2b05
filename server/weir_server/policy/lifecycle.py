# SPDX-License-Identifier: Apache-2.0
"""Life of a contract: offered → accepted → active → suspended | terminated, and expired by server time.

A state belongs to terms, that is to a contract's digest: changed terms begin anew, as an offer nobody has signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from weir_server.policy.contract import Contract
from weir_server.policy.documents import Policy
from weir_server.store import Transaction


def states(tx: Transaction, policy: Policy) -> Mapping[str, str]:
    """State of the terms in force of every contract."""
    rows = tx.execute("SELECT contract, digest, state FROM contract_states")
    known = {(str(contract), str(digest)): str(state) for contract, digest, state in rows}
    return MappingProxyType(
        {
            name: known.get((name, contract.digest), initial_state(contract))
            for name, contract in policy.contracts.items()
        }
    )


def initial_state(contract: Contract) -> str:
    """State of terms that nobody has acted on: where no signature is asked for, applying them activates them."""
    return "offered" if contract.signatures == "required" else "active"
