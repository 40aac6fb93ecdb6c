import json
import re

import pytest
from page_browser import OpenPage, wait_until_settled
from page_server import PageServer, agent, command, log_line, orphan, process, report, stamp, step
from playwright.sync_api import Locator, Page, expect

pytest_plugins = ("page_fixtures",)

APPROVAL = {"id": "a-1", "approved_by": "user:bob", "approved_at": stamp(200)}
EVIDENCE = {"before": {"pid": 4711}, "after": {"pid": 5120}, "boot_id": "8f0c"}
UNKNOWN = {"success": False, "code": "interrupted", "error": "the agent stopped meanwhile", "evidence": EVIDENCE}


def queue(page: Page) -> Locator:
    return page.get_by_role("region", name="Command Queue")


def row(page: Page, command_id: str) -> Locator:
    return page.locator(f'[data-command-id="{command_id}"]')


def open_settled(open_page: OpenPage, **options: int) -> Page:
    page = open_page(**options)
    wait_until_settled(page)
    return page


def test_the_timeline_tells_who_when_how_long_and_what_the_pc_found(server: PageServer, open_page: OpenPage) -> None:
    checks = [{"check": "up_s 2", "ok": True, "detail": "up for 2.1 s"}, {"check": "tcp_port 80", "ok": False}]
    back = {"success": True, "output": "switched back", "verification": [{"check": "process_up", "ok": True}]}
    result = {"success": False, "error": "not as it should be", "exit_code": 0, "verification": checks}
    result |= {"rolled_back": True, "rollback": back, "before": {"pids": [4711]}, "after": {"pids": [5120, 5121]}}
    server.agents = [agent()]
    server.commands = [command("c-1", status="failed", approval=APPROVAL, approved=True, expect={"pid": 4711})]
    server.timelines = {
        "c-1": [
            step("requested", 300, reason="shop answers 502", expires_at=stamp(-600), type="RESTART_PROCESS"),
            step("approved", 200, "user:bob", approval_id="a-1"),
            step("delivered", 199.96, "agent:pc-001", delivery=1, command_ids=["c-1"]),
            step("failed", 190, "agent:pc-001", status="failed", ended="failed", error="not as it should be"),
        ]
    }
    server.reports = {"c-1": [report("failed", 190, result)]}
    page = open_settled(open_page)

    row(page, "c-1").get_by_text("Timeline").click()

    steps = row(page, "c-1").locator(".step")
    expect(steps).to_have_count(4)
    for index, words in enumerate(
        (
            ["13:58:22", "Asked for by admin", "shop answers 502", "It may begin until 14:13:22"],
            ["14:00:02", "+1 min 40 s", "Approved by bob", "pid 4711"],
            ["Sent to the PC", "+40 ms"],
            [
                "Failed says the PC",
                "not as it should be",
                "exit code 0",
                "up_s 2 held: up for 2.1 s",
                "tcp_port 80 failed",
            ],
        )
    ):
        for word in words:
            expect(steps.nth(index)).to_contain_text(word)
    expect(steps.nth(3)).to_contain_text("5120, 5121")
    expect(steps.nth(3)).to_contain_text("Rolled back by the PC itself; that worked.")
    expect(steps.nth(3)).to_contain_text("process_up held")
    expect(steps.nth(2)).not_to_contain_text("command ids")


def test_an_open_timeline_grows_when_something_happens(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1")]
    server.timelines = {"c-1": [step("requested", 12)]}
    page = open_settled(open_page)
    row(page, "c-1").get_by_text("Timeline").click()
    expect(row(page, "c-1").locator(".step")).to_contain_text(["Asked for", "Not sent to the PC yet"])

    server.timelines["c-1"].append(step("approved", 1, "user:bob"))
    server.tell("commands")

    expect(row(page, "c-1").locator(".step")).to_contain_text(["Asked for", "Approved by bob", "Not sent"])


def test_contradicting_reports_are_all_shown(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="unknown", result=UNKNOWN)]
    server.timelines = {"c-1": [step("report_conflict", 5, "agent:pc-001", status="completed", ended="unknown")]}
    server.reports = {"c-1": [report("unknown", 9, UNKNOWN), report("completed", 5, {"output": "ran"}, "conflict")]}
    page = open_settled(open_page)

    row(page, "c-1").get_by_text("Timeline").click()

    expect(row(page, "c-1").locator(".step")).to_contain_text("It says completed; recorded is unknown.")
    reports = row(page, "c-1").locator(".report")
    expect(reports).to_contain_text(["unknown recorded", "completed contradicts what is recorded; kept as evidence"])
    expect(reports.nth(1)).to_be_visible()


def test_a_timeline_that_cannot_be_loaded_says_so(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1")]
    page = open_settled(open_page)
    expect(row(page, "c-1")).to_be_visible()
    gone = {"error": "command_not_found", "message": "There is no command of that id."}
    page.route("**/api/agent-commands/c-1", lambda route: route.fulfill(status=404, json=gone))

    row(page, "c-1").get_by_text("Timeline").click()

    expect(row(page, "c-1")).to_contain_text("There is no command of that id.")


def test_what_is_pending_says_what_it_waits_for_and_until_when(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent(), agent("pc-off", status="OFFLINE")]
    safe = {"type": "SET_MODE", "payload": {"mode": "SAFE"}, "needs_approval": False, "strength": "safe"}
    server.commands = [
        command("c-4", expires_at=stamp(-272)),
        command("c-3", agent_id="pc-off", expires_at=stamp(-3_600)),
        command("c-2", agent_id="pc-off", approved=True, approval=APPROVAL, expires_at=stamp(-600)),
        command("c-1", agent_id="pc-off", expires_at=stamp(-86_400), **safe),
        command("c-0", approved=True, approval=APPROVAL),
    ]

    page = open_settled(open_page)

    expect(row(page, "c-4")).to_contain_text(re.compile(r"expires in 4 min 3\ds|expires in 4 min \d\d s"))
    expect(row(page, "c-3")).to_contain_text("the PC is OFFLINE")
    expect(row(page, "c-2")).to_contain_text("waits for the PC until 14:13")
    expect(row(page, "c-1")).to_contain_text("waits for the PC until 24 Nov 14:03")
    expect(row(page, "c-0")).to_contain_text("on its way to the PC")


def test_the_time_that_is_left_is_counted_from_the_servers_clock(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", expires_at=stamp(-300))]
    page = open_settled(open_page)
    expect(row(page, "c-1")).to_contain_text(re.compile(r"expires in (4 min \d\d|5 min 00) s"))

    server.ahead_s = 270
    server.tell("commands")

    expect(row(page, "c-1")).to_contain_text(re.compile(r"expires in [123]\d s"))
    server.ahead_s = 301
    server.tell("commands")
    expect(row(page, "c-1")).to_contain_text("expires any moment")


def test_every_end_has_its_own_words_and_shape(server: PageServer, open_page: OpenPage) -> None:
    statuses = ["completed", "failed", "rejected", "expired", "cancelled", "unknown"]
    server.agents = [agent()]
    server.commands = [command(status, status=status) for status in statuses]

    page = open_settled(open_page)

    expect(row(page, "expired")).to_contain_text("It expired before it began; it did not run.")
    expect(row(page, "cancelled")).to_contain_text("It was cancelled before it began; it did not run.")
    expect(row(page, "unknown")).to_contain_text("We do not know whether it ran.")
    script = """marks => marks.map((mark) => { const style = getComputedStyle(mark);
        const before = getComputedStyle(mark, "::before").content;
        return [style.clipPath, style.borderRadius, style.height, before].join() })"""
    shapes = page.locator(".command-status .status-mark").evaluate_all(script)
    assert len(shapes) == len(set(shapes)) == len(statuses)


def test_an_unknown_end_shows_its_evidence_and_is_resolved_with_a_finding_and_a_reason(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="unknown", result=UNKNOWN, approval=APPROVAL, approved=True)]
    page = open_settled(open_page)
    for words in ("We do not know whether it ran.", "the agent stopped meanwhile", "4711", "5120", "a new approval"):
        expect(row(page, "c-1")).to_contain_text(words)
    expect(page.get_by_role("button", name=re.compile("retry|again", re.IGNORECASE))).to_have_count(0)

    row(page, "c-1").get_by_role("button", name="Resolve").click()
    dialog = page.get_by_role("dialog", name="What became of it on pc-001?")
    record = dialog.get_by_role("button", name="Record")
    expect(dialog).to_contain_text("nothing runs again")
    expect(record).to_be_disabled()
    dialog.get_by_label("It ran", exact=True).check()
    expect(record).to_be_disabled()
    dialog.get_by_label("How do you know?").fill("  ")
    expect(record).to_be_disabled()
    dialog.get_by_label("How do you know?").fill("the pid is new")
    dialog.get_by_role("button", name="Record that it ran").click()

    expect(dialog).to_have_count(0)
    expect(row(page, "c-1")).to_have_attribute("data-status", "completed")
    expect(row(page, "c-1")).to_contain_text("admin found at 14:03:22 that it ran: “the pid is new”")
    assert server.asked("POST", "/api/agent-commands/c-1/resolve") == [{"outcome": "ran", "reason": "the pid is new"}]


def test_an_unknown_that_the_pc_resolved_meanwhile_cannot_be_resolved_in_an_open_dialog(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="unknown", result=UNKNOWN)]
    page = open_settled(open_page)
    row(page, "c-1").get_by_role("button", name="Resolve").click()

    server.commands[0].update(status="completed", result={"success": True})
    server.tell("commands")

    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("This command is completed already.")
    expect(page.get_by_role("dialog").get_by_role("button", name="Record")).to_be_disabled()


def test_cancelling_names_the_pc_and_says_what_it_can_still_do(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-2"), command("c-1", status="delivered"), command("c-0", status="running")]
    page = open_settled(open_page)
    expect(row(page, "c-0").get_by_role("button", name="Cancel")).to_have_count(0)

    row(page, "c-2").get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Cancel on pc-001?")
    for words in ("Restart nginx", "host-pc-001", "RESTART_PROCESS", "it will not run"):
        expect(dialog).to_contain_text(words)
    dialog.get_by_role("button", name="Keep it").click()
    assert server.asked("POST", "/api/agent-commands/c-2/cancel") == []
    row(page, "c-2").get_by_role("button", name="Cancel").click()
    dialog.get_by_label("Reason").fill("not needed")
    dialog.get_by_role("button", name="Cancel the command").click()
    expect(row(page, "c-2")).to_have_attribute("data-status", "cancelled")

    row(page, "c-1").get_by_role("button", name="Cancel").click()
    expect(dialog).to_contain_text("If the PC has not begun")
    dialog.get_by_role("button", name="Cancel the command").click()
    expect(row(page, "c-1")).to_contain_text("cancel requested")
    expect(row(page, "c-1").get_by_role("button", name="Cancel")).to_have_count(0)

    assert server.asked("POST", "/api/agent-commands/c-2/cancel") == [{"reason": "not needed"}]
    assert server.asked("POST", "/api/agent-commands/c-1/cancel") == [{}]


def test_a_cancellation_that_comes_too_late_says_why(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="delivered")]
    page = open_settled(open_page)
    row(page, "c-1").get_by_role("button", name="Cancel").click()

    page.route("**/api/agent-commands?*", lambda _route: None)  # The page learns it from the refusal alone.
    server.commands[0]["status"] = "running"
    page.get_by_role("dialog").get_by_role("button", name="Cancel the command").click()

    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("The PC has begun already.")


def test_a_waiting_approval_older_than_the_newest_fifty_is_counted_and_found(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent()]
    server.commands = [command(f"c-{number}", status="completed") for number in range(200)]
    server.commands += [command("old"), command("safe", needs_approval=False), command("lost", status="unknown")]
    page = open_settled(open_page)
    expect(queue(page)).to_contain_text("1 waiting")
    expect(row(page, "old")).to_have_count(0)

    queue(page).get_by_role("button", name="Waiting 1").click()

    expect(queue(page).locator(".command")).to_have_count(1)
    expect(row(page, "old").get_by_role("button", name="Approve")).to_be_enabled()
    assert any("status=pending&" in f"{path}&" for _, path, _ in server.requests)
    queue(page).get_by_role("button", name="Unknown 1").click()
    expect(queue(page).locator(".command")).to_have_count(1)
    expect(row(page, "lost")).to_be_visible()


def test_this_pc_asks_the_server_for_its_commands_and_follows_the_selection(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent("pc-a"), agent("pc-b")]
    server.commands = [command(f"c-{number}", agent_id="pc-a", status="completed") for number in range(120)]
    server.commands += [command("only-b", agent_id="pc-b", status="failed")]
    page = open_settled(open_page)

    queue(page).get_by_role("button", name="This PC").click()
    expect(queue(page).locator(".command")).to_have_count(50)
    queue(page).get_by_role("button", name="Load older").click()
    expect(queue(page).locator(".command")).to_have_count(120)
    page.get_by_role("button", name="pc-b").click()

    expect(queue(page).locator(".command")).to_have_count(1)
    expect(row(page, "only-b")).to_be_visible()
    queue(page).get_by_role("button", name="Unknown").click()
    expect(queue(page)).to_contain_text("No command ended unknown. Only this PC's are shown.")


def test_reports_about_commands_unknown_here_are_shown_as_evidence(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_settled(open_page)
    expect(queue(page).locator(".orphans")).to_have_count(0)

    server.orphans = [orphan(1), orphan(2, agent_id="pc-002", command_id="gone-2", status="failed")]
    server.tell("commands")
    queue(page).get_by_text("2 reports about commands this server does not know").click()

    expect(queue(page).locator(".orphans .report")).to_contain_text(
        ["pc-001 reported completed for gone-1", "pc-002 reported failed for gone-2"]
    )


@pytest.mark.parametrize(
    ("watched", "journal", "words"),
    [
        (process("nginx"), "e-1", "pid 4711, started 13:03:22 or the PC refuses"),
        (process("nginx", running=False, pid=None), "e-1", "not running or the PC refuses"),
        (process("nginx"), None, "An older agent runs on this PC: it does not check that this is still so."),
        (process("other"), "e-1", "The PC does not report nginx"),
    ],
)
def test_approving_says_what_the_process_is_now_and_why_it_was_asked(
    server: PageServer, open_page: OpenPage, watched: dict[str, object], journal: str | None, words: str
) -> None:
    server.agents = [agent(metrics={"processes": [watched], "journal": journal})]
    server.commands = [command("c-1", reason="shop answers 502")]
    page = open_settled(open_page)

    row(page, "c-1").get_by_role("button", name="Approve").click()

    expect(page.get_by_role("dialog")).to_contain_text(words)
    expect(page.get_by_role("dialog")).to_contain_text("shop answers 502")


def test_a_reason_may_be_given_with_a_request(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_settled(open_page)
    page.get_by_role("button", name="RESTART (approval required)").click()

    page.get_by_label("Reason (optional").fill(" shop answers 502 ")
    page.get_by_role("button", name="Ask to restart nginx on pc-001").click()
    expect(page.get_by_role("dialog")).to_have_count(0)

    assert server.asked("POST", "/api/agent-commands")[0] == {
        "agent_id": "pc-001",
        "type": "RESTART_PROCESS",
        "payload": {"process": "nginx"},
        "reason": "shop answers 502",
    }
    expect(queue(page)).to_contain_text("“shop answers 502”")


def test_an_unknown_end_is_told_and_leads_to_the_decision(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="running", approved=True)]
    page = open_settled(open_page)
    expect(row(page, "c-1")).to_be_visible()

    server.commands[0].update(status="unknown", result=UNKNOWN)
    server.tell("commands")

    toast = page.get_by_role("region", name="Notifications").get_by_role("article")
    expect(toast).to_contain_text("RESTART_PROCESS on pc-001 ended unknown")
    expect(toast).to_contain_text("We do not know whether it ran.")
    toast.get_by_role("button", name="Resolve").click()
    expect(page.get_by_role("dialog", name="What became of it on pc-001?")).to_be_visible()


def test_none_offline_is_no_alarm(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_settled(open_page)
    totals = page.locator(".totals")
    quiet = page.locator(".agent-head").evaluate("head => getComputedStyle(head).color")
    expect(totals.get_by_text("0 OFFLINE")).to_have_css("color", quiet)

    server.agents.append(agent("pc-002", status="OFFLINE"))
    server.tell("agents")

    expect(totals.get_by_text("1 OFFLINE")).not_to_have_css("color", quiet)


def test_locked_says_how_it_is_left(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_settled(open_page)
    page.get_by_text("More commands").click()

    page.get_by_role("button", name="LOCKED Mode").click()

    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("reco3 agent mode NORMAL CONFIG")
    expect(dialog).to_contain_text("control.safe_modes")
    expect(dialog).not_to_contain_text("approved SET_MODE")


def test_a_line_that_says_its_time_is_not_given_it_twice(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    texts = ["2026-11-23 14:03:15 ERROR a", "[14:03:08] b", "2026-11-22 14:03:01 c", "2026-11-23T13:02:54 d", "e"]
    server.logs = [log_line(number, msg=text) for number, text in enumerate(texts, start=1)]

    page = open_settled(open_page)

    lines = page.locator(".log-line")
    expect(lines.locator(".log-message")).to_have_text(texts)
    expect(lines.locator(".log-time")).to_have_text(["", "", "14:03:01", "14:02:54", "14:02:47"])


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_text_in_timelines_evidence_and_orphans_only_stands_there(
    server: PageServer, open_page: OpenPage, width: int
) -> None:
    evil = '<img src=x onerror="window.pwned=1">\u202egpj.exe\x1b[31m' + "e" + "\u0301" * 60
    endless = "x" * 3_000
    facts = {evil: endless, "pid": evil, "create_time_ms": 1e300, "deep": json.loads("[" * 200 + "]" * 200)}
    checks = [{"check": evil, "ok": "yes", "detail": endless}, evil, None]
    result = {"error": evil, "code": evil, "output": f"{evil}\n{endless}", "verification": checks, "rollback": facts}
    result |= {"evidence": {"before": facts, "after": {**facts, "verification": checks}, evil: evil}, endless: evil}
    who = {"agent_id": evil, "created_by": evil, "reason": f"{evil} {endless}"}
    resolution = {"outcome": evil, "reason": evil, "resolved_by": evil, "resolved_at": evil}
    server.agents = [agent(evil[:60])]
    server.commands = [
        command("c-3", status="unknown", result=result, expect={"pid": evil, "create_time_ms": evil}, **who),
        command("c-2", status="failed", result=result, resolution=resolution, **who),
        command("c-1", expires_at=evil, cancel_requested_at=evil, **who),
    ]
    server.timelines = {
        "c-3": [step("__proto__", 5, evil, **{evil: facts, "reason": evil, "outcome": evil, "acts_at": evil})],
        "c-2": [step("failed", 5, evil, **result), step("constructor", -9, evil, expect=facts, result=result)],
    }
    server.reports = {"c-3": [report(evil, 5, result, evil), report("failed", 4, result, "conflict")]}
    server.orphans = [orphan(1, agent_id=evil, command_id=endless, status=evil, result=result)]
    page = open_settled(open_page, width=width)

    queue(page).locator(".orphans > summary").click()
    for command_id in ("c-3", "c-2"):
        row(page, command_id).locator(".timeline-fold > summary").click()
        expect(row(page, command_id).locator(".step").first).to_be_visible()
    queue(page).locator("details").evaluate_all("folds => folds.forEach((fold) => { fold.open = true })")
    row(page, "c-3").get_by_role("button", name="Resolve").click()

    expect(page.get_by_role("dialog")).to_contain_text("<img src=x")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, #page script").count() == 0
    text = page.locator("body").inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\u2039U+202E\u203a" in text
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert queue(page).evaluate("panel => panel.scrollWidth <= panel.clientWidth + 1")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_open_timelines_fit_and_can_be_tapped(server: PageServer, open_page: OpenPage, width: int) -> None:
    server.agents = [agent()]
    server.commands = [command("c-1", status="unknown", result=UNKNOWN, expect={"pid": 4711})]
    server.timelines = {"c-1": [step("requested", 300, reason="why"), step("unknown", 5, "agent:pc-001", **UNKNOWN)]}
    server.reports = {"c-1": [report("unknown", 5, UNKNOWN)]}
    server.orphans = [orphan()]
    page = open_settled(open_page, width=width)

    row(page, "c-1").get_by_text("Timeline").click()
    expect(row(page, "c-1").locator(".step")).to_have_count(2)

    assert page.evaluate("document.documentElement.scrollWidth") == width
    heights = queue(page).locator("summary, button").evaluate_all("all => all.map((one) => one.offsetHeight)")
    assert width > 899 or min(heights) >= 44
