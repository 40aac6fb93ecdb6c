"""Fixtures of the end-to-end tests: worlds of real processes, and a real Chromium."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import HEADLESS_NAMES, headless_path
from playwright.sync_api import Browser, expect, sync_playwright
from world import World

# As long as the pages' own questions wait: a busy machine is no defect.
PATIENCE_MS = 15_000
CHROMIUM_ARGS = [
    # A name that is this machine but that Chromium does not take for it: what a page by plain http may do.
    "--host-resolver-rules=MAP plain-http.test 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server, a demo service and an agent that may apply commands, all running."""
    yield from _running_world(tmp_path, apply_enabled=True)


@pytest.fixture
def locked_world(tmp_path: Path) -> Iterator[World]:
    """The same with `control.apply_enabled: false` on the PC."""
    yield from _running_world(tmp_path, apply_enabled=False)


@pytest.fixture
def server_only(tmp_path: Path) -> Iterator[World]:
    """A server without any PC."""
    world = World(tmp_path)
    try:
        world.start_server()
        yield world
    finally:
        world.tear_down()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real Chromium; missing, its tests skip on a laptop and fail in CI.

    It lives no longer than its module: while it runs, no other event loop can run in this thread.
    """
    path = headless_path()
    if path is None:
        message = f"no Chromium found (looked for {', '.join(HEADLESS_NAMES)})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


def _running_world(folder: Path, *, apply_enabled: bool) -> Iterator[World]:
    world = World(folder)
    try:
        world.start_service()
        world.start_server()
        world.start_agent(apply_enabled=apply_enabled)
        world.wait_online()
        yield world
    finally:
        world.tear_down()
