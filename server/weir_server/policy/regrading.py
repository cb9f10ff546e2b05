# SPDX-License-Identifier: Apache-2.0
"""The grade that holds now: a dataset's own, the strictest that any version had, and what its sources pass on.

A certificate lifts what is passed on from IMPORTANT to GENERAL, for versions that rest on the very report it names, as
long as it is in force. It lifts neither a dataset's own grade nor CORE: those are red lines, and no document enters
them. Pure functions of catalogue, policy and time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from weir.certificates import Certificate, is_certified
from weir_server.catalog.card import DatasetCard, Grade
from weir_server.catalog.catalogue import Catalogue
from weir_server.policy.documents import Policy


def effective_grade(catalogue: Catalogue, policy: Policy, card: DatasetCard, *, now: datetime) -> Grade:
    """The grade under which a version with this card is answered at `now`."""
    inherited = _inherited(catalogue, policy, card, now=now, known={})
    return _effective(catalogue, policy, card, inherited, now=now)


def certificate_of(catalogue: Catalogue, policy: Policy, card: DatasetCard, *, now: datetime) -> Certificate | None:
    """The certificate that regrades this version at `now`, the one that holds longest; None where none does."""
    inherited = _inherited(catalogue, policy, card, now=now, known={})
    return _holding(policy, card, now=now) if inherited is Grade.IMPORTANT else None


def _effective(catalogue: Catalogue, policy: Policy, card: DatasetCard, inherited: Grade, *, now: datetime) -> Grade:
    if inherited is Grade.IMPORTANT and _holding(policy, card, now=now) is not None:
        inherited = Grade.GENERAL
    return _strictest([card.grade, *(old.card.grade for old in catalogue.datasets.get(card.name, ())), inherited])


def _inherited(
    catalogue: Catalogue, policy: Policy, card: DatasetCard, *, now: datetime, known: dict[str, Grade]
) -> Grade:
    """What the sources of any version pass on: a later card cannot forget one."""
    sources = (catalogue.sources(card.name) | set(card.derived_from)) - {card.name}
    return _strictest(_passed_on(catalogue, policy, name, now=now, known=known) for name in sorted(sources))


def _passed_on(catalogue: Catalogue, policy: Policy, name: str, *, now: datetime, known: dict[str, Grade]) -> Grade:
    """The strictest over all versions, since nobody says which one was used. An unknown dataset opens nothing.

    `known`: what was found so far. Each dataset is looked at once, and not once a version and way that leads to it: a
    grade is asked for at every query.
    """
    if name not in known:
        known[name] = Grade.CORE  # While it is looked at: a cycle, which activation refuses, opens nothing.
        versions = catalogue.datasets.get(name)
        if versions:
            inherited = _inherited(catalogue, policy, versions[0].card, now=now, known=known)
            known[name] = _strictest(_effective(catalogue, policy, v.card, inherited, now=now) for v in versions)
    return known[name]


def _strictest(grades: Iterable[Grade]) -> Grade:
    return max(grades, key=lambda grade: grade.value, default=Grade.GENERAL)


def _holding(policy: Policy, card: DatasetCard, *, now: datetime) -> Certificate | None:
    if card.anonymisation is None:
        return None
    report = card.anonymisation.report
    found = [
        certificate
        for certificate in policy.certificates.values()
        if certificate.dataset == card.name and certificate.report == report and certificate.holds_at(now)
    ]
    return max(found, key=lambda certificate: (certificate.valid_until, certificate.id), default=None)


def certificate_faults(policy: Policy, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Subject and sentence of everything for which a certificate is worth nothing."""
    for certificate in policy.certificates.values():
        for sentence in _faults(certificate, policy, catalogue):
            yield f"certificate/{certificate.id}", sentence


def _faults(certificate: Certificate, policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    party = policy.parties.get(f"provider/{certificate.issued_by}")
    if party is None or certificate.public_key not in party.signing_keys:
        yield f"is signed under a key that no party document gives provider {certificate.issued_by}"
    if not is_certified(certificate):
        yield "has a signature that does not verify on these terms"
    versions = catalogue.datasets.get(certificate.dataset, ())
    based = [old.basis for old in versions if old.basis is not None and old.basis.kind == "anonymisation"]
    levels = {basis.level for basis in based if basis.digest == certificate.report}
    if not levels:
        yield f"rests on a report on which no version of {certificate.dataset} was published"
    elif certificate.level not in levels:
        yield "states another level than the report"
    origins = catalogue.origins(certificate.dataset)
    if any(old.card.grade is Grade.CORE for name in origins for old in catalogue.datasets.get(name, ())):
        yield "would regrade what was made from CORE data, a red line"
    if origins == {certificate.dataset}:
        yield "regrades a dataset that is derived from no other: its own grade stays"
