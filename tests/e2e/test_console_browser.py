# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser, before a real server: what operators and auditors do, in both languages, by keyboard,
with and without JavaScript, under the policy that pages are served with."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.support.browser import Lab, Screen, chromium
from tests.support.sample import CONTRACTS, envelope, publish_sample, spending_envelope
from tests.support.server import RunningServer, make_domain, start_server
from tests.support.wire import call, key
from weir.errors import ApprovalRequired, QuotaExceeded, Suspended, WeirError
from weir.v1 import case_service_pb2, case_service_pb2_grpc, policy_service_pb2, query_service_pb2
from weir_server.console.listener import IDLE_SECONDS
from weir_server.identity.pki import log_key

pytestmark = pytest.mark.slow
RUN = "/weir.v1.QueryService/RunQuery"
WAITING = CONTRACTS[0].replace("contract: c-visits", "contract: c-asked") + "approval: per_query\n"
TIGHT = "kind: quota\nquota: bob-queries\nrequester: bob\nmetric: queries\nwindow: lifetime\nlimit: 1\n"
BOBS = CONTRACTS[0].replace("contract: c-visits", "contract: c-bob").replace("requester: alice", "requester: bob")
CAROLS = BOBS.replace("c-bob", "c-carol").replace("requester: bob", "requester: carol")
PAGES = {
    "operator": (
        "/overview", "/approvals", "/approvals?state=approved", "/stops", "/datasets", "/datasets/clinic",
        "/datasets/spending", "/contracts", "/contracts/c-asked", "/requesters", "/requesters/alice", "/quotas",
        "/quotas/bob-queries", "/quotas/bob-queries?limit=7", "/policy", "/policy?kind=quota",
        "/policy/document?kind=quota&name=bob-queries", "/log", "/confirm",
    ),
    "approver": ("/overview", "/approvals", "/stops", "/datasets", "/contracts", "/requesters"),
    "auditor": (
        "/overview", "/approvals", "/stops", "/datasets/spending", "/log", "/log?type=weir.query.released", "/log/0",
        "/log/4/replay", "/checkpoints", "/checkpoints/growth?old=5", "/meter", "/meter?by=month", "/meter?by=contract",
        "/bills", "/bills/c-visits", "/cases",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = make_domain(tmp_path_factory.mktemp("console"))
    publish(data_dir)
    running = start_server(data_dir)
    try:
        operator = running.channel(running.identity("operator", "olga"), admin=True)
        documents = [*CONTRACTS, WAITING, TIGHT, BOBS, CAROLS]
        request = policy_service_pb2.ApplyPolicyRequest(documents=documents, idempotency_key=key())
        call(operator, "/weir.v1.PolicyService/ApplyPolicy", request)
        ask(running, "alice")
        ask(running, "alice", spending_envelope())
        yield running
    finally:
        running.stop()


@pytest.fixture
def lab(browser: Browser, server: RunningServer) -> Lab:
    return Lab(browser, server)


def publish(data_dir: Path) -> None:
    """In a thread of its own: Playwright keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(publish_sample, data_dir).result()


def ask(
    server: RunningServer, name: str, message: query_service_pb2.QueryEnvelope | None = None
) -> query_service_pb2.RunQueryResponse:
    channel = server.channel(server.identity("requester", name))
    request = query_service_pb2.RunQueryRequest(envelope=message or envelope(), idempotency_key=key())
    reply: query_service_pb2.RunQueryResponse = call(channel, RUN, request)
    return reply


def refused(server: RunningServer, name: str, message: query_service_pb2.QueryEnvelope) -> WeirError:
    with pytest.raises(WeirError) as caught:
        ask(server, name, message)
    return caught.value


def test_an_operator_approves_a_waiting_query_and_the_requesters_job_completes(lab: Lab, server: RunningServer) -> None:
    error = refused(server, "alice", envelope(contract="c-asked", group_by=("age",)))
    assert isinstance(error, ApprovalRequired)
    screen = lab.signed_in("operator", "olga")
    screen.open("/approvals")
    screen.page.click(f"a[href='/approvals/{error.metadata['approval']}']")
    shown = screen.text()
    assert "the number of records and the sum of visits of clinic" in shown
    assert "GROUP BY age" in shown
    screen.picture("approval")
    screen.page.fill("#reason-once", "fits the purpose")
    screen.press("Approve this query once")
    assert "approved" in screen.text(".notice.good")
    answered = ask(server, "alice", envelope(contract="c-asked", group_by=("age",)))
    assert answered.answer
    screen.open(f"/approvals/{error.metadata['approval']}")
    assert "fits the purpose" in screen.text()
    assert "used" in screen.text()


def test_an_operator_raises_a_quota_after_seeing_that_it_loosens(lab: Lab, server: RunningServer) -> None:
    ask(server, "bob", envelope(contract="c-bob"))
    assert isinstance(refused(server, "bob", envelope(contract="c-bob", group_by=("age",))), QuotaExceeded)
    screen = lab.signed_in("operator", "olga")
    screen.open("/quotas/bob-queries")
    screen.page.fill("#limit", "5")
    screen.press("Show what would change")
    assert "loosens" in screen.text("table")
    screen.page.fill("#reason", "interim report")
    screen.press("Set the limit")
    assert "bob-queries" in screen.text(".notice.good")
    assert ask(server, "bob", envelope(contract="c-bob", group_by=("age",))).answer
    screen.open("/log?type=weir.quota.set")
    assert "interim report" in screen.text("table")


def test_an_operator_stops_a_requester_mid_run(lab: Lab, server: RunningServer) -> None:
    started = threading.Event()

    def run_until_stopped() -> WeirError:
        for number in range(10_000):
            try:
                ask(server, "carol", envelope(contract="c-carol", group_by=(("region",), ("age",), ())[number % 3]))
                started.set()
            except WeirError as error:
                return error
        raise AssertionError("nobody stopped the requester")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_until_stopped)
        assert started.wait(30)
        screen = lab.signed_in("operator", "olga")
        screen.open("/requesters/carol")
        screen.page.click("a[href^='/stops?scope=requester']")
        screen.page.fill("#reason-one", "asks too much")
        screen.press("Stop")
        assert "carol" in screen.text("#live-stops")
        assert isinstance(running.result(timeout=60), Suspended)
    screen.page.click("#live-stops summary")
    screen.page.fill("#live-stops textarea", "talked to")
    screen.page.click("#live-stops button")
    assert ask(server, "carol", envelope(contract="c-carol")).answer


def test_the_emergency_stop_asks_for_the_domains_name_and_stops_everybody(lab: Lab, server: RunningServer) -> None:
    screen = lab.signed_in("operator", "olga")
    screen.open("/stops")
    screen.page.fill("#typed", "another.domain")
    screen.page.fill("#reason-all", "drill")
    screen.press("Emergency stop")
    assert "Type the domain's name" in screen.text()
    assert ask(server, "alice").answer
    screen.complaints.clear()  # the browser notes the status 400 of the refusal
    screen.open("/stops")
    screen.page.fill("#typed", "test.weir")
    screen.page.fill("#reason-all", "drill")
    screen.press("Emergency stop")
    screen.picture("stops")
    assert isinstance(refused(server, "alice", envelope()), Suspended)
    screen.page.click("#live-stops summary")
    screen.page.fill("#live-stops textarea", "drill is over")
    screen.page.click("#live-stops button")
    assert ask(server, "alice").answer


def test_an_auditor_finds_a_query_verifies_it_and_cannot_change_anything(lab: Lab, server: RunningServer) -> None:
    ask(server, "alice", envelope(group_by=("age", "region")))
    screen = lab.signed_in("auditor", "zhou")
    screen.open("/log")
    screen.page.select_option("#type", "weir.query.released")
    screen.page.fill("#requester", "alice")
    screen.press("Filter")
    screen.page.click("tbody tr:first-child a")
    assert screen.page.locator("[data-verdict=good]").count() == 1
    steps = screen.text(".steps")
    assert "sibling hashes lead from entry" in steps
    assert screen.page.locator(".steps > li.bad").count() == 0
    screen.page.click(".steps summary")
    screen.picture("entry")
    screen.open("/checkpoints")
    assert screen.page.locator("[data-verdict=good]").count() == 1
    screen.page.fill("#old", "7")
    screen.press("Check")
    assert screen.page.locator("[data-verdict=good]").count() == 1
    screen.open("/stops")
    assert screen.page.locator("main form").count() == 0
    for path in ("/quotas", "/policy"):
        screen.open(path, status=403)


def test_a_decision_is_made_again_before_the_auditor(lab: Lab) -> None:
    screen = lab.signed_in("auditor", "zhou")
    screen.open("/log?type=weir.query.reserved")
    screen.page.click("tbody tr:first-child a")
    screen.page.click("a[href$='/replay']")
    assert "same verdict" in screen.text("[data-verdict=good]")
    assert "gate_k" in screen.text()
    screen.picture("replay")


def test_meter_and_log_agree_on_the_bill(lab: Lab) -> None:
    screen = lab.signed_in("auditor", "zhou")
    for _ in range(20):  # entries of the last moment are counted within a second
        screen.open("/bills/c-visits")
        if screen.page.locator("[data-verdict=good]").count():
            break
        screen.page.wait_for_timeout(500)
    assert screen.page.locator("[data-verdict=good]").count() == 1
    with screen.page.expect_download() as download:
        screen.page.click("a[href$='/focus.csv']")
    assert download.value.suggested_filename == "bill-c-visits.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("BillingPeriodStart,")


def test_evidence_that_an_auditor_downloads_is_accepted_offline(
    lab: Lab, server: RunningServer, tmp_path: Path
) -> None:
    answered = ask(server, "alice")
    stub = case_service_pb2_grpc.CaseServiceStub(server.channel(server.identity("requester", "alice")))
    request = case_service_pb2.OpenCaseRequest(
        kind=case_service_pb2.CASE_KIND_DISPUTE,
        contract="c-visits",
        entries=[answered.receipt.leaf_index],
        statement="The bill is wrong.",
        idempotency_key=key(),
    )
    case = stub.OpenCase(request, timeout=30).case.id
    screen = lab.signed_in("auditor", "zhou")
    screen.open("/cases")
    screen.page.click(f"a[href='/cases/{case}']")
    assert "The bill is wrong." in screen.text()
    with screen.page.expect_download() as download:
        screen.page.click("a[href$='/evidence.json']")
    assert download.value.suggested_filename == f"{case}.evidence.json"
    evidence = tmp_path / "evidence.json"
    download.value.save_as(evidence)
    keys = tmp_path / "log.key"
    keys.write_text(log_key(server.data_dir), encoding="utf-8")
    command = [sys.executable, "-m", "weir_client.cli", "audit", "verify", str(evidence), "--log-key", str(keys)]
    accepted = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert accepted.returncode == 0, accepted.stderr


def test_a_file_is_downloaded_after_its_page_stood_open_for_a_while(lab: Lab) -> None:
    # The page's connection is closed by then. Where the reader passed a warning about the certificate, Chromium
    # keeps that in mind for pages only: a link with the attribute `download` is cancelled when its connection is gone.
    screen = lab.signed_in("auditor", "zhou")
    screen.open("/bills/c-visits")
    screen.page.wait_for_timeout((IDLE_SECONDS + 1) * 1000)
    with screen.page.expect_download() as download:
        screen.page.click("a[href$='/focus.csv']")
    assert download.value.failure() is None


def test_a_file_asked_for_after_the_end_of_a_visit_leads_to_the_sign_in_page(lab: Lab) -> None:
    screen = lab.signed_in("auditor", "zhou")
    screen.open("/bills/c-visits")
    screen.context.clear_cookies()
    screen.page.click("a[href$='/focus.csv']")
    screen.page.wait_for_url("**/sign-in")


def test_an_altered_log_shows_as_altered(browser: Browser, tmp_path: Path) -> None:
    data_dir = make_domain(tmp_path)
    publish(data_dir)
    server = start_server(data_dir)
    operator = server.channel(server.identity("operator", "olga"), admin=True)
    call(
        operator,
        "/weir.v1.PolicyService/ApplyPolicy",
        policy_service_pb2.ApplyPolicyRequest(documents=CONTRACTS, idempotency_key=key()),
    )
    index = ask(server, "alice").receipt.leaf_index
    assert server.stop() == 0
    with sqlite3.connect(data_dir / "ledger" / "ledger.db") as books:
        (leaf,) = books.execute("SELECT leaf FROM log_leaves WHERE idx = ?", (index,)).fetchone()
        books.execute("UPDATE log_leaves SET leaf = ? WHERE idx = ?", (leaf.replace(b'"alice"', b'"mally"'), index))
    books.close()
    again = start_server(data_dir)
    try:
        screen = Lab(browser, again).signed_in("auditor", "zhou")
        screen.open("/log")
        assert "altered" in screen.text("tr.altered")
        screen.open(f"/log/{index}")
        assert "the log was altered" in screen.text("[data-verdict=bad]")
        screen.picture("altered")
        screen.open(f"/log/{index - 1}")
        assert screen.page.locator("[data-verdict=good]").count() == 1
    finally:
        again.stop()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("role", list(PAGES))
def test_every_page_is_silent_and_free_of_serious_faults_of_access(lab: Lab, role: str, language: str) -> None:
    screen, axe = lab.signed_in(role, f"some-{role}", locale=language), Axe()
    for path in PAGES[role]:
        screen.open(path)
        assert screen.page.get_attribute("html", "lang") == ("zh-Hans" if language == "zh" else "en")
        name = re.sub(r"[^a-z0-9]+", "-", f"{role}{path}").strip("-")
        screen.picture(f"{language}-{name}")
        found = [
            f"{fault['id']} ({fault['impact']}): {[node['html'][:120] for node in fault['nodes'][:3]]}"
            for fault in axe.run(screen.page).response["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert not found, f"{path}: {found}"


def test_the_dark_pages_have_enough_contrast_too(lab: Lab) -> None:
    screen, axe = lab.signed_in("operator", "olga", color_scheme="dark"), Axe()
    for path in ("/overview", "/datasets/spending", "/log", "/log/3", "/quotas/bob-queries?limit=7", "/stops"):
        screen.open(path)
        screen.picture(f"dark-{re.sub('[^a-z0-9]+', '-', path).strip('-')}")
        faults = [fault for fault in axe.run(screen.page).response["violations"] if fault["id"] == "color-contrast"]
        assert not faults, f"{path}: {[node['html'][:120] for node in faults[0]['nodes'][:3]]}"


def test_everything_can_be_done_by_keyboard_alone(lab: Lab, server: RunningServer) -> None:
    screen = lab.blank()
    screen.open("/sign-in")
    code, keyboard = lab.code("operator", "olga"), screen.page.keyboard
    _tab_to(screen, "#code")
    keyboard.type(code)
    keyboard.press("Enter")
    screen.page.wait_for_url("**/overview")
    keyboard.press("Tab")
    assert screen.page.evaluate("document.activeElement.className") == "skip"
    keyboard.press("Enter")
    assert screen.page.evaluate("document.activeElement.id") == "content"
    screen.open("/stops")
    _tab_to(screen, "#name")
    keyboard.type("dave")
    _tab_to(screen, "#reason-one")
    keyboard.type("by keyboard")
    keyboard.press("Tab")
    ring = screen.page.evaluate("getComputedStyle(document.activeElement).boxShadow")
    assert ring != "none"
    keyboard.press("Enter")
    screen.page.wait_for_selector(".notice.good")
    assert "dave" in screen.text("#live-stops")
    operator = server.channel(server.identity("operator", "olga"), admin=True)
    lift = policy_service_pb2.SetSuspensionRequest(
        scope=policy_service_pb2.SUSPENSION_SCOPE_REQUESTER, name="dave", reason="test", idempotency_key=key()
    )
    call(operator, "/weir.v1.PolicyService/SetSuspension", lift)


def test_pages_work_without_javascript(lab: Lab) -> None:
    screen = lab.signed_in("operator", "olga", java_script_enabled=False)
    screen.open("/meter")
    screen.page.select_option("#by", "month")
    screen.press("Show")
    assert "by=month" in screen.page.url
    screen.open("/stops?lang=zh")
    assert screen.page.get_attribute("html", "lang") == "zh-Hans"
    assert not screen.page.locator("[data-live-toggle]").is_visible()


def test_live_pages_follow_the_domain_and_can_be_told_not_to(lab: Lab, server: RunningServer) -> None:
    screen = lab.signed_in("operator", "olga")
    screen.open("/log")
    before = screen.text("#live-log tbody tr:first-child th")
    ask(server, "alice")
    screen.page.wait_for_function(
        "before => document.querySelector('#live-log tbody tr:first-child th').innerText !== before",
        arg=before,
        timeout=15_000,
    )
    toggle = screen.page.locator("[data-live-toggle]")
    assert toggle.get_attribute("aria-pressed") == "true"
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "false"
    screen.check_silence("/log")


def test_a_certificate_signs_in_and_proves_again(lab: Lab) -> None:
    screen = lab.with_certificate("operator", "olga")
    screen.open("/sign-in")
    assert "Operator olga" in screen.text("#content")
    screen.press("Continue", within="body")
    screen.page.wait_for_url("**/overview")
    screen.open("/confirm?then=/stops")
    screen.press("I am olga")
    screen.page.wait_for_url("**/stops")
    other = lab.blank()
    other.context.add_cookies(screen.context.cookies())
    assert other.page.goto(f"{lab.base}/overview") is not None
    assert other.page.url.endswith("/sign-in"), "a session is worth nothing without its certificate"


def test_a_requesters_certificate_opens_nothing(lab: Lab) -> None:
    screen = lab.with_certificate("requester", "alice")
    screen.open("/sign-in")
    assert "shows no certificate" in screen.text("#content")
    assert screen.page.locator("form[action='/sign-in/certificate']").count() == 0


def _tab_to(screen: Screen, selector: str) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(60):
        if screen.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        screen.page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")
