# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import errors
from weir.query import query_json
from weir_client import aio
from weir_client._shares import with_shares
from weir_client._sql import parse

SQL = "SELECT region, SUM(income) AS usd, COUNT(*) AS years, AVG(income) FROM census GROUP BY region"

PAIR = "SELECT region, SUM(income) AS usd, COUNT(*) AS years FROM census GROUP BY region"


def weights(sql, shares):
    return {aggregate.name: aggregate.weight for aggregate in with_shares(parse(sql), shares).query.aggregates}


def test_shares_go_to_aggregates_by_the_names_of_the_select_list():
    assert weights(SQL, {"usd": 3, "avg(income)": 2}) == {"sum(income)": 3, "count": 1, "avg(income)": 2}
    assert weights(SQL, {}) == {"sum(income)": 1, "count": 1, "avg(income)": 1}


def test_columns_that_show_one_aggregate_have_one_share():
    sql = "SELECT SUM(income) AS a, SUM(income) AS b, COUNT(*) AS n FROM census"
    once = with_shares(parse("SELECT COUNT(*), SUM(income) FROM census"), {"sum(income)": 4})
    for shares in ({"a": 4}, {"b": 4}, {"a": 4, "b": 4}, {"b": 4, "n": 1}):
        found = with_shares(parse(sql), shares)
        assert query_json(found.query) == query_json(once.query)
        assert [output.name for output in found.presentation.columns] == ["a", "b", "n"]
    with pytest.raises(errors.InvalidRequest) as caught:
        with_shares(parse(sql), {"a": 4, "b": 1})
    assert (caught.value.rule, caught.value.field) == ("shares.conflict", "shares")


@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 50))
def test_equal_ratios_are_one_canonical_query(first, second, factor):
    sql = "SELECT SUM(income) AS a, COUNT(*) AS b FROM census"
    plain = with_shares(parse(sql), {"a": first, "b": second})
    scaled = with_shares(parse(sql), {"a": first * factor, "b": second * factor})
    assert query_json(plain.query) == query_json(scaled.query)
    assert weights(sql, {"a": factor, "b": factor}) == {"sum(income)": 1, "count": 1}


@pytest.mark.parametrize(
    ("shares", "rule"),
    [
        ({"eur": 1}, "shares.column"),
        ({"region": 1}, "shares.column"),
        ({"sum(income)": 1}, "shares.column"),
        ({"": 1}, "shares.column"),
        ({"usd": 0}, "shares.range"),
        ({"usd": -1}, "shares.range"),
        ({"usd": 1001}, "shares.range"),
        ({"usd": 1.5}, "shares.range"),
        ({"usd": True}, "shares.range"),
        ({"usd": "3"}, "shares.range"),
    ],
    ids=str,
)
def test_other_shares_are_refused_at_once(client, domain, shares, rule):
    for ask in (client.query, client.estimate):
        with pytest.raises(errors.InvalidRequest) as caught:
            ask(SQL, contract="c-1", epsilon="0.5", shares=shares)
        assert caught.value.rule == rule
    assert domain.requests == []


def test_an_exact_answer_has_no_budget_to_share(client):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.query(SQL, contract="c-1", mode="exact", shares={"usd": 2})
    assert caught.value.rule == "shares.mode"


def sent(domain, name):
    request = next(request for called, request in reversed(domain.requests) if called == name)
    return [(aggregate.measure, aggregate.weight) for aggregate in request.envelope.query.aggregates]


def test_every_kind_of_question_carries_them(client, domain, keypair, monkeypatch):
    client.query(PAIR, contract="c-1", mode="dp", epsilon="0.5", shares={"usd": 3}).result(20)
    client.estimate(PAIR, contract="c-1", epsilon="0.5", shares={"usd": 3})
    client.encrypted_query(PAIR, weights=[1, 1], keypair=keypair, contract="c-1", shares={"usd": 3}).result(60)
    monkeypatch.setattr(domain, "RunSealedQuery", lambda request: iter(()), raising=False)
    with pytest.raises(errors.InvalidReceipt):
        client.sealed_query(PAIR, to=keypair.public.key_id, contract="c-1", shares={"usd": 3}).result(20)
    for name in ("RunQuery", "EstimateQuery", "header", "RunSealedQuery"):
        assert sent(domain, name) == [("", 1), ("income", 3)], name


async def ask_aio(identity, state):
    async with aio.connect(identity=identity, state_dir=state) as client:
        await client.query(SQL, contract="c-1", mode="dp", epsilon="0.5", shares={"years": 2})


def test_the_event_loop_s_client_carries_them_too(client, domain, state):
    import asyncio

    asyncio.run(ask_aio(client.identity, state))
    assert sent(domain, "RunQuery") == [("income", 1), ("", 2), ("income", 1)]


def test_the_command_line_takes_shares(domain, tmp_path, monkeypatch, capsys):
    from tests.support.client import identity_file
    from weir_client import cli

    monkeypatch.setenv("WEIR_IDENTITY", str(identity_file(domain, tmp_path)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    asked = ["query", SQL, "-c", "c-1", "--mode", "dp", "--epsilon", "0.5", "--json"]
    assert cli.run([*asked, "--share", "usd=3", "--share", "avg(income)=2"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["region", "usd", "years", "avg(income)"]
    assert sent(domain, "RunQuery") == [("income", 2), ("", 1), ("income", 3)]
    for wrong in (["usd"], ["=3"], ["usd=x"], ["usd=-1"], ["usd=0"], ["usd=²"], ["eur=1"], ["usd=1", "usd=2"]):
        assert cli.run([*asked, *(part for text in wrong for part in ("--share", text))]) == 2, wrong
