# SPDX-License-Identifier: Apache-2.0
"""Every screen by every role. Written out on purpose, and not computed from the table of access."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.console import ConsoleUnderTest, running_console
from tests.support.domain import submit
from weir_server.console.gate import may
from weir_server.console.links import PEOPLE
from weir_server.console.screens.table import BY_NAME, ROOMS, SCREENS
from weir_server.console.web import Web
from weir_server.identity.holder import ROLES
from weir_server.services.access import ACCESS

O, P, A = "operator", "approver", "auditor"  # noqa: E741
MATRIX: dict[str, tuple[str, str, set[str]]] = {
    "overview": ("GET", "/overview", {O, P, A}),
    "approvals": ("GET", "/approvals", {O, P, A}),
    "approval": ("GET", "/approvals/{approval}", {O, P, A}),
    "decide": ("POST", "/approvals/{approval}/decide", {O, P}),
    "stops": ("GET", "/stops", {O, P, A}),
    "set_stop": ("POST", "/stops/set", {O}),
    "datasets": ("GET", "/datasets", {O, P, A}),
    "dataset": ("GET", "/datasets/{dataset}", {O, P, A}),
    "contracts": ("GET", "/contracts", {O, P, A}),
    "contract": ("GET", "/contracts/{contract}", {O, P, A}),
    "move_contract": ("POST", "/contracts/{contract}/move", {O}),
    "requesters": ("GET", "/requesters", {O, P, A}),
    "requester": ("GET", "/requesters/{requester}", {O, P, A}),
    "quotas": ("GET", "/quotas", {O}),
    "quota": ("GET", "/quotas/{quota}", {O}),
    "set_quota": ("POST", "/quotas/{quota}/set", {O}),
    "policy": ("GET", "/policy", {O}),
    "document": ("GET", "/policy/document", {O}),
    "compare": ("POST", "/policy/document/plan", {O}),
    "apply": ("POST", "/policy/document/apply", {O}),
    "log": ("GET", "/log", {O, A}),
    "entry": ("GET", "/log/{index}", {O, A}),
    "replay": ("GET", "/log/{index}/replay", {O, A}),
    "checkpoints": ("GET", "/checkpoints", {O, A}),
    "growth": ("GET", "/checkpoints/growth", {O, A}),
    "note": ("GET", "/checkpoints/{size}/note", {O, A}),
    "meter": ("GET", "/meter", {O, A}),
    "bills": ("GET", "/bills", {O, A}),
    "bill": ("GET", "/bills/{contract}", {O, A}),
    "bill_file": ("GET", "/bills/{contract}/focus.csv", {O, A}),
    "cases": ("GET", "/cases", {O, P, A}),
    "case": ("GET", "/cases/{case}", {O, P, A}),
    "advance_case": ("POST", "/cases/{case}/advance", {O}),
    "evidence": ("GET", "/cases/{case}/evidence.json", {O, A}),
}
CHANGES = {"decide", "set_stop", "move_contract", "set_quota", "apply", "advance_case"}
"""What decides or changes asks for a fresh proof."""
_PLACES = {"dataset": "census", "contract": "c-1", "requester": "alice", "quota": "contract-c-1-epsilon", "index": "3"}
CELLS = [(name, role) for name in MATRIX for role in (O, P, A)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleUnderTest]:
    async with running_console(tmp_path_factory.mktemp("access")) as running:
        await running.domain.pipeline.run(submit())
        yield running


def test_the_matrix_has_a_row_for_every_screen_and_says_what_the_table_says() -> None:
    table = {screen.name: (screen.method, screen.path, _roles(screen.calls)) for screen in SCREENS}
    assert table == MATRIX
    assert len(SCREENS) == len(BY_NAME)
    assert set(PEOPLE) == {O, P, A}


@pytest.mark.asyncio(loop_scope="module")
async def test_there_is_no_route_beside_the_screens_signing_in_and_the_consoles_own_files(
    console: ConsoleUnderTest,
) -> None:
    served = {(route.path, method) for route in Web(console.desk).routes() for method in route.methods or ()}
    screens = {(path, method) for method, path, _ in MATRIX.values()}
    beside = {
        ("/", "GET"),
        ("/static/{name}", "GET"),
        ("/sign-in", "GET"),
        ("/sign-in/code", "POST"),
        ("/sign-in/certificate", "POST"),
        ("/sign-out", "POST"),
        ("/confirm", "GET"),
        ("/confirm/code", "POST"),
        ("/confirm/certificate", "POST"),
        ("/{path:path}", "GET"),
    }
    assert {item for item in served if item[1] != "HEAD"} == screens | beside


def test_every_screen_stands_for_calls_that_exist_and_changes_ask_for_a_fresh_proof() -> None:
    assert all(screen.calls and set(screen.calls) <= ACCESS.keys() for screen in SCREENS)
    assert {screen.name for screen in SCREENS if screen.proof} == CHANGES
    assert all(screen.method == "POST" for screen in SCREENS if screen.proof)


def test_every_room_of_the_navigation_is_a_screen() -> None:
    assert {name for _, names in ROOMS for name in names} <= BY_NAME.keys()


@pytest.mark.parametrize(("name", "role"), CELLS, ids=[f"{name} {role}" for name, role in CELLS])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_screen_is_open_to_its_roles_and_to_nobody_else(
    console: ConsoleUnderTest, name: str, role: str
) -> None:
    method, path, roles = MATRIX[name]
    place = path.format(**{key: _PLACES.get(key, "none") for key in ("approval", "case", "size", *_PLACES)})
    browser = await console.signed_in(role)
    reply = await (browser.act("/overview", place) if method == "POST" else browser.get(place))
    forbidden = reply.status_code == 403 and "access.role" in reply.text
    assert forbidden == (role not in roles), f"{reply.status_code} {reply.text[-800:]}"
    assert reply.status_code != 500


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.asyncio(loop_scope="module")
async def test_nobody_gets_in_without_signing_in(console: ConsoleUnderTest, name: str) -> None:
    method, path, _ = MATRIX[name]
    browser = console.browser()
    reply = await (browser.post(path) if method == "POST" else browser.get(path))
    assert (reply.status_code, reply.headers["location"]) == (303, "/sign-in")


@pytest.mark.parametrize("role", sorted(set(ROLES) - {O, P, A}))
@pytest.mark.asyncio(loop_scope="module")
async def test_parties_of_contracts_do_not_get_in(console: ConsoleUnderTest, role: str) -> None:
    browser = console.browser(console.certificate(role, "alice"))
    reply = await browser.post("/sign-in/certificate")
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


def _roles(calls: tuple[str, ...]) -> set[str]:
    return {role for role in (O, P, A) if may(role, *calls)}


async def test_an_approver_is_offered_no_link_to_the_log(console: ConsoleUnderTest) -> None:
    for role, offered in (("approver", False), ("auditor", True)):
        browser = await console.signed_in(role)
        for path in ("/contracts/c-1", "/requesters/alice"):
            assert ('href="/log?' in (await browser.get(path)).text) == offered, (role, path)
