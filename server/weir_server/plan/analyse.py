# SPDX-License-Identifier: Apache-2.0
"""Stage 2: from a bound query to a plan. The technique says mechanism and loss; here both are priced and digested."""

from __future__ import annotations

from weir.canonical import canonical_json, digest
from weir.errors import InvalidQuery
from weir.paillier import reply_bits
from weir.query import query_json
from weir_server.plan.values import Analysis, BoundQuery, Plan, Technique
from weir_server.policy.contract import Contract, Rates

NANO = 1_000_000_000


def analyse(bound: BoundQuery, technique: Technique, contract: Contract) -> Plan:
    """The plan of a bound query under a contract.

    Raises:
        InvalidQuery: the technique cannot answer it, or an encrypted query asks for columns that are no integers.
    """
    analysis = technique.analyse(bound)
    if bound.submission.encrypted is not None:
        _check_encryptable(analysis)
    release_key = digest(
        canonical_json(
            {
                "snapshot": bound.snapshot.manifest_digest,
                "query": query_json(bound.query),
                "mode": bound.mode.value,
                "mechanism": analysis.mechanism,
            }
        )
    )
    charge = price(bound, analysis, contract.rates)
    return Plan(
        bound=bound,
        analysis=analysis,
        charge=charge,
        release_key=release_key,
        digest=_plan_digest(bound, release_key, contract, charge),
    )


def _check_encryptable(analysis: Analysis) -> None:
    unfit = [column.name for column, bound in zip(analysis.columns, analysis.magnitudes, strict=True) if bound == 0]
    if unfit:
        raise InvalidQuery(
            f"{', '.join(unfit)}: an encrypted query takes COUNT, SUM and HISTOGRAM, whose values are integers",
            field="query.aggregates",
            rule="encrypted.integer",
        )


def price(bound: BoundQuery, analysis: Analysis, rates: Rates) -> dict[str, int]:
    """Charge of a first release: metric to amount. A sticky release drops the privacy part (`without_loss`)."""
    numbers = _numbers(bound, analysis)
    operations = encrypted_operations(bound, analysis)
    loss = analysis.loss
    return {
        "queries": 1,
        "cells": numbers,
        "epsilon_nano": loss.epsilon_nano,
        "rho_micro": loss.rho_micro,
        "encrypted_operations": operations,
        "price_micro": rates.per_query_micro
        + rates.per_cell_micro * numbers
        + rates.per_encrypted_operation_micro * operations
        + _epsilon_price(loss.epsilon_nano, rates),
    }


def _numbers(bound: BoundQuery, analysis: Analysis) -> int:
    """Numbers that leave: all of the table, but one per column under secret weights (DESIGN §8)."""
    terms, columns = bound.submission.encrypted, len(analysis.columns)
    return columns if terms is not None and terms.kind == "weights" else bound.cells * columns


def reply_width(bound: BoundQuery, analysis: Analysis) -> int:
    """Bits, sign included, of every reply to secret weights: one width for all columns, from public facts alone."""
    terms = bound.submission.encrypted
    weight_bits = 0 if terms is None else terms.weight_bits
    return max(reply_bits(weight_bits, (-most, most), bound.cells) for most in analysis.magnitudes)


def _epsilon_price(epsilon_nano: int, rates: Rates) -> int:
    return -(-epsilon_nano * rates.per_epsilon_micro // NANO)


def without_loss(plan: Plan, rates: Rates) -> dict[str, int]:
    """Charge of the same plan where its release exists already: no privacy is lost, and none is paid for."""
    return {
        **plan.charge,
        "epsilon_nano": 0,
        "rho_micro": 0,
        "price_micro": plan.charge["price_micro"] - _epsilon_price(plan.analysis.loss.epsilon_nano, rates),
    }


def encrypted_operations(bound: BoundQuery, analysis: Analysis) -> int:
    """Homomorphic operations by public facts: one multiplication per cell and column, or one encryption per cell."""
    return 0 if bound.submission.encrypted is None else bound.cells * len(analysis.columns)


def _plan_digest(bound: BoundQuery, release_key: str, contract: Contract, charge: dict[str, int]) -> str:
    terms = bound.submission.encrypted
    return digest(
        canonical_json(
            {
                "release": release_key,
                "requester": bound.submission.principal.name,
                "contract": contract.id,
                "purpose": bound.submission.purpose,
                "encrypted": None
                if terms is None
                else [terms.kind, terms.key_id, terms.weights, terms.weight_bits, terms.max_addends],
                "charge": {metric: str(amount) for metric, amount in charge.items()},
            }
        )
    )
