import re

import pytest
from page_browser import OpenPage, wait_until_settled
from page_server import PageServer, agent, command, stamp
from playwright.sync_api import Locator, Page, expect

pytest_plugins = ("page_fixtures",)

APPROVE = "/api/agent-commands/c-1/approve"
FINISHED = {"status": "completed", "finished_at": "2026-11-23T14:03:22.840Z"}


@pytest.fixture
def page(server: PageServer, open_page: OpenPage) -> Page:
    server.agents = [agent("pc-001"), agent("pc-002", metrics={"apply_enabled": False, "mode": "SAFE"})]
    server.commands = [command("c-1")]
    opened = open_page()
    expect(opened.locator(".connection")).to_have_text("Live")
    expect(opened.locator(".command")).to_have_count(1)
    wait_until_settled(opened)
    return opened


def notifications(page: Page) -> Locator:
    return page.get_by_role("region", name="Notifications")


def test_approving_names_everything_first_and_tells_the_measured_time_after(server: PageServer, page: Page) -> None:
    page.locator(".command").get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog", name="Approve on pc-001?")
    for text in ("Restart nginx", "host-pc-001", "RESTART_PROCESS", '{"process":"nginx"}', "admin", "14:03:10"):
        expect(dialog).to_contain_text(text)
    assert server.asked("POST", APPROVE) == []

    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".command")).to_contain_text("approved by admin")
    server.commands[0].update(FINISHED, result={"success": True, "exit_code": 0})
    server.tell("commands")

    expect(page.locator(".command")).to_contain_text("completed")
    toast = notifications(page).get_by_text("RESTART_PROCESS on pc-001 completed")
    expect(toast).to_be_visible()
    expect(notifications(page).get_by_text(re.compile(r"^\d+\.\d\d s after your approval$"))).to_be_visible()
    expect(page.locator(".command .measured")).to_have_text(re.compile(r"^completed \d+\.\d\d s after your approval$"))
    assert len(server.asked("POST", APPROVE)) == 1


def test_cancel_and_escape_approve_nothing_and_give_the_focus_back(server: PageServer, page: Page) -> None:
    approve = page.locator(".command").get_by_role("button", name="Approve")
    approve.focus()

    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    # Not by its role: the browser hides the dialog, and gives the focus back, a moment before it tells the page.
    expect(page.locator("dialog")).to_have_count(0)
    expect(approve).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    assert server.asked("POST", APPROVE) == []


def test_a_refused_approval_says_why_in_the_dialog(server: PageServer, page: Page) -> None:
    page.locator(".command").get_by_role("button", name="Approve").click()
    server.commands[0]["approved"] = True

    page.get_by_role("dialog").get_by_role("button", name="Approve").click()

    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("Somebody approved this command already.")


def test_a_command_that_was_approved_elsewhere_cannot_be_approved_in_an_open_dialog(
    server: PageServer, page: Page
) -> None:
    page.locator(".command").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Approve")).to_be_enabled()

    server.commands[0].update(FINISHED, approved=True)
    server.tell("commands")

    expect(page.get_by_role("dialog").get_by_role("button", name="Approve")).to_be_disabled()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("This command is completed already.")


def test_the_dialog_warns_when_the_pc_will_refuse(server: PageServer, page: Page) -> None:
    server.commands.insert(0, command("c-2", agent_id="pc-002"))
    server.tell("commands")

    page.locator(".command").filter(has_text="pc-002").get_by_role("button", name="Approve").click()

    expect(page.get_by_role("dialog")).to_contain_text("apply_enabled is false on this PC")
    expect(page.get_by_role("dialog")).to_contain_text("SAFE mode")


def test_a_new_command_waiting_for_approval_is_told_with_everything_to_decide_by(
    server: PageServer, page: Page
) -> None:
    expect(notifications(page).get_by_role("article")).to_have_count(0)

    server.commands.insert(0, command("c-2", agent_id="pc-002", type="STOP_PROCESS", payload={"process": "db"}))
    server.tell("commands")

    toast = notifications(page).get_by_role("article")
    for text in ("STOP_PROCESS waits for approval", "pc-002", '{"process":"db"}', "asked by admin"):
        expect(toast).to_contain_text(text)
    toast.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog", name="Approve on pc-002?")).to_be_visible()
    assert server.asked("POST", "/api/agent-commands/c-2/approve") == []


def test_new_errors_and_failures_are_told_and_old_ones_are_not(server: PageServer, page: Page) -> None:
    expect(notifications(page).get_by_role("article")).to_have_count(0)

    server.agents[0] = agent("pc-001", last_error="disk is full", last_error_at=stamp())
    server.commands[0].update(status="failed", approved=True, result={"success": False, "error": "no such service"})
    server.tell("agents", "commands")

    expect(notifications(page).get_by_text("New error on pc-001")).to_be_visible()
    expect(notifications(page).get_by_text("disk is full")).to_be_visible()
    expect(notifications(page).get_by_text("RESTART_PROCESS on pc-001 failed")).to_be_visible()
    expect(notifications(page).get_by_text("no such service")).to_be_visible()


def test_a_flood_of_news_becomes_one_notification(server: PageServer, page: Page) -> None:
    server.commands[:0] = [command(f"f-{number}") for number in range(30)]
    server.agents[:] = [agent(f"pc-00{number}") for number in range(1, 3)]

    server.tell("commands")

    expect(notifications(page).get_by_role("article")).to_have_count(1)
    expect(notifications(page)).to_contain_text("30 commands wait for approval")


def test_the_mode_buttons_send_at_once_to_the_chosen_pc(server: PageServer, page: Page) -> None:
    page.get_by_role("button", name="pc-002").click()

    page.get_by_role("button", name="SAFE Mode").click()

    expect(page.locator(".command")).to_have_count(2)
    assert server.asked("POST", "/api/agent-commands") == [
        {"agent_id": "pc-002", "type": "SET_MODE", "payload": {"mode": "SAFE"}}
    ]


def test_rate_limit_asks_with_defaults_and_shows_what_the_server_refuses(server: PageServer, page: Page) -> None:
    page.get_by_role("button", name="Rate Limit").click()
    expect(page.get_by_label("Endpoint")).to_have_value("/api")
    expect(page.get_by_label("Requests per second")).to_have_value("50")

    page.get_by_label("Endpoint").fill("bad")
    page.get_by_role("button", name="Limit bad to 50/s on pc-001").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("payload.endpoint")
    page.get_by_label("Endpoint").fill("/login")
    page.get_by_role("button", name="Limit /login to 50/s on pc-001").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    sent = server.asked("POST", "/api/agent-commands")[-1]
    assert sent == {
        "agent_id": "pc-001",
        "type": "SET_RATE_LIMIT",
        "payload": {"endpoint": "/login", "limit_rps": 50},
    }


def test_a_restart_is_asked_for_the_pc_the_dialog_was_opened_for(server: PageServer, page: Page) -> None:
    page.get_by_role("button", name="RESTART (approval required)").click()
    server.agents.reverse()
    server.tell("agents")
    expect(page.locator(".agent-name").first).to_have_text("pc-002")

    page.get_by_role("button", name="Ask to restart nginx on pc-001").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    sent = server.asked("POST", "/api/agent-commands")[-1]
    assert sent == {"agent_id": "pc-001", "type": "RESTART_PROCESS", "payload": {"process": "nginx"}}
    expect(notifications(page).get_by_text("RESTART_PROCESS waits for approval")).to_be_visible()


def test_rollback_undoes_the_last_change_or_a_process(server: PageServer, page: Page) -> None:
    page.get_by_role("button", name="ROLLBACK (approval required)").click()
    page.get_by_role("button", name="Ask to undo the last change on pc-001").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    page.get_by_role("button", name="ROLLBACK (approval required)").click()
    page.get_by_label("What to undo").select_option("nginx")
    page.get_by_role("button", name="Ask to roll back nginx on pc-001").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    assert [body["payload"] for body in server.asked("POST", "/api/agent-commands")] == [{}, {"process": "nginx"}]


def test_stop_notify_and_locked_are_behind_more_commands_in_test_mode(server: PageServer, page: Page) -> None:
    controls = page.get_by_role("region", name="Test Controls")
    names = ["SAFE Mode", "NORMAL Mode", "Rate Limit", "RESTART (approval required)", "ROLLBACK (approval required)"]
    expect(controls.get_by_role("button")).to_have_text(names)

    controls.get_by_text("More commands").click()
    controls.get_by_role("button", name="Notify Ops").click()
    page.get_by_label("Severity").select_option("WARN")
    page.get_by_label("Message").fill("look at the disk")
    page.get_by_role("button", name="Notify operations on pc-001").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    controls.get_by_role("button", name="LOCKED Mode").click()
    expect(page.get_by_role("dialog")).to_contain_text("only reports")
    page.get_by_role("button", name="Set mode LOCKED on pc-001").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    payloads = [body["payload"] for body in server.asked("POST", "/api/agent-commands")]
    assert payloads == [{"severity": "WARN", "message": "look at the disk"}, {"mode": "LOCKED"}]
