from page_browser import OpenPage
from page_server import PageServer, agent
from playwright.sync_api import Page, Route, expect

pytest_plugins = ("page_fixtures",)

KEPT = "localStorage.getItem('reco3-last-known-state-1')"


def strangers(server: PageServer) -> None:
    server.test_mode = False
    server.operator = None
    server.agents = [agent()]


def log_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_a_stranger_sees_the_log_in_and_nothing_else(server: PageServer, open_page: OpenPage) -> None:
    strangers(server)

    page = open_page()

    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.get_by_label("API key")).to_have_attribute("type", "password")
    expect(page.get_by_text("PC Agents")).to_have_count(0)
    assert server.asked("GET", "/api/r3/agents") == []


def test_a_wrong_key_is_refused_kindly_and_the_right_one_opens_the_page(
    server: PageServer, open_page: OpenPage
) -> None:
    strangers(server)
    page = open_page()

    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("This key is not right. Check that it was copied completely.")
    log_in(page, "right-key")

    expect(page.locator(".agent-name")).to_have_text("pc-001")
    assert server.asked("POST", "/api/session") == [{"api_key": "wrong"}, {"api_key": "right-key"}]
    assert "right-key" not in page.content()


def test_too_many_attempts_say_how_long_to_wait(server: PageServer, open_page: OpenPage) -> None:
    strangers(server)
    server.is_locked_out = True
    page = open_page()

    log_in(page, "wrong")

    expect(page.get_by_role("alert")).to_have_text("Too many attempts. Try again in 1 min 30 s.")


def test_logging_out_forgets_everything_on_the_screen_and_in_the_browser(
    server: PageServer, open_page: OpenPage
) -> None:
    strangers(server)
    server.operator = {"name": "ann", "role": "admin", "how": "session"}
    page = open_page()
    expect(page.locator(".agent-name")).to_be_visible()
    page.wait_for_function(f"() => {KEPT} !== null")

    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.get_by_text("pc-001")).to_have_count(0)
    assert page.evaluate(KEPT) is None
    assert len(server.asked("DELETE", "/api/session")) == 1


def test_a_look_that_was_under_way_at_the_log_out_is_the_last(server: PageServer, open_page: OpenPage) -> None:
    strangers(server)
    server.operator = {"name": "ann", "role": "admin", "how": "session"}
    page = open_page(has_clock=True)
    expect(page.locator(".connection")).to_have_text("Live")
    held: list[Route] = []
    page.route("**/api/r3/agents?*", lambda route: held.append(route))  # noqa: PLW0108 - its attributes are set
    with page.expect_request("**/api/r3/agents?*"):
        page.clock.fast_forward(31_000)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    asked = len(server.asked("GET", "/api/session"))

    with page.expect_response("**/api/r3/agents?*"):
        held[0].continue_()
    page.wait_for_timeout(300)
    page.clock.fast_forward(31_000)
    page.wait_for_timeout(300)

    assert len(server.asked("GET", "/api/session")) == asked
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_an_answer_about_who_one_was_before_the_log_out_opens_the_page_no_more(
    server: PageServer, open_page: OpenPage
) -> None:
    strangers(server)
    server.operator = {"name": "ann", "role": "admin", "how": "session"}
    page = open_page(has_clock=True)
    expect(page.locator(".connection")).to_have_text("Live")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if route.request.method == "GET" else route.fallback()

    page.route("**/api/session", hold)
    page.route("**/api/r3/agents?*", lambda route: route.abort())
    page.clock.fast_forward(31_000)
    expect(page.locator(".connection")).to_have_text("Offline")
    for _ in range(50):
        if held:
            break
        page.clock.fast_forward(6_000)
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    server.operator = {"name": "admin", "role": "admin", "how": "test-mode"}

    with page.expect_response("**/api/session"):
        held[0].fulfill(status=200, json={"name": "ann", "role": "admin", "how": "session"})
    page.wait_for_timeout(300)

    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.get_by_text("PC Agents")).to_have_count(0)


def test_a_session_that_ends_elsewhere_leads_to_the_log_in_and_forgets(server: PageServer, open_page: OpenPage) -> None:
    server.agents = [agent()]
    page = open_page()
    expect(page.locator(".connection")).to_have_text("Live")
    page.wait_for_function(f"() => {KEPT} !== null")

    server.operator = None
    server.tell("agents")

    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert page.evaluate(KEPT) is None


def test_the_implicit_admin_of_test_mode_has_no_log_out(open_page: OpenPage) -> None:
    page = open_page()

    expect(page.get_by_text("TEST MODE", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)


def test_a_locked_server_points_to_its_set_up_link(server: PageServer, open_page: OpenPage) -> None:
    strangers(server)
    server.locked = True

    page = open_page()

    expect(page.get_by_text("one-time set-up link")).to_be_visible()


def test_the_set_up_link_creates_the_key_shows_it_once_and_opens_the_page(
    server: PageServer, open_page: OpenPage
) -> None:
    strangers(server)
    server.locked = True
    page = open_page(path="/r3#setup=one-time", permissions=["clipboard-read", "clipboard-write"])
    assert page.evaluate("location.hash") == ""

    page.get_by_role("button", name="Create the administrator key").click()
    expect(page.get_by_text("r3_new-administrator-key")).to_be_visible()
    page.get_by_role("button", name="Copy the key").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    page.get_by_role("button", name="Open the dashboard").click()

    expect(page.locator(".agent-name")).to_have_text("pc-001")
    expect(page.get_by_text("r3_new-administrator-key")).to_have_count(0)
    assert server.asked("POST", "/api/setup") == [{"token": "one-time"}]


def test_a_used_set_up_link_is_refused_with_the_servers_words(server: PageServer, open_page: OpenPage) -> None:
    strangers(server)
    page = open_page(path="/r3#setup=stale")

    page.get_by_role("button", name="Create the administrator key").click()

    expect(page.get_by_role("alert")).to_have_text("This set-up link was used already.")
