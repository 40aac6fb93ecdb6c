"""Asks an open page what its security policy stopped, and where this machine's Chromium is.

It starts nothing: the fixtures are in `page_fixtures`.
"""

import shutil
from collections.abc import Callable

from playwright.sync_api import Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# The same engine without windows, tabs and profiles, which takes a third less of the processor.
HEADLESS_NAMES = ("chromium-headless-shell", *CHROMIUM_NAMES)
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]

OpenPage = Callable[..., Page]


def chromium_path() -> str | None:
    """The path of a whole browser, which can install a page."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def headless_path() -> str | None:
    """The path of the browser that the `chromium` fixture starts."""
    return next(filter(None, map(shutil.which, HEADLESS_NAMES)), None)


def violations_of(page: Page) -> list[str]:
    """What the content security policy stopped on this page so far."""
    found: list[str] = page.evaluate("window.violations")
    return found


def wait_until_settled(page: Page) -> None:
    """Wait for both first looks: the one at the start, and the one when the live stream is open."""
    script = """() => ["/api/incidents", "/api/agent-commands?limit=50"].every((path) => performance
        .getEntriesByType("resource").filter(({ name }) => name.includes(path)).length > 1)"""
    page.wait_for_function(script)
