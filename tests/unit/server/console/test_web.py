# SPDX-License-Identifier: Apache-2.0
"""What stands between a browser and a screen: cookies, tokens, origins, proofs, sizes, rates, headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.console import HOST, ConsoleUnderTest, running_console
from tests.support.domain import contract_document
from weir_server.config import ConsoleSettings, Limits
from weir_server.console.headers import CONTENT_SECURITY_POLICY, HEADERS
from weir_server.console.limits import TRIES
from weir_server.console.screens import overview
from weir_server.identity import identities

STOP = {"act": "stop", "scope": "requester", "name": "alice", "reason": "test"}
NASTY = "<script>alert(1)</script>"


@pytest_asyncio.fixture
async def console(tmp_path: Path) -> AsyncIterator[ConsoleUnderTest]:
    documents = (contract_document("c-1", title=NASTY),)
    async with running_console(tmp_path, documents=documents) as running:
        yield running


def stopped(console: ConsoleUnderTest) -> bool:
    return ("requester", "alice") in console.domain.state.world.suspensions


async def test_a_form_of_this_page_does_what_it_says(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    reply = await browser.act("/stops", "/stops/set", STOP)
    assert (reply.status_code, reply.headers["location"]) == (303, "/stops")
    assert stopped(console)
    event = console.domain.events("weir.suspension.set")[-1]
    assert (event["data"]["actor"], event["data"]["role"], event["data"]["reason"]) == ("olga", "operator", "test")
    assert "alice" in (await browser.get("/stops")).text


async def test_pressing_twice_does_it_once(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    page = (await browser.get("/stops")).text
    hidden = {
        name: re.search(rf'name="{name}" value="([^"]+)"', page).group(1)  # type: ignore[union-attr]
        for name in ("csrf", "key")
    }
    for _ in range(2):
        assert (await browser.post("/stops/set", {**hidden, **STOP})).status_code == 303
    assert len(console.domain.events("weir.suspension.set")) == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"csrf": ""}, "console.csrf", id="no token"),
        pytest.param({"csrf": "0" * 64}, "console.csrf", id="another token"),
    ],
)
async def test_a_form_without_the_sessions_token_is_refused(
    console: ConsoleUnderTest, change: dict[str, str], rule: str
) -> None:
    browser = await console.signed_in("operator", "olga")
    reply = await browser.act("/stops", "/stops/set", {**STOP, **change})
    assert reply.status_code == 403
    assert rule in reply.text
    assert not stopped(console)


async def test_the_token_of_another_session_does_not_fit(console: ConsoleUnderTest) -> None:
    mine, hers = await console.signed_in("operator", "olga"), await console.signed_in("operator", "vera")
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', (await hers.get("/stops")).text)
    assert token is not None
    assert (await mine.act("/stops", "/stops/set", {**STOP, "csrf": token.group(1)})).status_code == 403
    assert not stopped(console)


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"http://{HOST}", f"https://{HOST}.evil"])
async def test_a_form_of_another_site_is_refused(console: ConsoleUnderTest, origin: str | None) -> None:
    browser = await console.signed_in("operator", "olga")
    page = (await browser.get("/stops")).text
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert token is not None
    reply = await browser.post("/stops/set", {**STOP, "csrf": token.group(1), "key": "k" * 20}, origin=origin)
    assert (reply.status_code, stopped(console)) == (403, False)
    code = await browser.post("/sign-in/code", {"code": console.code("operator", "eve")}, origin=origin)
    assert code.status_code == 403


async def test_what_changes_something_cannot_be_got_by_a_link(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    assert (await browser.get("/stops/set?act=stop&scope=requester&name=alice&reason=x")).status_code in (404, 405)
    assert not stopped(console)


async def test_a_link_prefetcher_does_not_use_up_a_code(console: ConsoleUnderTest) -> None:
    code, browser = console.code("operator", "olga"), console.browser()
    assert (await browser.get(f"/sign-in#{code}")).status_code == 200
    assert (await browser.get("/sign-in/code")).status_code in (404, 405)
    assert (await browser.post("/sign-in/code", {"code": code})).status_code == 303


async def test_the_cookie_is_bound_to_this_site_and_no_script_reads_it(console: ConsoleUnderTest) -> None:
    browser = console.browser()
    reply = await browser.post("/sign-in/code", {"code": console.code("auditor", "zhou")})
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("__Host-weir-console=")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=strict", "secure"}
    assert console.domain.events("weir.console.signed_in")[-1]["data"]["by"] == "code"


async def test_every_reply_forbids_storing_framing_and_whatever_comes_from_elsewhere(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("auditor")
    for path in ("/overview", "/quotas", "/nowhere", "/static/console.css", "/static/none", "/sign-in", "/", "/log/0"):
        reply = await browser.get(path)
        assert all(reply.headers[name] == value for name, value in HEADERS), path
        assert len(reply.headers.get_list("cache-control")) == 1
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "server" not in reply.headers


async def test_names_that_look_like_markup_are_text(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    for path in ("/contracts", "/contracts/c-1", f"/log?requester={NASTY}", "/policy/document?kind=contract&name=c-1"):
        shown = (await browser.get(path)).text
        assert NASTY not in shown
        assert "&lt;script&gt;" in shown


async def test_no_text_turns_a_decoded_line_around_or_hides_in_it(tmp_path: Path) -> None:
    nasty = "safe\u202e\u200b\u2066"
    async with running_console(tmp_path, documents=(contract_document("c-1", title=nasty),)) as console:
        browser = await console.signed_in("auditor")
        shown = re.findall(r"<pre.*?</pre>", (await browser.get("/contracts/c-1")).text, re.DOTALL)
        assert "\\u202e\\u200b\\u2066" in shown[0]
        assert not any(mark in shown[0] for mark in nasty[4:])


@pytest.mark.parametrize("path", ["//evil.example/", "///evil.example", "/%2fevil.example/x", "/%5cevil.example"])
async def test_choosing_a_language_leads_to_no_other_site(console: ConsoleUnderTest, path: str) -> None:
    browser = console.browser()
    reply = await browser.http.get(f"https://{HOST}{path}?lang=zh")
    assert reply.status_code == 303
    where = reply.headers["location"]
    assert where.startswith("/")
    assert where[1:2] not in ("/", "\\")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:7446", "", "[", "user@localhost@evil"])
async def test_another_name_for_the_server_is_refused(console: ConsoleUnderTest, host: str) -> None:
    browser = await console.signed_in("operator", "olga")
    reply = await browser.get("/overview", host=host)
    assert reply.status_code == 400
    assert "olga" not in reply.text


async def test_a_proof_that_is_not_fresh_is_asked_for_again_and_nothing_is_done(tmp_path: Path) -> None:
    async with running_console(tmp_path) as console:
        browser = await console.signed_in("operator", "olga")
        _age(console, minutes=11)
        page = await browser.get("/stops")
        assert "/confirm?then=/stops" in page.text
        reply = await browser.act("/stops", "/stops/set", STOP)
        assert (reply.headers["location"], stopped(console)) == ("/confirm", False)
        other = await browser.act("/confirm", "/confirm/code", {"code": console.code("operator", "vera")})
        assert other.status_code == 403
        before = browser.http.cookies["__Host-weir-console"]
        confirmed = await browser.act("/confirm", "/confirm/code", {"code": console.code("operator", "olga")})
        assert confirmed.headers["location"] == "/stops"
        assert browser.http.cookies["__Host-weir-console"] != before
        assert (await browser.act("/stops", "/stops/set", STOP)).status_code == 303
        assert stopped(console)


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil.example", "/a//b", "javascript:x"])
async def test_a_confirmation_leads_to_no_other_site(console: ConsoleUnderTest, then: str) -> None:
    browser = await console.signed_in("operator", "olga")
    await browser.http.get("/confirm", params={"then": then})
    confirmed = await browser.act("/confirm", "/confirm/code", {"code": console.code("operator", "olga")})
    assert confirmed.headers["location"] == "/overview"


async def test_a_certificate_signs_in_and_only_it_goes_on(console: ConsoleUnderTest) -> None:
    browser = console.browser(console.certificate("operator", "olga"))
    assert "olga" in (await browser.get("/sign-in")).text
    assert (await browser.post("/sign-in/certificate")).status_code == 303
    assert (await browser.get("/overview")).status_code == 200
    browser.certificate = console.certificate("operator", "olga")
    assert (await browser.get("/overview")).headers["location"] == "/sign-in"
    browser.certificate = None
    assert (await browser.get("/overview")).headers["location"] == "/sign-in"


async def test_a_code_keeps_nobody_signed_in_whose_certificate_was_taken_back(console: ConsoleUnderTest) -> None:
    olga, vera = await console.signed_in("operator", "olga"), await console.signed_in("operator", "vera")
    for name in ("olga", "peter"):
        identities.issue(console.data_dir, role="operator", name=name, now=console.domain.clock(), days=30)
    identities.revoke(console.data_dir, "operator/peter", reason="lost", now=console.domain.clock())
    assert (await olga.get("/overview")).status_code == 200
    identities.revoke(console.data_dir, "operator/olga", reason="left", now=console.domain.clock())
    reply = await olga.get("/overview")
    assert (reply.status_code, "certificate.revoked" in reply.text) == (401, True)
    assert (await olga.get("/overview")).headers["location"] == "/sign-in"
    assert (await vera.get("/overview")).status_code == 200


async def test_signing_in_again_ends_the_session_before(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    before = browser.http.cookies["__Host-weir-console"]
    await browser.post("/sign-in/code", {"code": console.code("auditor", "zhou")})
    other = console.browser()
    other.http.cookies.set("__Host-weir-console", before, domain="localhost", path="/")
    assert (await other.get("/overview")).headers["location"] == "/sign-in"


@pytest.mark.parametrize("before", ["9" * 30 + ":x", "²:x", "x", ":"])
async def test_a_page_key_that_nobody_gave_is_no_fault(console: ConsoleUnderTest, before: str) -> None:
    browser = await console.signed_in("approver", "anna")
    assert (await browser.http.get("/approvals", params={"before": before})).status_code == 200


async def test_an_old_connection_proves_nothing(console: ConsoleUnderTest) -> None:
    browser = console.browser(console.certificate("operator", "olga"))
    await browser.post("/sign-in/certificate")
    _age(console, minutes=11)
    browser.connected = 1.0
    again = await browser.act("/confirm", "/confirm/certificate")
    assert (again.headers["location"], again.headers["connection"]) == ("/confirm", "close")
    assert (await browser.act("/stops", "/stops/set", STOP)).headers["location"] == "/confirm"
    browser.connected = 0.0
    assert (await browser.act("/confirm", "/confirm/certificate")).headers["location"] == "/stops"


async def test_a_certificate_that_lapsed_or_is_of_another_person_is_refused(console: ConsoleUnderTest) -> None:
    browser = console.browser(console.certificate("operator", "olga", days=1))
    await browser.post("/sign-in/certificate")
    console.domain.clock.forward(days=2)
    reply = await browser.get("/overview")
    assert reply.status_code == 401
    assert "certificate.validity" in reply.text


async def test_a_form_has_a_largest_size_and_one_type(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    large = await browser.act("/stops", "/stops/set", {**STOP, "reason": "x" * 70_000})
    assert (large.status_code, "console.form_size" in large.text) == (400, True)
    headers = {"origin": f"https://{HOST}", "content-type": "text/plain"}
    typed = await browser.http.post("/stops/set", content=b"act=stop", headers=headers)
    assert typed.status_code == 400
    assert not stopped(console)


async def test_tries_to_sign_in_are_limited_by_address(console: ConsoleUnderTest) -> None:
    browser = console.browser()
    statuses = [(await browser.post("/sign-in/code", {"code": "A" * 32})).status_code for _ in range(TRIES + 3)]
    assert statuses == [401] * TRIES + [429] * 3
    elsewhere = console.browser()
    assert (await elsewhere.post("/sign-in/code", {"code": console.code("operator", "olga")})).status_code == 303


async def test_a_person_has_one_rate_in_the_console_as_elsewhere(tmp_path: Path) -> None:
    async with running_console(tmp_path, limits=Limits(requests_per_second=1, burst=3)) as console:
        browser = await console.signed_in("operator", "olga")
        statuses = [(await browser.get("/stops")).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]


async def test_signing_out_needs_the_token_and_ends_the_session(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("operator", "olga")
    assert (await browser.post("/sign-out", {"csrf": "0" * 64})).status_code == 403
    assert (await browser.get("/overview")).status_code == 200
    kept = browser.http.cookies["__Host-weir-console"]
    assert (await browser.act("/overview", "/sign-out")).headers["location"] == "/sign-in"
    browser.http.cookies.set("__Host-weir-console", kept, domain="localhost", path="/")
    assert (await browser.get("/overview")).headers["location"] == "/sign-in"


async def test_a_live_page_does_not_keep_its_reader_signed_in(tmp_path: Path) -> None:
    async with running_console(tmp_path, settings=ConsoleSettings(idle_minutes=15)) as console:
        browser = await console.signed_in("auditor")
        _age(console, minutes=14)
        assert (await browser.get("/log", **{"x-weir-live": "1"})).status_code == 200
        _age(console, minutes=2)
        assert (await browser.get("/log", **{"x-weir-live": "1"})).headers["location"] == "/sign-in"


async def test_the_language_is_kept_and_the_address_stays(console: ConsoleUnderTest) -> None:
    browser = await console.signed_in("auditor")
    reply = await browser.get("/log?type=weir.policy.added&lang=zh")
    assert reply.headers["location"] == "/log?type=weir.policy.added"
    assert 'lang="zh-Hans"' in (await browser.get("/log")).text
    await browser.get("/log?lang=en")
    assert 'lang="en"' in (await browser.get("/log")).text


async def test_a_defect_shows_an_incident_and_not_its_cause(
    console: ConsoleUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await console.signed_in("auditor")
    monkeypatch.setattr(overview, "traffic", lambda tx, now: 1 / 0)
    reply = await browser.get("/overview")
    assert reply.status_code == 500
    assert "division" not in reply.text
    assert re.search(r"<code>[0-9a-f]{12}</code>", reply.text)


@pytest.mark.parametrize("path", ["/log/99999999", "/log/abc", "/log/-1", "/datasets/none", "/contracts/none",
                                  "/requesters/none", "/quotas/none", "/approvals/ap-none", "/cases/case-none",
                                  "/checkpoints/12/note", "/checkpoints/x/note", "/nowhere"])  # fmt: skip
async def test_what_does_not_exist_is_a_page_that_says_so(console: ConsoleUnderTest, path: str) -> None:
    browser = await console.signed_in("operator", "olga")
    assert (await browser.get(path)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/log?before=x",
        "/log?before=-1",
        "/meter?by=secret",
        "/quotas/contract-c-1-epsilon?limit=x",
        "/approvals?state=none",
        "/policy?kind=none",
        "/checkpoints/growth?old=x",
    ],
)
async def test_a_malformed_address_is_refused_and_nothing_breaks(console: ConsoleUnderTest, path: str) -> None:
    browser = await console.signed_in("operator", "olga")
    assert (await browser.get(path)).status_code in (200, 400)


def _age(console: ConsoleUnderTest, *, minutes: float) -> None:
    """Makes every session older, as if so much time had passed."""
    for session in console.desk.sessions._sessions.values():
        session.began -= minutes * 60
        session.seen -= minutes * 60
        session.proved -= minutes * 60
