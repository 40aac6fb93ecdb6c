"""The whole product through a real Chromium: what a person clicks, and what really happens on the PC."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from world import AGENT_ID, World, wait_until


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh browser profile; a script error or a CSP violation fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if _is_violation(message.text) else None)
    yield page
    context.close()
    assert complaints == []


def test_the_safe_mode_button_completes_and_the_mode_is_shown(world: World, page: Page) -> None:
    page.goto(f"{world.url}/r3")
    expect(page.get_by_text("TEST MODE")).to_be_visible()
    agents = page.get_by_role("table", name="PC Agents")
    expect(agents.get_by_text("ONLINE")).to_be_visible()

    page.get_by_role("button", name="SAFE Mode").click()

    expect(_newest_command(page, "SET_MODE")).to_have_attribute("data-status", "completed")
    expect(agents.get_by_text("SAFE", exact=True)).to_be_visible()
    assert world.mode() == "SAFE"


@pytest.mark.slow
def test_a_restart_waits_for_approve_and_then_the_service_has_a_new_pid(world: World, page: Page) -> None:
    pid = world.service_pid()
    page.goto(f"{world.url}/r3")

    command = _ask_restart(page, world)
    asked_at = time.monotonic()
    expect(command.get_by_role("button", name="Approve")).to_be_visible()
    wait_until(lambda: time.monotonic() >= asked_at + 30, timeout_s=35, what="thirty seconds pass")

    assert world.service_pid() == pid
    expect(command).to_have_attribute("data-status", "pending")

    _approve(page, command)

    expect(command).to_have_attribute("data-status", "completed")
    assert world.service_pid() != pid
    assert len((world.folder / "restarts.log").read_text().splitlines()) == 1
    assert world.sql("SELECT approved_by FROM approvals") == [("admin",)]


def test_an_approved_restart_on_a_locked_pc_fails_and_names_the_lock(locked_world: World, page: Page) -> None:
    pid = locked_world.service_pid()
    page.goto(f"{locked_world.url}/r3")

    command = _ask_restart(page, locked_world)
    _approve(page, command)

    expect(command).to_have_attribute("data-status", "failed")
    expect(command).to_contain_text("apply_enabled is false on this PC")
    assert locked_world.service_pid() == pid
    assert not (locked_world.folder / "restarts.log").exists()


def test_an_error_line_appears_on_the_page_without_a_reload(world: World, page: Page) -> None:
    page.goto(f"{world.url}/r3")
    expect(page.get_by_role("heading", name="Agent Logs")).to_be_visible()

    world.fail_service()

    expect(page.get_by_role("region", name="Agent Logs").get_by_text("DEMO_FAILURE").first).to_be_visible(
        timeout=17_000
    )
    expect(page.get_by_role("region", name="Incidents").get_by_text("DEMO_FAILURE").first).to_be_visible()


def test_a_stopped_server_is_said_and_the_page_comes_back_by_itself(world: World, page: Page) -> None:
    page.goto(f"{world.url}/r3")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    world.stop("server")
    expect(page.get_by_text("Offline", exact=False).first).to_be_visible(timeout=20_000)
    world.start_server()

    expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=20_000)


def test_without_test_mode_the_page_asks_for_the_key(page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    environment = {"RECO3_TEST_MODE": "0", "API_KEY": "a-long-administrator-key"}
    world = World(tmp_path_factory.mktemp("login"), environment=environment)
    try:
        world.start_server()
        page.goto(f"{world.url}/r3")
        field = page.get_by_label("API key")
        field.fill("a wrong key")
        field.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()

        field.fill("a-long-administrator-key")
        field.press("Enter")

        expect(page.get_by_text("No agents (offline)")).to_be_visible()
        expect(page.get_by_text("TEST MODE")).to_be_hidden()
        assert world.sql("SELECT count(*) FROM sessions") == [(1,)]
    finally:
        world.tear_down()


def test_the_one_time_link_creates_the_administrator(page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("setup"), environment={"RECO3_TEST_MODE": "0"})
    try:
        world.start_server()
        link = next(word for word in world.output_of("server").split() if "#setup=" in word)

        page.goto(link)
        page.get_by_role("button", name="Create the administrator key").click()

        expect(page.get_by_role("button", name="Copy the key")).to_be_visible()
        assert world.sql("SELECT name, role FROM operators") == [("admin", "admin")]
    finally:
        world.tear_down()


def _ask_restart(page: Page, world: World) -> Locator:
    page.get_by_role("button", name="RESTART (approval required)").click()
    page.get_by_role("button", name=f"Ask to restart {world.service_name} on {AGENT_ID}").click()
    command = _newest_command(page, "RESTART_PROCESS")
    expect(command).to_have_attribute("data-status", "pending")
    return command


def _approve(page: Page, command: Locator) -> None:
    command.get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(AGENT_ID)
    dialog.get_by_role("button", name="Approve").click()


def _newest_command(page: Page, command_type: str) -> Locator:
    return page.locator("li.command", has_text=command_type).first


def _is_violation(text: str) -> bool:
    return "Content Security Policy" in text or "TrustedHTML" in text
