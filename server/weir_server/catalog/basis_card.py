# SPDX-License-Identifier: Apache-2.0
"""`consent:`, `anonymisation:` and `derived_from:` of a card: read from YAML, to and from JSON, and their rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from weir.amounts import parse_decimal
from weir.errors import InvalidQuery, InvalidRequest, Violation
from weir.query import check_name
from weir_server.catalog.basis import MOST_RISK_PPM, Anonymisation, Consent
from weir_server.catalog.card import DatasetCard, Grade, Source
from weir_server.catalog.card_reader import Fields

PPM = 10**6
_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_consent(fields: Fields, read_source: Callable[[Fields], Source]) -> Consent | None:
    """The card's consent register; None where it declares none."""
    if not fields.has("consent"):
        fields.raw("consent", "")
        return None
    section = fields.section("consent")
    consent = Consent(
        source=read_source(section.section("source")),
        unit=section.text("unit"),
        order=section.text("order"),
        text_version=section.text("text_version"),
        channel=section.text("channel"),
        status=section.text("status", ""),
        in_force=section.items("in_force", lambda item, _path: str(item), required=False),
        valid_from=section.text("valid_from", ""),
        valid_until=section.text("valid_until", ""),
        withdrawn=section.text("withdrawn", ""),
        purpose=section.text("purpose", ""),
        purposes=section.items("purposes", lambda item, _path: str(item), required=False),
    )
    section.finish()
    return consent


def read_anonymisation(fields: Fields) -> Anonymisation | None:
    """The card's anonymisation report; None where it declares none."""
    if not fields.has("anonymisation"):
        fields.raw("anonymisation", "")
        return None
    section = fields.section("anonymisation")
    anonymisation = Anonymisation(
        report=section.text("report"),
        file=section.text("file"),
        most_risk_ppm=_share(section, "most_risk", "0.05"),
        least_l=section.integer("least_l", 1),
        most_t_ppm=_share(section, "most_t", "1"),
    )
    section.finish()
    return anonymisation


def _share(fields: Fields, key: str, default: str) -> int:
    try:
        return parse_decimal(fields.text(key, default), unit=PPM, field=key)
    except InvalidRequest as error:
        fields.refuse(f"anonymisation.{key}", fields.at(key), error.message)
        return 0


def read_derived_from(fields: Fields) -> tuple[str, ...]:
    """Datasets that this one was derived from."""
    return fields.items("derived_from", lambda item, _path: str(item), required=False)


def basis_to_json(card: DatasetCard) -> dict[str, Any]:
    """The keys of a card's JSON that this module owns."""
    consent = card.consent
    return {
        "consent": None if consent is None else {**asdict(consent), "source": source_to_json(consent.source)},
        "anonymisation": None if card.anonymisation is None else asdict(card.anonymisation),
        "derived_from": list(card.derived_from),
    }


def source_to_json(source: Source) -> dict[str, str]:
    """JSON object of a source; without what only later releases know, where it says nothing new."""
    later = {} if source.delimiter == "," else {"delimiter": source.delimiter}
    return {"kind": source.kind, "location": source.location, "table": source.table, **later}


def basis_from_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a card by name. Manifests written before they existed have none of them, and still open."""
    consent, anonymisation = content.get("consent"), content.get("anonymisation")
    return {
        "consent": None if consent is None else _consent(consent),
        "anonymisation": None if anonymisation is None else Anonymisation(**anonymisation),
        "derived_from": tuple(content.get("derived_from", ())),
    }


def _consent(content: Mapping[str, Any]) -> Consent:
    lists = {key: tuple(content[key]) for key in ("in_force", "purposes")}
    return Consent(**{**content, **lists, "source": Source(**content["source"])})


def basis_rules(card: DatasetCard) -> Iterator[Violation]:
    """What a card's processing basis must obey. CORE data is never read, so it needs none."""
    unfounded = card.consent is None and card.anonymisation is None
    if card.personal_information and card.grade is not Grade.CORE and unfounded:
        yield _broken(
            "basis.missing", "personal_information", "personal information needs `consent:` or `anonymisation:`"
        )
    if card.consent is not None and card.anonymisation is not None:
        yield _broken("basis.both", "consent", "state one basis: a report speaks of all rows, a register of some")
    if card.consent is not None:
        yield from _consent_rules(card.consent)
        if (card.consent.source.kind == "spark") != (card.source.kind == "spark"):
            yield _broken("consent.source", "source", "data and register are both on the cluster, or neither is")
    if card.anonymisation is not None:
        yield from _anonymisation_rules(card.anonymisation)
    yield from _derived_rules(card)


def _consent_rules(consent: Consent) -> Iterator[Violation]:
    for key in ("unit", "order", "text_version", "channel"):
        if not getattr(consent, key).strip():
            yield _broken("consent.column", key, "a register has unit, order, text_version and channel")
    if bool(consent.status) != bool(consent.in_force):
        yield _broken("consent.status", "in_force", "a status column, and only one, takes the words that mean consent")
    if bool(consent.purpose) != bool(consent.purposes):
        yield _broken("consent.purposes", "purposes", "a purpose column, and only one, takes the purposes to read")
    if not consent.status and not consent.withdrawn:
        yield _broken("consent.withdrawal", "withdrawn", "a register can say that consent ended: status or withdrawn")


def _anonymisation_rules(anonymisation: Anonymisation) -> Iterator[Violation]:
    if not _DIGEST.fullmatch(anonymisation.report):
        yield _broken("anonymisation.report", "report", "the SHA-256 of the report, 64 hexadecimal digits")
    if not anonymisation.file.strip():
        yield _broken("anonymisation.file", "file", "the path of the report, relative to the card")
    if not 0 < anonymisation.most_risk_ppm <= MOST_RISK_PPM:
        yield _broken("anonymisation.most_risk", "most_risk", "above 0, at most 0.05")
    if anonymisation.least_l < 1:
        yield _broken("anonymisation.least_l", "least_l", "at least 1")
    if not 0 <= anonymisation.most_t_ppm <= PPM:
        yield _broken("anonymisation.most_t", "most_t", "between 0 and 1")


def _derived_rules(card: DatasetCard) -> Iterator[Violation]:
    for name in card.derived_from:
        try:
            check_name(name, field="derived_from")
        except InvalidQuery as error:
            yield _broken("derived.name", name, error.message)
    if len(set(card.derived_from)) != len(card.derived_from) or card.name in card.derived_from:
        yield _broken("derived.names", "derived_from", "names of other datasets, once each")


def _broken(rule: str, subject: str, sentence: str) -> Violation:
    return Violation(rule=rule, subject=subject, count=0, sentence=sentence)
