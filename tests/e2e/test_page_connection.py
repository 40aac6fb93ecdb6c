import contextlib
import re
from pathlib import Path
from urllib.parse import urlsplit

from page_browser import OpenPage, wait_until_settled
from page_server import WEB, PageServer, agent, command, log_line, samples
from playwright.sync_api import Page, expect

pytest_plugins = ("page_fixtures",)

POLL_MS = 5_000
LONGEST_RETRY_MS = 40_000


def wait_until_live(page: Page) -> None:
    """Let the longest time pass after which the page tries again.

    A question that is under way when the clock jumps counts as one that nobody answered, so one jump may not do.
    """
    for _ in range(3):
        page.clock.fast_forward(LONGEST_RETRY_MS)
        with contextlib.suppress(AssertionError):
            expect(page.locator(".connection")).to_have_text("Live")
            return
    expect(page.locator(".connection")).to_have_text("Live")


def test_a_change_is_shown_as_soon_as_the_stream_tells_it(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent(metrics={"cpu_percent": 11.0})]
    page = open_page()
    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("11.0 %")

    server.agents[0] = agent(metrics={"cpu_percent": 99.0})
    server.tell("agents", agent_ids=("pc-001",))

    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("99.0 %")


def test_only_what_the_stream_names_is_fetched_again(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_page()
    expect(page.locator(".connection")).to_have_text("Live")
    wait_until_settled(page)
    server.commands.append(command("c-1"))
    before = len(server.asked("GET", "/api/incidents"))

    server.tell("commands")

    expect(page.locator(".command")).to_have_count(1)
    assert len(server.asked("GET", "/api/incidents")) == before


def test_without_a_stream_the_page_asks_every_five_seconds(server: PageServer, open_page: OpenPage) -> None:
    server.has_stream = False
    server.agents = [agent(metrics={"cpu_percent": 11.0})]
    page = open_page(has_clock=True)
    expect(page.locator(".connection")).to_have_text("Polling")
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("11.0 %")

    server.agents[0] = agent(metrics={"cpu_percent": 99.0})
    page.clock.fast_forward(POLL_MS)

    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("99.0 %")
    expect(page.get_by_role("button", name="SAFE Mode")).to_be_enabled()


def test_a_cut_stream_falls_back_to_polling_and_comes_back(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_page(has_clock=True)
    expect(page.locator(".connection")).to_have_text("Live")

    server.has_stream = False
    server.cut_streams()
    expect(page.locator(".connection")).to_have_text("Polling")
    server.has_stream = True

    wait_until_live(page)


def test_a_lost_server_leaves_the_last_known_state_marked_with_its_age(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent(metrics={"cpu_percent": 42.0})]
    server.commands = [command()]
    page = open_page(has_clock=True)
    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("42.0 %")
    port = urlsplit(server.url).port

    server.stop()
    page.clock.fast_forward(POLL_MS)
    expect(page.locator(".connection")).to_have_text("Offline")
    expect(page.get_by_text("Connection lost")).to_be_visible()
    page.clock.fast_forward(120_000)

    expect(page.locator(".offline-banner")).to_contain_text(
        re.compile(r"Offline, last data 14:03:2\d, 2 min old\. This is the last known state\.")
    )
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("42.0 %")
    for name in ("SAFE Mode", "RESTART (approval required)", "Approve"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()

    server.start(port=port or 0)
    wait_until_live(page)

    expect(page.locator(".offline-banner")).to_have_count(0)
    expect(page.get_by_text("Connected again")).to_be_visible()
    expect(page.get_by_role("button", name="SAFE Mode")).to_be_enabled()


def test_the_installed_page_opens_without_its_server_and_shows_what_it_knew(
    server: PageServer, open_page: OpenPage
) -> None:
    server.agents = [agent(metrics={"cpu_percent": 42.0})]
    server.commands = [command()]
    server.logs = [log_line(1)]
    server.samples = samples()
    page = open_page(service_workers="allow")
    wait_for_worker(page)
    page.reload()
    expect(page.locator(".command")).to_have_count(1)
    expect(page.get_by_text("line 1: upstream timed out")).to_be_visible()
    page.wait_for_function("() => localStorage.getItem('reco3-last-known-state-1')?.includes('upstream timed out')")

    server.stop()
    page.reload()

    expect(page.locator(".offline-banner")).to_contain_text("Offline, last data 14:03:2")
    expect(page.get_by_text("TEST MODE", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="System Metrics")).to_contain_text("42.0 %")
    expect(page.get_by_text("line 1: upstream timed out")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    expect(page.get_by_role("button", name="SAFE Mode")).to_be_disabled()


def test_the_service_worker_keeps_the_shell_and_never_an_answer(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_page(service_workers="allow")
    wait_for_worker(page)
    page.reload()
    expect(page.locator(".agent-name")).to_be_visible()

    paths = ["/api/r3/agents", "/api/config/test-mode", "/health", "/agent/pull", "/api/session", "/static/nothing.js"]
    page.evaluate("paths => Promise.all(paths.map((path) => fetch(path)))", paths)

    kept = cached_paths(page)
    assert "/r3" in kept
    assert "/static/agent-ui.js" in kept
    assert [path for path in kept if path.startswith(("/api", "/agent", "/health")) or "nothing" in path] == []


def test_the_service_worker_knows_every_file_of_the_page() -> None:
    static = WEB / "static"
    listed = set(re.findall(r'"(/[^"]*)"', (static / "sw.js").read_text(encoding="utf-8").split("];")[0]))

    needed = {f"/static/{path.relative_to(static).as_posix()}" for path in static.rglob("*.js") if is_served(path)}
    needed |= {f"/static/icons/{path.name}" for path in (static / "icons").glob("*.png")}

    needed |= {"/r3", "/manifest.webmanifest", "/static/agent-ui.css", "/static/icons/reco3.svg"}
    assert listed == needed


def is_served(path: Path) -> bool:
    return path.name != "sw.js" and not path.name.endswith(".entry.js")


def wait_for_worker(page: Page) -> None:
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_function("() => navigator.serviceWorker.controller !== null")


def cached_paths(page: Page) -> list[str]:
    script = """caches.keys()
        .then((names) => Promise.all(names.map((name) => caches.open(name).then((cache) => cache.keys()))))
        .then((keys) => keys.flat().map((request) => new URL(request.url).pathname))"""
    paths: list[str] = page.evaluate(script)
    return paths
