# SPDX-License-Identifier: Apache-2.0
"""A real browser in front of a real server's console: Debian's chromium, driven by Playwright.

Every page that is opened here must be silent: a message on the browser's console, a script error or a resource that the
policy blocked fails the test that made it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from tests.support.server import RunningServer
from weir_server.console.links import issue_code

CHROMIUM = "/usr/bin/chromium"
ARTEFACTS = Path(__file__).parents[1] / "artefacts"
"""Screenshots; not checked in."""


@dataclass
class Screen:
    """A page of somebody's browser, and everything it complained about."""

    page: Page
    base: str
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: str, *, status: int = 200) -> Response:
        """Opens a page of the console; it has this status and makes no noise."""
        response = self.page.goto(self.base + path)
        assert response is not None
        assert response.status == status, f"{path}: {response.status}\n{self.page.inner_text('main')}"
        if status == 200:
            self.check_silence(path)
        return response

    def check_silence(self, where: str) -> None:
        """Nothing was blocked and no script failed."""
        assert not self.complaints, f"{where}: {self.complaints}"

    def press(self, name: str, *, within: str = "main") -> None:
        """Presses a button by what it says."""
        self.page.locator(within).get_by_role("button", name=re.compile(f"^{re.escape(name)}$")).first.click()

    def text(self, within: str = "main") -> str:
        """What the page says."""
        return self.page.inner_text(within)

    def picture(self, name: str) -> None:
        """Keeps a screenshot of the whole page."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


@dataclass
class Lab:
    """A browser that opens as many separate sessions as a test needs."""

    browser: Browser
    server: RunningServer

    @property
    def base(self) -> str:
        """Address of the console."""
        return f"https://{self.server.console}"

    def code(self, role: str, name: str) -> str:
        """A one-time code, as `weir identity link` makes it."""
        return issue_code(self.server.data_dir, role=role, name=name, now=datetime.now(UTC), entropy=os.urandom)

    def blank(self, **options: Any) -> Screen:
        """A browser nobody is signed in with."""
        context = self.browser.new_context(
            ignore_https_errors=True, viewport={"width": 1360, "height": 900}, **{"locale": "en", **options}
        )
        return Screen(context.new_page(), self.base, context)

    def signed_in(self, role: str, name: str, **options: Any) -> Screen:
        """A browser whose holder followed a one-time link."""
        screen = self.blank(**options)
        if options.get("java_script_enabled", True):
            screen.open(f"/sign-in#{self.code(role, name)}")
        else:
            screen.open("/sign-in")
            screen.page.fill("#code", self.code(role, name))
        screen.page.click("form[action='/sign-in/code'] button")
        screen.page.wait_for_url("**/overview")
        return screen

    def with_certificate(self, role: str, name: str) -> Screen:
        """A browser that shows an identity's certificate."""
        identity = json.loads(self.server.identity(role, name).read_text(encoding="utf-8"))
        shown = {
            "origin": self.base,
            "cert": identity["certificate"].encode(),
            "key": identity["private_key"].encode(),
        }
        return self.blank(client_certificates=[shown])


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, ended on leaving. Skips the test where the machine has none, but in CI."""
    if not Path(CHROMIUM).exists():
        assert "CI" not in os.environ, "CI must have chromium"
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
