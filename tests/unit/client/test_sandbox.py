# SPDX-License-Identifier: Apache-2.0
import json

import pytest

import weir_client
from tests.support.client import census_card
from weir import errors
from weir.v1 import answer_pb2, catalogue_service_pb2, query_service_pb2
from weir_client.testing import MockTransport

SQL = "SELECT region, COUNT(*) AS n FROM census GROUP BY region ORDER BY n DESC"


def reply(*, sandbox: bool = True, dataset: str = "census") -> answer_pb2.Answer:
    answer = answer_pb2.Answer(dataset=dataset, snapshot=1, mode=answer_pb2.MODE_EXACT, sandbox=sandbox)
    answer.keys.add(name="region").cells.add(text="north")
    answer.keys[0].cells.add(text="south")
    answer.values.add(name="count", numerators=["40", "60"])
    return answer


def transport(answer: answer_pb2.Answer) -> MockTransport:
    response = query_service_pb2.RunSandboxQueryResponse(answer=answer.SerializeToString())
    return MockTransport({"QueryService/RunSandboxQuery": lambda request: response})


def test_a_sandbox_answers_as_a_query_does():
    with weir_client.Client(transport(reply())) as client:
        job = client.sandbox("census").query(SQL)
        answer = job.result(10)
    assert answer.rows() == [("south", 60), ("north", 40)]
    assert answer.column_names == ("region", "n")


def test_its_answers_are_marked_wherever_they_are_shown():
    with weir_client.Client(transport(reply())) as client:
        answer = client.sandbox("census").query(SQL).result(10)
    assert answer.sandbox
    assert repr(answer).startswith("<SANDBOX answer of synthetic rows, census@1")
    assert "SANDBOX: synthetic rows" in str(answer)
    assert "SANDBOX: synthetic rows" in answer._repr_html_()
    assert "SANDBOX" in answer.to_pandas().attrs["sandbox"]


def test_there_is_no_receipt_no_price_and_nothing_to_verify():
    with weir_client.Client(transport(reply())) as client:
        answer = client.sandbox("census").query(SQL).result(10)
        for act in (lambda: answer.receipt, answer.verify, lambda: client.verify(answer)):
            with pytest.raises(errors.InvalidReceipt, match="synthetic") as refused:
                act()
            assert refused.value.rule == "sandbox.receipt"
    assert answer.price is None


def test_a_real_answer_is_not_marked(client):
    answer = client.query(SQL, contract="c-1").result(10)
    assert not answer.sandbox
    assert "SANDBOX" not in f"{answer!r}{answer}"
    assert "sandbox" not in answer.to_pandas().attrs


@pytest.mark.parametrize("answer", [reply(sandbox=False), reply(dataset="other")], ids=["unmarked", "other dataset"])
def test_a_reply_that_is_not_of_this_sandbox_is_refused(answer):
    with weir_client.Client(transport(answer)) as client, pytest.raises(errors.InvalidReceipt) as refused:
        client.sandbox("census").query(SQL).result(10)
    assert refused.value.rule == "sandbox.answer"


def test_synthetic_numbers_do_not_pass_for_an_answer_to_a_real_query(domain, client):
    def answer_of_the_sandbox(request):
        answer = reply().SerializeToString()
        index = domain._charge(answer, request.envelope)
        return query_service_pb2.RunQueryResponse(answer=answer, receipt=domain.log.receipt(index))

    domain.RunQuery = answer_of_the_sandbox
    with pytest.raises(errors.InvalidReceipt) as refused:
        client.query(SQL, contract="c-1").result(10)
    assert refused.value.rule == "sandbox.answer"


def test_what_belongs_to_a_real_question_is_taken_and_not_sent():
    wire = transport(reply())
    with weir_client.Client(wire) as client:
        box = client.sandbox("census")
        box.query(SQL, contract="c-1", purpose="p", max_price="1", idempotency_key="k" * 20).result(10)
        box.query("SELECT region, COUNT(*) AS n FROM census GROUP BY region", mode="dp", epsilon="0.5").result(10)
    (_, first), (_, second) = wire.requests
    assert (first.envelope.contract, first.envelope.purpose) == ("", "")
    assert not first.envelope.HasField("max_price_micro")
    assert second.envelope.epsilon_nano == 500_000_000


@pytest.mark.parametrize(
    ("sql", "terms", "kind"),
    [
        ("SELECT COUNT(*) FROM elsewhere", {}, errors.InvalidQuery),
        ("SELECT *", {}, errors.InvalidQuery),
        (SQL, {"mode": "fast"}, errors.InvalidRequest),
        (SQL, {"epsilon": 0}, errors.InvalidRequest),
    ],
    ids=["another dataset", "no query", "mode", "epsilon"],
)
def test_what_the_client_sees_to_be_wrong_is_refused_at_once(sql, terms, kind):
    wire = transport(reply())
    with weir_client.Client(wire) as client, pytest.raises(kind):
        client.sandbox("census").query(sql, **terms)
    assert wire.requests == []


async def test_the_sandbox_of_an_event_loop_is_awaited():
    response = query_service_pb2.RunSandboxQueryResponse(answer=reply().SerializeToString())

    class Wire:
        async def call(self, effect):
            return response

        async def close(self):
            pass

    async with weir_client.aio.Client(Wire()) as client:
        answer = await client.sandbox("census").query(SQL)
    assert answer.sandbox


def test_an_export_is_the_services_text():
    def export(request):
        return catalogue_service_pb2.ExportCatalogueResponse(document=f"{request.format} {request.dataset}")

    with weir_client.Client(MockTransport({"CatalogueService/ExportCatalogue": export})) as client:
        assert client.export_catalogue() == "dcat "
        assert client.export_catalogue("odcs", "census") == "odcs census"


def test_a_card_comes_with_all_that_it_says():
    card = census_card()
    card.unit_namespace, card.update_frequency = "national-id", "yearly"
    card.quality["completeness"] = "Everybody counted."
    card.list_rates.currency, card.list_rates.per_query_micro = "CNY", 500_000
    card.derived_from.append("register")
    card.effective_grade = catalogue_service_pb2.GRADE_IMPORTANT
    card.processing_basis, card.basis_digest = "consent", "ab" * 32
    card.certified_until.FromJsonString("2027-01-01T00:00:00Z")
    response = catalogue_service_pb2.GetDatasetResponse(dataset=card)
    with weir_client.Client(MockTransport({"CatalogueService/GetDataset": lambda request: response})) as client:
        shown = client.dataset("census")
    assert (shown.unit_namespace, shown.update_frequency, shown.derived_from) == (
        "national-id",
        "yearly",
        ("register",),
    )
    assert shown.quality == {"completeness": "Everybody counted."}
    assert shown.list_rates == weir_client.RateCard("CNY", 500_000, 0, 0, 0)
    assert (shown.grade, shown.effective_grade) == ("general", "important")
    assert (shown.processing_basis, shown.basis_digest) == ("consent", "ab" * 32)
    assert shown.certified_until is not None
    assert shown.certified_until.year == 2027


def test_a_card_of_an_older_service_holds_its_own_grade():
    response = catalogue_service_pb2.GetDatasetResponse(dataset=census_card())
    with weir_client.Client(MockTransport({"CatalogueService/GetDataset": lambda request: response})) as client:
        shown = client.dataset("census")
    assert (shown.effective_grade, shown.list_rates, shown.certified_until) == ("general", None, None)


def test_the_command_line_marks_a_sandbox_answer(weir, domain):
    response = query_service_pb2.RunSandboxQueryResponse(answer=reply().SerializeToString())
    domain.RunSandboxQuery = lambda request: response
    code, out, _ = weir("sandbox", SQL)
    assert code == 0
    assert "south   60" in out
    assert "SANDBOX: synthetic rows" in out
    code, out, _ = weir("sandbox", SQL, "--json")
    document = json.loads(out)
    assert document["sandbox"] is True
    assert document["rows"] == [["south", 60], ["north", 40]]
    assert "log_index" not in document


def test_a_name_alone_shows_its_card_and_none_lists_them(weir, domain):
    card = census_card()
    card.quality["completeness"] = "Everybody counted."
    card.list_rates.currency, card.list_rates.per_epsilon_micro = "CNY", 12_000_000
    domain.GetDataset = lambda request: catalogue_service_pb2.GetDatasetResponse(dataset=card)
    code, out, _ = weir("datasets", "census")
    assert code == 0
    for words in ("general (GB/T 43697-2024)", "Everybody counted.", "CNY 12 a ε", "sha256:ab", "north, south"):
        assert words in out, words
    assert weir("datasets", "show", "census")[1] == out
    assert json.loads(weir("datasets", "census", "--json")[1])["name"] == "census"
    assert "census_b" in weir("datasets")[1]
    assert "census_b" in weir("datasets", "--search", "census")[1]
    assert "export" in weir("datasets", "--help")[1]


def test_an_export_goes_to_the_terminal_or_into_a_file(weir, domain, tmp_path):
    domain.ExportCatalogue = lambda request: catalogue_service_pb2.ExportCatalogueResponse(
        document=f"{request.format} {request.dataset} 目录\n"
    )
    assert weir("datasets", "export")[:2] == (0, "dcat  目录\n")
    target = tmp_path / "census.yaml"
    code, out, _ = weir("datasets", "export", "census", "--format", "odcs", "-o", target)
    assert (code, out) == (0, f"written to {target}\n")
    assert target.read_text(encoding="utf-8") == "odcs census 目录\n"
    second = tmp_path / "all.json"
    document = json.loads(weir("datasets", "export", "-o", second, "--json")[1])
    assert document == {"file": str(second), "format": "dcat", "dataset": ""}
