# SPDX-License-Identifier: Apache-2.0
"""The tutorial contracts in a running domain: their cards published from synthetic rows that the sandbox draws from
them, their policy applied, their contracts signed by both parties and active.

    async with tutorial_domain(tmp_path, "health") as domain:
        for question in questions("health"):
            assert await verdict(domain, question) == question.verdict
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass, replace
from datetime import timedelta
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import yaml

from tests.support.agreements import move, sign
from tests.support.domain import DOMAIN, OLGA, OSCAR, Domain, open_domain, submit
from tests.support.exact import write_csv
from weir.amounts import parse_epsilon
from weir.canonical import digest
from weir.certificates import Certificate, certificate_json, sign_certificate
from weir.errors import ApprovalRequired, DenialReason, PolicyDenied, WeirError
from weir.v1 import policy_service_pb2
from weir_client._sql import parse
from weir_client.cli import cli
from weir_client.cli.operate import read_documents
from weir_server.assess.assessment import Questions, assess
from weir_server.catalog.card import DatasetCard, Mode
from weir_server.catalog.card_file import load_card, parse_card
from weir_server.dp.store import BoundedStores
from weir_server.dp.technique import DpTechnique
from weir_server.exact.store import Stores
from weir_server.exact.technique import ExactTechnique
from weir_server.plan.values import EncryptedTerms, Principal, Submission
from weir_server.policy.contract import Contract
from weir_server.policy.decide import Allow, Deny, NeedsApproval, decide
from weir_server.publish.publisher import publish
from weir_server.sandbox.rows import columns_of, rows_of

FOLDER = Path(__file__).parents[2] / "examples" / "contracts"
CASES = ("credit", "health", "statistics")
CERTIFIED_DAYS = 20
"""Validity of the certificate of the health case, from the domain's first instant; shorter than its contract."""
LEVEL = 3
"""Level of its report: of more than twenty synthetic patients in each class."""
SALT = b"salt of the tutorial's tests"
WITHDRAWN_EVERY = 50
"""Every so many-th unit has taken its consent back."""
_BLOCK = re.compile(r"((?:--[^\n]*\n)+)([^;]+);", flags=re.MULTILINE)
_LINE = re.compile(r"-- (ask|verdict|then): (.*)")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a case's `questions.sql`."""

    sql: str
    ask: Mapping[str, Any]
    """Options of its `weir query` or `weir encrypted`, by name, as the command itself reads them."""
    encrypted: bool
    verdict: str
    """As the file says it."""
    then: Mapping[str, Any] | None
    """Options of the `weir approvals approve` that answers it; None for an approval of this very question."""


def questions(case: str) -> tuple[Question, ...]:
    """Questions of a case, in order."""
    text = (FOLDER / case / "questions.sql").read_text(encoding="utf-8")
    found = tuple(_question(comment, sql) for comment, sql in _BLOCK.findall(text))
    if len(found) != text.count(";\n"):
        raise ValueError(f"questions.sql of {case}: a statement without comment")
    return found


def _question(comment: str, sql: str) -> Question:
    lines = dict(_LINE.findall(comment))
    ask, then = shlex.split(lines["ask"]), shlex.split(lines.get("then", ""))
    return Question(
        sql=sql.strip(),
        ask=_options([*ask, sql]),
        encrypted=ask[:2] == ["weir", "encrypted"],
        verdict=lines["verdict"],
        then=_options(then) if then else None,
    )


def _options(line: list[str]) -> dict[str, Any]:
    """What the command of this line makes of its options; click refuses what it does not know."""
    program, *words = line
    command: click.Command = cli
    context = click.Context(cli, info_name=program)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command, context = found, click.Context(found, parent=context)
    with TemporaryDirectory() as scratch, chdir(scratch):
        for word in words:
            if word.endswith((".json", ".key")):  # Commands look whether their files are there.
                Path(word).touch()
        return command.make_context(program, words).params


def documents(case: str) -> list[str]:
    """Policy documents of a case, as `weir apply` reads its folder."""
    return read_documents((FOLDER / case / "policy",))


def seed_of(party: str) -> bytes:
    """Private half of a party's key in the tutorial: made from its name, so that nobody takes it for a secret."""
    return hashlib.sha256(f"weir tutorial key of {party}".encode()).digest()


@asynccontextmanager
async def tutorial_domain(directory: Path, case: str) -> AsyncIterator[Domain]:
    """The case's domain, ready to be asked; closed afterwards."""
    data = directory / "data"
    data.mkdir()
    dp = DpTechnique(BoundedStores())
    domain = open_domain(data, techniques={Mode.EXACT: ExactTechnique(stores=Stores()), Mode.DP: dp})
    try:
        texts = documents(case)
        await _publish(domain, load_card(FOLDER / case / "card.yaml"), directory)
        if (FOLDER / case / "general.yaml").exists():
            texts.append(await _publish_general(domain, FOLDER / case / "general.yaml", directory))
        await domain.apply(*texts)
        for contract in domain.state.world.policy.contracts.values():
            await _agree(domain, contract)
        yield domain
        await domain.pipeline.turns.drain(seconds=10)
    finally:
        dp.close()
        domain.store.close()


async def _publish(domain: Domain, card: DatasetCard, directory: Path) -> None:
    """Publish and activate version 1 from the synthetic rows of the card."""
    if not (directory / card.source.location).exists():
        write_sources(card, directory)
    published = publish(
        card, card_directory=directory, data_dir=domain.directory, version=1, previous=None, now=domain.clock(),
        salt=SALT, threads=1,
    )  # fmt: skip
    await domain.activate(card, digest=published.manifest_digest)


def write_sources(card: DatasetCard, directory: Path) -> None:
    """The card's source and consent register, as files beside it."""
    names = [column.name for column in columns_of(card)]
    rows = [dict(zip(names, row, strict=True)) for row in rows_of(card, seed="tutorial")]
    write_csv(directory / card.source.location, rows)
    if card.consent is None:
        return
    units = sorted({str(row[card.unit_column]) for row in rows}, key=int)
    entries = [_entry(card, unit, withdrawn=at % WITHDRAWN_EVERY == 0) for at, unit in enumerate(units)]
    write_csv(directory / card.consent.source.location, entries)


def _entry(card: DatasetCard, unit: str, *, withdrawn: bool) -> dict[str, str | None]:
    """One unit's row in the register."""
    consent = card.consent
    assert consent is not None
    entry: dict[str, str | None] = {
        consent.unit: unit, consent.order: "1", consent.text_version: "3", consent.channel: "paper",
    }  # fmt: skip
    if consent.status:
        entry[consent.status] = "withdrawn" if withdrawn else consent.in_force[0]
    if consent.withdrawn:
        entry[consent.withdrawn] = "2026-01-01T00:00:00Z" if withdrawn else None
    if consent.purpose:
        entry[consent.purpose] = consent.purposes[0]
    return entry


async def _publish_general(domain: Domain, path: Path, directory: Path) -> str:
    """What the health case's README says: assess, add the report to the card, publish, certify; the certificate."""
    card = _with_report(path, directory, data_dir=domain.directory)
    await _publish(domain, card, directory)
    assert card.anonymisation is not None
    now = domain.clock()
    terms = Certificate(
        id="patients-2026",
        dataset=card.name,
        report=card.anonymisation.report,
        level=LEVEL,
        issued_by="city-hospital",
        valid_from=now,
        valid_until=now + timedelta(days=CERTIFIED_DAYS),
        public_key=b"",
    )
    certificate = sign_certificate(terms, seed=seed_of("city-hospital"))
    return yaml.safe_dump({"kind": "certificate", **certificate_json(certificate)})


def _with_report(path: Path, directory: Path, *, data_dir: Path) -> DatasetCard:
    """The card, with the line that `weir assess` prints of its synthetic rows."""
    card = load_card(path, to_assess=True)
    write_sources(card, directory)
    asked = Questions(quasi=("sex", "age"), sensitive=("emergency",))
    report = assess(card, asked, card_directory=directory, data_dir=data_dir, salt=SALT, threads=1)
    (directory / "report.json").write_bytes(report)
    line = f"anonymisation: {{report: {digest(report)}, file: report.json}}\n"
    return parse_card(path.read_text(encoding="utf-8") + line)


async def _agree(domain: Domain, contract: Contract) -> None:
    if contract.signatures == "none":
        return
    for role, name in (("provider", contract.provider), ("requester", contract.requester)):
        await sign(domain, Principal(name, role, DOMAIN), contract=contract.id, seed=seed_of(name))
    await move(domain, "active", contract=contract.id)


def submission(domain: Domain, question: Question) -> Submission:
    """The question as its requester sends it."""
    ask, query = question.ask, parse(question.sql).query
    contract = domain.state.world.policy.contracts[ask["contract"]]
    made = submit(
        query,
        contract=contract.id,
        who=Principal(contract.requester, "requester", DOMAIN),
        epsilon=None if ask["epsilon"] is None else parse_epsilon(ask["epsilon"], field="epsilon"),
        mode=None if ask["mode"] is None else Mode(ask["mode"]),
        purpose=ask["purpose"] or "",
    )
    if not question.encrypted:
        return made
    card = domain.state.world.catalogue.datasets[query.dataset][0].card
    cells = prod(len(found.cells) for name in query.group_by if (found := card.dimension(name)) is not None)
    terms = EncryptedTerms(
        "weights", "sha256:" + "0" * 64, weights=cells, weight_bits=ask["weight_bits"], key_bits=3072,
        key_owners=frozenset({contract.requester}),
    )  # fmt: skip
    return replace(made, encrypted=terms)


async def verdict(domain: Domain, question: Question, **changed: Any) -> str:
    """What becomes of a question, in the words of `questions.sql`. Approved by as many persons as it needs, it must be
    answered; encrypted ones are judged only. `changed`: facts that differ; then, too, it is judged only."""
    asked = submission(domain, question)
    try:
        judged = await domain.pipeline.judge(asked)
    except PolicyDenied as error:
        return _refused(error.reasons)
    except WeirError as error:
        return f"refused: {error.rule}"
    decision = judged.decision
    if changed:
        decision = decide(replace(judged.facts, **changed), judged.contract, policy_digest=decision.policy_digest)
    if isinstance(decision, Deny):
        return _refused(decision.reasons)
    told = _told(decision)
    if question.encrypted or changed:
        return told
    try:
        await domain.pipeline.run(asked)
    except ApprovalRequired as error:
        await _approve(domain, question, error.metadata["approval"], price_micro=judged.plan.charge["price_micro"])
        await domain.pipeline.run(asked)
        return told
    return "allowed" if isinstance(decision, Allow) else "allowed by template"


def _told(decision: Allow | NeedsApproval) -> str:
    if isinstance(decision, Allow):
        return "allowed"
    return f"needs approval by {decision.persons}: {', '.join(reason.code for reason in decision.reasons)}"


def _refused(reasons: Sequence[DenialReason]) -> str:
    return f"refused: {', '.join(reason.code for reason in reasons)}"


async def _approve(domain: Domain, question: Question, approval: str, *, price_micro: int) -> None:
    """As many persons as are needed approve, on the terms that the file states."""
    terms: dict[str, Any] = {}
    if question.then is not None:
        given = question.then
        terms["standing"] = policy_service_pb2.StandingTerms(
            free_columns=given["free"], uses=given["uses"], days=given["days"], price_micro=price_micro
        )
    for person in (OLGA, OSCAR)[: domain.approval(approval).approvers]:
        await domain.settle(approval, who=person, **terms)
