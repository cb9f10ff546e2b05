# SPDX-License-Identifier: Apache-2.0
"""Documents read together: what did not change is not read again, and faults are told by number each time."""

import pytest

from tests.support.domain import contract_document
from weir.errors import InvalidRequest
from weir.wire import error_from_status, error_to_status
from weir_server.policy import documents


def test_only_documents_that_changed_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    honest = documents.load_document

    def counted(text: str, number: int) -> object:
        read.append(number)
        return honest(text, number)

    monkeypatch.setattr(documents, "load_document", counted)
    texts = [contract_document(f"only-changed-{number}", requester="alice") for number in range(5)]
    first = documents.parse_documents(texts)
    assert len(read) == 5
    texts[2] = contract_document("only-changed-2", requester="bob")
    second = documents.parse_documents(texts)
    assert len(read) == 6
    assert second.contracts["only-changed-2"].requester == "bob"
    assert first.contracts["only-changed-2"].requester == "alice"
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "faulty", ["kind: contract\n", "kind: nothing\n", "- a list\n"], ids=["contract", "kind", "list"]
)
def test_a_faulty_document_is_named_by_its_number_however_often_it_comes(faulty: str) -> None:
    fine = contract_document("numbered", requester="alice")
    for texts, number in (([faulty], 1), ([fine, faulty], 2), ([faulty, fine], 1)):
        with pytest.raises(InvalidRequest, match=f"document {number}"):
            documents.parse_documents(texts)


def test_one_name_twice_is_refused() -> None:
    text = contract_document("twice", requester="alice")
    with pytest.raises(InvalidRequest, match="twice is defined twice"):
        documents.parse_documents([text, text])


def test_what_is_no_yaml_is_told_with_line_and_problem_beside_every_other_fault() -> None:
    with pytest.raises(InvalidRequest) as caught:
        documents.parse_documents(["kind: contract\ntitle: [a\npurposes: b\n", "kind: nonsense\n"])
    first, second = caught.value.findings
    assert first.startswith("document 1 is no YAML at line 3, column")
    assert second.startswith("document 2: kind must be one of")


def test_more_faults_than_a_refusal_can_carry_are_counted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        documents.parse_documents(["kind: nonsense\n"] * 40)
    carried = error_from_status(error_to_status(caught.value))
    assert isinstance(carried, InvalidRequest)
    assert carried.findings == caught.value.findings
    assert (len(carried.findings), carried.findings[-1]) == (16, "and 25 more")
