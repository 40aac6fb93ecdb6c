"""Letting a PC in: a token made on the page, what it says to run, and a real agent that comes in with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import OpenPage
from page_people import Person, accept, invite, sit_down
from page_server import PageServer
from playwright.sync_api import Browser, Page, expect
from test_page_look import texts_below_contrast
from world import World

pytest_plugins = ("page_fixtures",)

COMMANDS = {
    "Linux": "sudo agent/linux/install_systemd.sh --token-file - {url} pc-7",
    "macOS": "pbpaste | sudo agent/macos/install_launchd.sh {url} pc-7 --token-file -",
    "Windows": "Get-Clipboard | agent\\windows\\install_service.ps1 -TokenFile - -BaseUrl {url} -AgentId pc-7",
}


def make_token(page: Page, name: str) -> None:
    page.get_by_label("Its name").fill(name)
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_text("Waiting for it until")).to_be_visible()


@pytest.fixture
def admin_page(server: PageServer, open_page: OpenPage) -> Page:
    server.operator = {"name": "admin", "role": "admin", "how": "session"}
    page = open_page(width=390)
    page.get_by_role("button", name="Let a PC in").click()
    return page


@pytest.fixture
def ann(chromium: Browser) -> Iterator[Person]:
    person = sit_down(chromium, "ann")
    yield person
    person.close()


def test_an_empty_fleet_leads_to_a_token_and_to_what_to_run_on_each_system(
    server: PageServer, admin_page: Page
) -> None:
    server.access.needs_proof = True
    expect(admin_page.get_by_label("Its name")).to_be_focused()
    admin_page.get_by_label("Its name").fill("pc-7")
    admin_page.get_by_role("button", name="Make a token").click()
    admin_page.get_by_label("API key").fill("right-key")
    admin_page.get_by_role("button", name="Confirm").click()

    shown = admin_page.locator(".enrolment .copyable-text")
    expect(shown.first).to_have_text("r3e_shown-once")
    for system, command in COMMANDS.items():
        admin_page.get_by_role("button", name=system, exact=True).click()
        expect(shown.last).to_have_text(command.format(url=server.url))
    assert server.asked("POST", "/api/enrolment-tokens")[-1] == {"agent_id": "pc-7", "may_replace": False}
    assert texts_below_contrast(admin_page) == []


def test_the_page_says_when_the_pc_came_in_and_when_the_token_is_over(server: PageServer, admin_page: Page) -> None:
    make_token(admin_page, "pc-7")
    server.access.enrolments[0]["status"] = "used"
    expect(admin_page.get_by_text("pc-7 is in.")).to_be_visible()
    expect(admin_page.get_by_text("r3e_shown-once")).to_have_count(0)

    admin_page.get_by_label("It takes the place of a PC of this name").check()
    make_token(admin_page, "pc-8")
    assert server.asked("POST", "/api/enrolment-tokens")[-1] == {"agent_id": "pc-8", "may_replace": True}
    server.access.enrolments[0]["status"] = "expired"
    expect(admin_page.get_by_text("The token for pc-8 is over and opens nothing.")).to_be_visible()


def test_a_token_can_be_taken_back_while_nobody_used_it(server: PageServer, admin_page: Page) -> None:
    make_token(admin_page, "pc-7")
    make_token(admin_page, "pc-8")

    admin_page.get_by_role("button", name="Take back the token for pc-7").click()

    expect(admin_page.get_by_role("button", name="Take back the token for pc-7")).to_have_count(0)
    assert [row["agent_id"] for row in server.access.enrolments] == ["pc-8"]


def test_a_name_that_no_pc_can_have_is_not_sent(server: PageServer, admin_page: Page) -> None:
    admin_page.get_by_label("Its name").fill("pc 7; rm -rf /")
    admin_page.get_by_role("button", name="Make a token").click()

    assert admin_page.get_by_label("Its name").evaluate("(input) => input.validity.patternMismatch")
    assert server.asked("POST", "/api/enrolment-tokens") == []


def test_only_administrators_let_pcs_in(server: PageServer, open_page: OpenPage) -> None:
    server.operator = {"name": "bob", "role": "approver", "how": "session"}
    page = open_page()

    expect(page.get_by_text("No agents (offline)")).to_be_visible()
    expect(page.get_by_role("button", name="Let a PC in")).to_have_count(0)
    page.get_by_role("button", name="Access").click()
    expect(page.get_by_role("heading", name="Your keys")).to_be_visible()
    expect(page.get_by_role("heading", name="Let a PC in")).to_have_count(0)
    assert server.asked("GET", "/api/enrolment-tokens") == []


def test_a_real_agent_comes_in_with_the_token_that_the_page_showed(
    server_only: World, ann: Person, tmp_path: Path
) -> None:
    page = ann.page
    accept(ann, invite(server_only, "ann", "admin"))
    page.get_by_role("button", name="Let a PC in").click()
    make_token(page, "pc-7")
    token = page.locator(".enrolment .copyable-text").first.inner_text()
    config = tmp_path / "pc-7" / "config.yaml"
    config.parent.mkdir()

    argv = [sys.executable, "-m", "reco3.cli", "agent", "enrol", str(config), "--token-file", "-"]
    argv += ["--server", f"http://127.0.0.1:{server_only.port}"]
    came = subprocess.run(argv, input=token, text=True, capture_output=True, env=os.environ, check=False, timeout=60)

    assert came.returncode == 0, came.stderr
    expect(page.get_by_text("pc-7 is in.")).to_be_visible()
    assert '"pc-7"' in config.read_text(encoding="utf-8")
    assert token not in config.read_text(encoding="utf-8")
