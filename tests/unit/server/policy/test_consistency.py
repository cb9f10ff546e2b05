# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.agreements import PARTIES, SEEDS, party_document, signed_document
from tests.support.bound import catalogue
from tests.support.domain import Domain, contract_document, dp_contract_document, running_domain
from weir.agreements import format_signing_key, public_key_of
from weir.errors import InvalidRequest
from weir_server.policy.consistency import check_policy
from weir_server.policy.documents import parse_documents

START = datetime(2026, 6, 1, tzinfo=UTC)


def findings(*documents: str) -> list[tuple[str, str, bool]]:
    found = check_policy(parse_documents(list(documents)), catalogue(), now=START)
    return [(finding.subject, finding.sentence, finding.refuses) for finding in found]


def test_documents_that_fit_give_no_finding() -> None:
    assert findings(signed_document(regions=["CN"]), dp_contract_document(), *PARTIES) == []


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([signed_document()], "signed by its provider hospital, which has no party document"),
        ([signed_document(), party_document("hospital", "provider")], "signed by its requester alice"),
        ([signed_document(), *PARTIES[1:], party_document(signing_keys=[])], "no signing key"),
        ([signed_document(), party_document(), party_document("hospital", "requester")], "provider hospital"),
        ([contract_document(regions=["CN"])], "no party document that says where it is"),
        (
            [contract_document(rates={"currency": "yuan"})],
            "states the currency 'yuan', which must be three capital letters",
        ),
        (
            [party_document(), party_document("bob", signing_keys=[format_signing_key(public_key_of(SEEDS["alice"]))])],
            "a signing key that requester/alice has too",
        ),
    ],
    ids=["nobody", "no requester", "no key", "another role", "regions", "currency", "one key of two"],
)
def test_a_policy_that_could_not_work_is_refused(documents: list[str], words: str) -> None:
    found = findings(*documents)
    assert any(words in sentence and refuses for _, sentence, refuses in found), found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "unheard_of"}, "not published yet"),
        ({"modes": ["dp"], "epsilon": {"total": "1", "per_query": "1"}}, "does not answer in mode dp"),
        ({"valid_until": "2026-02-01T00:00:00+00:00"}, "ended at 2026-02-01T00:00:00+00:00: nothing is answered"),
        ({"k": 11}, "asks for k 11, the dataset keeps 10"),
        ({"dimensions": ["site", "street"]}, "no dimensions street"),
        ({"measures": ["visits", "weight"]}, "no measures weight"),
        ({"regions": ["DE", "CN-11"]}, "its requester is in CN-31"),
    ],
    ids=str,
)
def test_what_will_answer_nothing_is_warned_of(change: dict[str, Any], words: str) -> None:
    found = findings(contract_document(**change), *PARTIES)
    assert [words in sentence and not refuses for _, sentence, refuses in found] == [True], found


async def test_plan_and_apply_refuse_what_does_not_fit_and_show_warnings(tmp_path: Any) -> None:
    async with running_domain(tmp_path) as domain:
        await refuse_unsigned(domain, dry_run=True)
        await refuse_unsigned(domain, dry_run=False)
        shown = await domain.apply(contract_document(k=11), dry_run=True)
        fields = next(change.fields for change in shown.changes if change.subject == "contract/c-1")
        assert fields[-1].startswith("warning: asks for k 11")


async def test_limits_are_shown_as_people_write_them_and_a_share_beyond_the_lineage_s_budget_is_warned_of(
    tmp_path: Any,
) -> None:
    async with running_domain(tmp_path) as domain:
        wanted = dp_contract_document("n-1", epsilon={"total": "40.5", "per_query": "1"})
        shown = {change.subject: list(change.fields) for change in (await domain.apply(wanted, dry_run=True)).changes}
    assert shown["quota/contract-n-1-epsilon"] == ["limit: none → 40.5 epsilon"]
    assert shown["contract/n-1"][-1] == "warning: its share of epsilon 40.5 is more than the lineage's 4 for life"


def test_a_domain_that_has_an_old_spelling_of_a_currency_in_force_still_reads_its_documents() -> None:
    assert parse_documents([contract_document(rates={"currency": "yuan"})]).contracts["c-1"].rates.currency == "yuan"


async def refuse_unsigned(domain: Domain, *, dry_run: bool) -> None:
    before = domain.state.world.policy
    with pytest.raises(InvalidRequest) as caught:
        await domain.apply(signed_document(), dry_run=dry_run)
    assert caught.value.rule == "policy.check"
    assert "contract/s-1 must be signed by its provider hospital" in caught.value.message
    assert domain.state.world.policy == before
