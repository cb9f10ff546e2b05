# SPDX-License-Identifier: Apache-2.0
"""Linkage: datasets about the same units share one lifetime privacy account beside their lineages' own.

A card names the namespace of its units (`unit: {namespace: …}`), and its lineage joins it for good when a snapshot is
activated (`policy/exposure.py`). A linkage document sets what all lineages of a namespace may spend together; it is one
more limit of the ledger, enforced by the same reservation. Use is kept: a limit set later counts what was spent before,
and so does a lineage that joins later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from weir.amounts import format_epsilon, format_rho, parse_epsilon, parse_rho
from weir_server.ledger.values import Quota
from weir_server.policy.kinds import Kind
from weir_server.policy.reader import Reader

_NAMESPACE = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Linkage:
    """The shared account of one namespace of units."""

    id: str
    namespace: str
    """As cards name it."""
    epsilon_nano: int
    """Lifetime limit; 0 where none is stated."""
    rho_micro: int
    """Lifetime limit; 0 where none is stated."""

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """Its limits, as the ledger enforces them. Every charge carries both columns, so either binds all."""
        stated: tuple[Quota, ...] = ()
        if self.epsilon_nano:
            name = f"namespace-{self.id}-epsilon"
            stated += (Quota(id=name, metric="epsilon_nano", limit=self.epsilon_nano, namespace=self.namespace),)
        if self.rho_micro:
            name = f"namespace-{self.id}-rho"
            stated += (Quota(id=name, metric="rho_micro", limit=self.rho_micro, namespace=self.namespace),)
        return stated


def read_linkage(reader: Reader) -> Linkage | None:
    """A linkage as operators write it."""
    linkage = Linkage(
        id=reader.identifier("linkage"),
        namespace=reader.text("namespace"),
        epsilon_nano=reader.amount("epsilon", parse_epsilon),
        rho_micro=reader.amount("rho", parse_rho),
    )
    if linkage.namespace and not _NAMESPACE.fullmatch(linkage.namespace):
        reader.fault("namespace", "must be small letters, digits and hyphens, at most 63")
    if not linkage.quotas and not reader.faults:
        reader.fault("epsilon", "or rho must be stated: what the namespace may spend in its life")
    return linkage if not reader.faults else None


def linkage_json(linkage: Linkage) -> Mapping[str, object]:
    """JSON form."""
    return {
        "linkage": linkage.id,
        "namespace": linkage.namespace,
        "epsilon": format_epsilon(linkage.epsilon_nano),
        "rho": format_rho(linkage.rho_micro),
    }


def loosens(old: Linkage | None, new: Linkage | None) -> bool:
    """A limit that goes, rises, or binds other units."""
    if old is None:
        return False
    if new is None or new.namespace != old.namespace:
        return True
    pairs = ((old.epsilon_nano, new.epsilon_nano), (old.rho_micro, new.rho_micro))
    return any(before and (after > before or not after) for before, after in pairs)


LINKAGE = Kind("linkage", read_linkage, lambda linkage: linkage.id, linkage_json, loosens)
"""Linkages among the policy's documents."""
