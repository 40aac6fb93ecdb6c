import re
from urllib.parse import unquote

from page_browser import OpenPage, wait_until_settled
from page_server import PageServer, agent, command, incident, log_line, process, samples, stamp
from playwright.sync_api import expect

pytest_plugins = ("page_fixtures",)


def test_the_page_has_the_sections_of_the_contract_and_a_red_badge(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]

    page = open_page()

    headings = ["PC Agents", "System Metrics", "Test Controls", "Command Queue", "Incidents", "Agent Logs"]
    expect(page.get_by_role("heading", level=2)).to_have_text(headings)
    badge = page.get_by_text("TEST MODE", exact=True)
    expect(badge).to_be_visible()
    expect(badge).to_have_css("background-color", re.compile(r"rgb\(19\d, \d\d, \d\d\)"))
    box = badge.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] > 1240
    assert box["y"] < 30


def test_outside_test_mode_there_is_no_badge_and_commands_can_still_be_sent(
    server: PageServer, open_page: OpenPage
) -> None:
    server.test_mode = False
    server.operator = {"name": "ann", "role": "admin", "how": "session"}
    server.agents = [agent()]

    page = open_page()

    expect(page.get_by_role("heading", name="Send a command")).to_be_visible()
    expect(page.get_by_role("heading", name="Test Controls")).to_have_count(0)
    expect(page.get_by_text("TEST MODE")).to_have_count(0)
    for name in ("SAFE Mode", "NORMAL Mode", "LOCKED Mode", "Rate Limit", "Notify Ops", "STOP (approval required)"):
        expect(page.get_by_role("button", name=name)).to_be_enabled()


def test_an_empty_fleet_is_called_so_with_a_hint_how_to_start_an_agent(server: PageServer, open_page: OpenPage) -> None:
    page = open_page()

    expect(page.get_by_text("No agents (offline)", exact=True)).to_be_visible()
    expect(page.get_by_text("python agent/common/reco_agent.py")).to_be_visible()
    expect(page.get_by_text(f'base_url: "{server.url}"')).to_be_visible()


def test_the_first_pc_is_selected_and_its_numbers_are_shown(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent("pc-a", last_error="disk is nearly full", last_error_at=stamp(60)), agent("pc-b")]
    server.samples = samples(gap=range(40, 50))
    server.logs = [log_line(1, agent_id="pc-a")]

    page = open_page()

    row = page.get_by_role("row").filter(has_text="pc-a").first
    expect(row).to_contain_text("ONLINE")
    expect(row).to_contain_text("23 %")
    expect(row).to_contain_text("disk is nearly full")
    metrics = page.get_by_role("region", name="System Metrics")
    for text in ("pc-a", "23.4 %", "61.2 %", "78.9 %", "9.7 of 15.8 GiB", "nginx", "4711", "not running"):
        expect(metrics).to_contain_text(text)
    expect(metrics.get_by_role("img", name=re.compile("last 15 minutes"))).to_have_count(4)
    expect(page.get_by_role("region", name="Agent Logs")).to_contain_text("line 1: upstream timed out")


def test_a_sparkline_leaves_a_gap_where_nothing_was_measured(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.samples = samples(gap=range(40, 50))

    page = open_page()

    line = page.get_by_role("img", name=re.compile("^CPU")).locator(".spark-line")
    expect(line).to_have_attribute("d", re.compile(r"^M[^M]+M[^M]+$"))


def test_choosing_another_pc_changes_every_section_about_it(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent("pc-a"), agent("pc-b", status="OFFLINE", metrics={"cpu_percent": 7.5})]
    server.logs = [log_line(1, agent_id="pc-b", msg="only on b")]
    page = open_page()

    page.get_by_role("button", name="pc-b").click()

    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("7.5 %")
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("This PC is OFFLINE")
    expect(page.get_by_role("region", name="Agent Logs")).to_contain_text("only on b")
    expect(page.get_by_role("region", name="Test Controls")).to_contain_text("pc-b")


def test_an_older_agent_without_most_metrics_is_shown_with_dashes(server: PageServer, open_page: OpenPage) -> None:
    bare = {"cpu_percent": 5.0, "mem_percent": None, "disk_percent": None, "processes": None, "interfaces": None}
    server.agents = [agent("old", mode=None, apply_enabled=None, version=None, metrics=bare)]

    page = open_page()

    metrics = page.get_by_role("region", name="System Metrics")
    expect(metrics).to_contain_text("5.0 %")
    expect(metrics).to_contain_text("unknown")
    expect(metrics).to_contain_text("watches no process")


def test_the_level_filter_and_load_older_show_what_they_say(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.logs = [log_line(number, level="WARN" if number == 2 else "ERROR") for number in range(1, 81)]
    page = open_page()
    logs = page.get_by_role("region", name="Agent Logs")
    expect(logs.get_by_role("listitem")).to_have_count(50)

    logs.get_by_role("button", name="Load older").click()

    expect(logs.get_by_role("listitem")).to_have_count(80)
    expect(logs.get_by_role("button", name="Load older")).to_have_count(0)
    logs.get_by_role("button", name="WARN").click()
    expect(logs.get_by_role("listitem")).to_have_count(1)
    expect(logs.get_by_role("listitem")).to_contain_text("line 2:")


def test_closing_an_incident_takes_it_from_the_list(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    server.incidents = [incident(1), incident(2, title="Agent pc-001: DISK_FULL")]
    page = open_page()
    incidents = page.get_by_role("region", name="Incidents")
    expect(incidents).to_contain_text("2 open")

    incidents.get_by_role("button", name="Close incident: Agent pc-001: DISK_FULL").click()

    expect(incidents).to_contain_text("1 open")
    expect(incidents.get_by_text("DISK_FULL")).to_have_count(0)
    assert [row["status"] for row in server.incidents] == ["open", "closed"]


def test_five_thousand_pcs_are_loaded_page_by_page_and_few_rows_are_drawn(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent(f"pc-{number:04}", metrics={"processes": []}) for number in range(5_000)]
    server.agents[-1]["status"] = "OFFLINE"
    page = open_page()
    agents = page.get_by_role("region", name="PC Agents")
    expect(agents).to_contain_text("100 of 5,000 loaded")
    expect(agents).to_contain_text("4,999 ONLINE")
    expect(agents).to_contain_text("1 OFFLINE")
    wait_until_settled(page)
    more = agents.get_by_role("button", name="Load more")

    clicks = 0
    while more.is_visible():
        # What is loaded is read again now and then, in whole pages: that may bring some more than the clicks did.
        shown = agents.get_by_text("of 5,000 loaded").inner_text()
        more.click()
        expect(agents.get_by_text(shown, exact=True)).to_have_count(0)
        expect(agents.get_by_role("button", name="Loading…")).to_have_count(0)
        clicks += 1

    assert 8 <= clicks <= 10
    expect(agents.get_by_text("of 5,000 loaded")).to_have_count(0)
    expect(more).to_have_count(0)
    assert agents.get_by_role("row").count() < 60
    agents.locator(".window").evaluate("window => window.scrollTo(0, window.scrollHeight)")
    expect(agents.get_by_role("button", name="pc-4999")).to_be_visible()
    agents.get_by_role("searchbox").fill("pc-42 online")
    expect(agents.get_by_role("button", name="pc-4200")).to_be_visible()
    expect(agents.get_by_role("table")).to_have_attribute("aria-rowcount", "101")


def test_the_queue_says_type_payload_asker_approval_and_result(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    approval = {"id": "a-1", "approved_by": "user:bob", "approved_at": stamp(60)}
    failure = {"success": False, "error": "apply_enabled is false on this PC", "code": "apply_disabled"}
    success = {"success": True, "output": "pid 4711", "exit_code": 0, "duration_ms": 1_141}
    server.commands = [
        command("c-3"),
        command("c-2", status="failed", approved=True, approval=approval, result=failure),
        command("c-1", status="completed", approved=True, approval=approval, result=success),
    ]

    page = open_page()

    rows = page.get_by_role("region", name="Command Queue").locator(".command")
    for text in ("pending", "RESTART_PROCESS", '{"process":"nginx"}', "asked by admin", "waits for approval"):
        expect(rows.nth(0)).to_contain_text(text)
    expect(rows.nth(0).get_by_role("button", name="Approve")).to_be_enabled()
    expect(rows.nth(1)).to_contain_text("apply_enabled is false on this PC")
    expect(rows.nth(1)).to_contain_text("approved by bob")
    expect(rows.nth(1).get_by_role("button", name="Approve")).to_have_count(0)
    expect(rows.nth(2)).to_contain_text("exit code 0, took 1.14 s")
    rows.nth(2).get_by_text("Output").click()
    expect(rows.nth(2).get_by_text("pid 4711")).to_be_visible()


def test_the_id_of_a_pc_is_encoded_in_addresses(server: PageServer, open_page: OpenPage) -> None:
    strange = "../../x?y=1#z%2f"
    server.agents = [agent(strange)]
    server.logs = [log_line(1, agent_id=strange, msg="found it")]

    page = open_page()

    expect(page.get_by_text("found it")).to_be_visible()
    paths = [path for _, path, _ in server.requests if path.startswith("/api/r3/agent/")]
    assert paths
    assert {unquote(path.split("/")[4]) for path in paths} == {strange}


def test_restart_offers_the_watched_processes_of_the_chosen_pc(server: PageServer, open_page: OpenPage) -> None:
    watched = [process("cache", allow_restart=False), process("nginx")]
    server.agents = [agent(metrics={"processes": watched})]
    page = open_page()

    page.get_by_role("button", name="RESTART (approval required)").click()

    choice = page.get_by_label("Watched process")
    expect(choice).to_have_value("nginx")
    expect(choice.get_by_role("option")).to_have_text(
        ["cache (running, pid 4711, allow_restart is false)", "nginx (running, pid 4711)"]
    )
    expect(page.get_by_role("button", name="Ask to restart nginx on pc-001")).to_be_enabled()
