"""The range of the charts: how it is chosen, and that gaps, restarts and missing reports are seen."""

import re

import pytest
from page_browser import OpenPage
from page_server import PageServer, agent, history, samples
from playwright.sync_api import Locator, Page, expect

pytest_plugins = ("page_fixtures",)


def furnish(server: PageServer) -> None:
    server.agents = [agent()]
    server.samples = samples()
    server.history = history()


def metrics_of(page: Page) -> Locator:
    return page.get_by_role("region", name="System Metrics")


def choose(page: Page, name: str) -> None:
    metrics_of(page).get_by_role("button", name=name, exact=True).click()


def test_the_page_opens_with_the_last_quarter_of_an_hour(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)

    page = open_page()

    expect(metrics_of(page).get_by_role("button", name="15 min")).to_have_attribute("aria-pressed", "true")
    expect(metrics_of(page).get_by_role("img", name=re.compile("last 15 minutes"))).to_have_count(4)
    expect(metrics_of(page)).not_to_contain_text("One point is")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1 h", "last hour"),
        ("24 h", "last 24 hours"),
        ("7 d", "last 7 days"),
        ("30 d", "last 30 days"),
        ("1 y", "last year"),
    ],
)
def test_a_longer_range_is_drawn_as_mean_and_band(
    server: PageServer, open_page: OpenPage, name: str, text: str
) -> None:
    furnish(server)
    page = open_page()

    choose(page, name)

    chart = metrics_of(page).get_by_role("img", name=re.compile(f"^CPU, {text}: highest"))
    expect(chart.locator(".spark-line")).to_have_count(1)
    expect(chart.locator(".spark-band")).to_have_count(1)
    expect(metrics_of(page)).to_contain_text("One point is 5 min")
    expect(metrics_of(page)).to_contain_text("every report came")
    expect(metrics_of(page).get_by_role("img", name=re.compile(text))).to_have_count(4)


def test_a_longer_range_leaves_a_gap_where_nothing_was_reported(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    server.history = history(gap=range(100, 120))
    page = open_page()

    choose(page, "24 h")

    line = metrics_of(page).get_by_role("img", name=re.compile("^CPU, last 24 hours")).locator(".spark-line")
    expect(line).to_have_attribute("d", re.compile(r"^M[^M]+M[^M]+$"))


def test_missing_reports_and_restarts_are_said_and_marked(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    server.history[50]["count"] = 0
    server.history[60]["restarts"] = 2
    page = open_page()

    choose(page, "24 h")

    expect(metrics_of(page)).to_contain_text("99.7 % of the reports came")
    expect(metrics_of(page)).to_contain_text("2 restarts")
    expect(metrics_of(page).locator(".spark-mark")).to_have_count(4)


def test_a_range_without_any_report_says_so(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    server.history = []
    page = open_page()

    choose(page, "1 y")

    expect(metrics_of(page)).to_contain_text("Nothing was reported in the last year.")


def test_the_quarter_of_an_hour_comes_back(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    page = open_page()
    choose(page, "7 d")
    expect(metrics_of(page)).to_contain_text("One point is")

    choose(page, "15 min")

    expect(metrics_of(page).get_by_role("img", name=re.compile("last 15 minutes"))).to_have_count(4)
    expect(metrics_of(page)).not_to_contain_text("One point is")


@pytest.mark.parametrize("width", [320, 390])
def test_the_choice_fits_a_phone(server: PageServer, open_page: OpenPage, width: int) -> None:
    furnish(server)
    page = open_page(width=width)

    choose(page, "24 h")

    expect(metrics_of(page)).to_contain_text("One point is")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    heights = (
        metrics_of(page)
        .get_by_role("group", name="Range")
        .get_by_role("button")
        .evaluate_all("buttons => buttons.map((button) => button.getBoundingClientRect().height)")
    )
    assert min(heights) >= 44
