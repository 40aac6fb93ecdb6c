"""The page's small server and its pages as fixtures; the browser is the suite's own `chromium`.

Every page that a test opens must end without a policy violation or a script error.
Test modules name this file in `pytest_plugins` and import nothing from it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from page_browser import OpenPage, violations_of
from page_server import PageServer
from playwright.sync_api import Browser, BrowserContext, Page

COLLECT_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture
def server() -> Iterator[PageServer]:
    rows = PageServer()
    rows.start()
    yield rows
    rows.stop()


@pytest.fixture
def open_page(chromium: Browser, server: PageServer) -> Iterator[OpenPage]:
    """Open `/r3`; `has_clock` lets the test move the page's time, `width` is the window's, `host` the server's name.

    Its service worker, which fetches every file a second time, runs with `service_workers="allow"` only.
    """
    contexts: list[BrowserContext] = []
    script_errors: list[str] = []

    def open_one(
        *, width: int = 1280, has_clock: bool = False, path: str = "/r3", host: str = "127.0.0.1", **options: Any
    ) -> Page:
        viewport = {"width": width, "height": 900}
        options = {"service_workers": "block", "timezone_id": "UTC"} | options
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.add_init_script(COLLECT_VIOLATIONS)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: script_errors.append(str(error)))
        if has_clock:
            page.clock.install()
        page.goto(server.url.replace("127.0.0.1", host) + path)
        return page

    yield open_one
    violations = [found for context in contexts for page in context.pages for found in violations_of(page)]
    for context in contexts:
        context.close()
    assert violations == []
    assert script_errors == []
