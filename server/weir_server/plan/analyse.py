# SPDX-License-Identifier: Apache-2.0
"""Stage 2: from a bound query to a plan. The technique says mechanism and loss; here both are priced and digested."""

from __future__ import annotations

from weir.canonical import Encoded, canonical_json, digest
from weir.errors import InvalidQuery
from weir.paillier import Packing, reply_bits
from weir.query import query_json
from weir_server.catalog.rates import Rates
from weir_server.plan.values import Analysis, BoundQuery, EncryptedTerms, Plan, Technique
from weir_server.policy.contract import Contract
from weir_server.policy.decide import purpose_of

NANO = 1_000_000_000


def analyse(bound: BoundQuery, technique: Technique, contract: Contract) -> Plan:
    """The plan of a bound query under a contract.

    Raises:
        InvalidQuery: the technique cannot answer it, or an encrypted query asks for columns that are no integers.
    """
    analysis = technique.analyse(bound)
    if bound.submission.encrypted is not None:
        _check_encryptable(analysis)
    query, mechanism = canonical_json(query_json(bound.query)), canonical_json(analysis.mechanism)
    release_key = digest(
        canonical_json(
            {
                "snapshot": bound.snapshot.manifest_digest,
                "query": Encoded(query),
                "mode": bound.mode.value,
                "mechanism": Encoded(mechanism),
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
        query=query,
        mechanism=mechanism,
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
        "bytes": ciphertext_bytes(bound, analysis),
        "price_micro": rates.per_query_micro
        + rates.per_cell_micro * numbers
        + rates.per_encrypted_operation_micro * operations
        + _epsilon_price(loss.epsilon_nano, rates),
    }


def _numbers(bound: BoundQuery, analysis: Analysis) -> int:
    """Numbers charged: the whole table, under secret weights too.

    A masked reply carries its declared bits and no more, but those may hold several small cells side by side, packed by
    hostile weights, and how small the cells are is not public. So a reply is charged for all that it could read.
    """
    return bound.cells * len(analysis.columns)


def ciphertexts(bound: BoundQuery, analysis: Analysis) -> tuple[int, int]:
    """Ciphertexts that come in and go out, by public facts."""
    terms, columns = bound.submission.encrypted, len(analysis.columns)
    if terms is None:
        return 0, 0
    if terms.kind == "weights":
        return bound.cells, columns
    return 0, sealed_layout(terms, analysis).ciphertexts_for(bound.cells * columns)


def ciphertext_bytes(bound: BoundQuery, analysis: Analysis) -> int:
    """Their length on the wire: the metric `bytes`, which plain queries have none of."""
    terms = bound.submission.encrypted
    return 0 if terms is None else sum(ciphertexts(bound, analysis)) * 2 * (terms.key_bits // 8)


def sealed_layout(terms: EncryptedTerms, analysis: Analysis) -> Packing:
    """How a sealed release is packed; from public bounds alone."""
    bits = max(analysis.magnitudes).bit_length()
    return Packing.for_bits(terms.key_bits, value_bits=bits, parties=terms.max_addends)


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
    """Homomorphic operations by public facts: a multiplication per cell and column, or an encryption per ciphertext."""
    terms = bound.submission.encrypted
    if terms is None:
        return 0
    return bound.cells * len(analysis.columns) if terms.kind == "weights" else ciphertexts(bound, analysis)[1]


def _plan_digest(bound: BoundQuery, release_key: str, contract: Contract, charge: dict[str, int]) -> str:
    terms = bound.submission.encrypted
    return digest(
        canonical_json(
            {
                "release": release_key,
                "requester": bound.submission.principal.name,
                "contract": contract.id,
                "purpose": purpose_of(bound.submission.purpose, contract),
                "encrypted": None
                if terms is None
                else [
                    terms.kind,
                    terms.key_id,
                    sorted(terms.key_owners),
                    terms.weights,
                    terms.weight_bits,
                    terms.max_addends,
                ],
                "charge": {metric: str(amount) for metric, amount in charge.items()},
            }
        )
    )
