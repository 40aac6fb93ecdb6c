import json
from pathlib import Path
from typing import Any

import pytest
from page_browser import OpenPage, violations_of
from page_server import PageServer, agent, command, incident, log_line, process, stamp
from playwright.sync_api import Page, expect

pytest_plugins = ("page_fixtures",)

CASES = Path(__file__).resolve().parents[1] / "data"
BIDI = "\u202e"
SHOWN_BIDI = "\u2039U+202E\u203a"
MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
HOSTILE = f"{MARKUP} {BIDI}gpj.exe \x1b[31m " + "e\u0301" + "\u0301" * 80
ENDLESS = "x" * 5_000


def call(page: Page, module: str, name: str, *arguments: Any) -> Any:
    """Call one exported function of the page's own module."""
    script = "([module, name, values]) => import(module).then((loaded) => loaded[name](...values))"
    return page.evaluate(script, [f"/static/ui/{module}.js", name, list(arguments)])


def hostile_server(rows: PageServer) -> None:
    name = HOSTILE[:200]
    watched = [process(name), process(ENDLESS)]
    metrics = {"hostname": name, "processes": watched, "interfaces": [{"name": name}]}
    error = {"last_error": f"{HOSTILE} {ENDLESS}", "last_error_at": stamp(9), "recent_error_count": 3}
    rows.agents = [agent(name, metrics=metrics, platform=name, version=name, **error), agent(ENDLESS, **error)]
    result = {"success": True, "output": f"{HOSTILE}\n{ENDLESS}"}
    failure = {"success": False, "error": f"{HOSTILE} {ENDLESS}"}
    rows.commands = [
        command("c-3", agent_id=name, payload={"process": name}, created_by=name),
        command("c-2", agent_id=name, type=name, payload={name: ENDLESS}, status="completed", result=result),
        command("c-1", agent_id=ENDLESS, status="failed", result=failure),
    ]
    rows.logs = [
        log_line(1, agent_id=name, msg=HOSTILE, code=name, level=name),
        log_line(2, agent_id=name, msg=ENDLESS, meta_json=json.dumps({"k": HOSTILE})),
    ]
    rows.incidents = [incident(1, title=HOSTILE, summary=ENDLESS, agent_id=name, code=name, severity=name)]


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_text_from_a_pc_does_nothing_but_stand_there(
    server: PageServer, open_page: OpenPage, width: int
) -> None:
    hostile_server(server)

    page = open_page(width=width)

    expect(page.get_by_role("region", name="Incidents").get_by_text("<img src=x").first).to_be_visible()
    expect(page.get_by_role("region", name="Agent Logs").locator(".log-line")).to_have_count(2)
    expect(page.locator(".command")).to_have_count(3)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, #page script").count() == 0
    assert BIDI not in page.locator("body").inner_text()
    assert SHOWN_BIDI in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert panels_wider_than_themselves(page) == []


def test_hostile_text_in_dialogs_and_notifications_does_nothing_either(server: PageServer, open_page: OpenPage) -> None:
    hostile_server(server)
    page = open_page(width=390)
    name = server.agents[0]["agent_id"]
    page.locator(".command").first.wait_for()
    server.commands.insert(0, command("c-9", agent_id=name, payload={"process": HOSTILE}))
    server.agents[0] = server.agents[0] | {"last_error_at": stamp()}
    server.tell("agents", "commands")

    page.get_by_role("region", name="Notifications").get_by_role("button", name="Approve").click()

    expect(page.get_by_role("dialog")).to_contain_text("<img src=x")
    expect(page.get_by_role("dialog")).to_contain_text(SHOWN_BIDI)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_check_for_policy_violations_sees_one(open_page: OpenPage) -> None:
    page = open_page()

    page.evaluate("document.body.setAttribute('style', 'color: red')")

    page.wait_for_function("() => window.violations.length > 0")
    assert violations_of(page) == ["style-src-attr"]
    page.evaluate("window.violations.length = 0")


def test_the_policy_stops_markup_that_a_script_would_write(open_page: OpenPage) -> None:
    page = open_page()

    refusal = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'written' } catch (e) { return e.name } }"
    )

    assert refusal == "TypeError"
    page.evaluate("window.violations.length = 0")


def test_texts_show_what_cannot_be_seen(open_page: OpenPage) -> None:
    page = open_page()
    cases = json.loads((CASES / "page_hostile_texts.json").read_text(encoding="utf-8"))

    # Lone surrogates do not survive the way through Playwright: the cases are compared inside the page.
    script = """(cases) => import("/static/ui/texts.js").then(({ oneLine }) => JSON.parse(cases)
        .map(({ name, text, line }) => ({ name, got: oneLine(text), line }))
        .filter(({ got, line }) => got !== line))"""
    wrong = page.evaluate(script, json.dumps(cases))

    assert wrong == []


def test_quantities_carry_their_unit_and_what_is_missing_is_a_dash(open_page: OpenPage) -> None:
    page = open_page()
    cases = json.loads((CASES / "page_quantities.json").read_text(encoding="utf-8"))

    got = [call(page, "quantities", case["call"], case["value"]) for case in cases]

    assert got == [case["text"] for case in cases]


def test_a_reboot_and_a_pause_leave_gaps_in_network_rates(open_page: OpenPage) -> None:
    page = open_page()
    totals = [(0, 1_000), (10, 2_000), (20, 500), (30, 1_500), (90, 9_000), (100, 9_500)]

    rates = call(page, "sparklines", "ratesOf", [{"atMs": at_s * 1_000, "value": value} for at_s, value in totals])

    assert [(rate["atMs"] // 1_000, rate["value"]) for rate in rates] == [(10, 100), (30, 100), (100, 50)]


def test_older_rows_stay_below_a_fresh_page_and_go_when_the_pages_do_not_touch(open_page: OpenPage) -> None:
    page = open_page()
    loaded = {"rows": [{"id": 4}, {"id": 3}, {"id": 2}, {"id": 1}], "nextCursor": "older"}

    touching = call(page, "rows", "withNewest", loaded, {"rows": [{"id": 5}, {"id": 4}], "nextCursor": "c"})
    apart = call(page, "rows", "withNewest", loaded, {"rows": [{"id": 9}, {"id": 8}], "nextCursor": "c"})

    assert [row["id"] for row in touching["rows"]] == [5, 4, 3, 2, 1]
    assert touching["nextCursor"] == "older"
    assert [row["id"] for row in apart["rows"]] == [9, 8]
    assert apart["nextCursor"] == "c"


def panels_wider_than_themselves(page: Page) -> list[str]:
    """The headings of sections whose content sticks out at the side."""
    script = """sections => sections.filter((section) => section.scrollWidth > section.clientWidth + 1)
        .map((section) => section.querySelector("h2").textContent)"""
    found: list[str] = page.locator("section.panel").evaluate_all(script)
    return found
