import re

import pytest
from page_access import LATER, STAMP, break_glass_use, own_key, person, policy
from page_browser import OpenPage
from page_server import PageServer, agent
from playwright.sync_api import Page, expect
from test_page_look import texts_below_contrast

pytest_plugins = ("page_fixtures",)

GROUPS = re.compile(r"^([0-9a-f]{4} ){7}[0-9a-f]{4}$")


def furnish(server: PageServer) -> None:
    server.agents = [agent()]
    server.operator = {"name": "admin", "role": "admin", "how": "session"}
    server.access.keys = [own_key()]
    server.access.people = [person("admin", "admin"), person("alice"), person("bob", disabled_at=STAMP)]
    server.access.policies = [policy(), policy(command_type="*", agent_pattern="*", four_eyes=False)]
    server.access.uses = [break_glass_use()]
    server.access.sessions = [{"id": "s-1", "created_at": STAMP, "expires_at": LATER, "current": True}]


def open_access(page: Page) -> None:
    page.get_by_role("button", name="Access").click()
    expect(page.get_by_role("heading", name="Your keys")).to_be_visible()
    expect(page.locator(".own-key")).not_to_have_count(0)


def test_a_browser_key_is_made_with_its_pin_and_a_fingerprint_to_read_aloud(
    server: PageServer, open_page: OpenPage
) -> None:
    furnish(server)
    page = open_page(width=390)
    open_access(page)

    page.get_by_label("Name of the new key").fill("my phone")
    page.get_by_role("button", name="Make a browser key").click()

    row = page.locator(".own-key", has_text="my phone")
    expect(row).to_contain_text("works here")
    expect(row.locator(".fingerprint code")).to_have_text(GROUPS)
    expect(row.locator(".copyable-text").last).to_have_text(server.access.keys[1]["pin"])
    (sent,) = server.asked("POST", "/api/me/keys")
    assert set(sent) == {"kind", "public_key", "proof", "label"}
    is_readable = """() => new Promise((resolve) => {
        const opening = indexedDB.open("reco3-keys", 1);
        opening.onsuccess = () => {
            const asked = opening.result.transaction("keys").objectStore("keys").getAll();
            asked.onsuccess = () => resolve(asked.result.map((key) => key.private_key.extractable));
        };
    })"""
    assert page.evaluate(is_readable) == [False]


def test_a_server_that_names_another_key_than_the_one_made_here_is_not_believed(
    server: PageServer, open_page: OpenPage
) -> None:
    furnish(server)
    page = open_page()
    open_access(page)
    page.route(
        "**/api/me/keys",
        lambda route: route.fulfill(json=own_key()) if route.request.method == "POST" else route.continue_(),
    )

    page.get_by_label("Name of the new key").fill("mine")
    page.get_by_role("button", name="Make a browser key").click()

    expect(page.get_by_role("alert").last).to_contain_text("The server names another key")


def test_a_removed_key_is_gone_and_the_page_says_that_pcs_still_trust_it(
    server: PageServer, open_page: OpenPage
) -> None:
    furnish(server)
    page = open_page()
    open_access(page)

    page.get_by_role("button", name="Remove my laptop").click()
    dialog = page.get_by_role("dialog", name="Remove this key?")
    expect(dialog).to_contain_text("PCs go on trusting it")
    dialog.get_by_role("button", name="Remove").click()

    expect(page.get_by_text("You have no key yet.")).to_be_visible()


def test_an_administrator_invites_and_gets_a_link_that_is_shown_once(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    page = open_page()
    open_access(page)

    page.get_by_label("Invite").fill("carol")
    page.get_by_role("button", name="Invite").click()

    expect(page.locator(".invitation")).to_contain_text("carol")
    expect(page.locator(".invitation .copyable-text")).to_have_text(f"{server.url}/r3#invitation=one-time")
    assert server.asked("POST", "/api/operators") == [{"name": "carol", "role": "approver"}]


def test_somebody_is_disabled(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    page = open_page()
    open_access(page)

    page.get_by_role("button", name="Change alice").click()
    page.get_by_role("dialog").get_by_label(re.compile("Disabled")).check()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()

    expect(page.locator(".person", has_text="alice")).to_contain_text("disabled")
    assert server.asked("PATCH", "/api/operators/alice") == [{"role": "approver", "disabled": True}]


def test_a_policy_is_added_and_one_without_four_eyes_stands_out(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    page = open_page()
    open_access(page)
    expect(page.locator(".policy").first).to_contain_text(
        "2 approvals, not by the one who asked, a reason, expires after 10 min"
    )
    expect(page.locator(".policy").last).to_contain_text("Four eyes are off")

    page.get_by_role("button", name="Add a policy").click()
    dialog = page.get_by_role("dialog", name="Approval policy")
    dialog.get_by_label("PCs, with * for any letters").fill("web-*")
    dialog.get_by_label("Approvals needed").fill("3")
    dialog.get_by_role("button", name="Save").click()

    expect(page.locator(".policy")).to_have_count(3)
    (sent,) = server.asked("PUT", "/api/policies")
    assert (sent["agent_pattern"], sent["approvals_required"], sent["four_eyes"]) == ("web-*", 3, True)


def test_an_unreviewed_break_glass_use_alarms_until_somebody_reviews_it(
    server: PageServer, open_page: OpenPage
) -> None:
    furnish(server)
    page = open_page(width=390)
    banner = page.locator(".alarm-banner")
    expect(banner).to_contain_text("Break-glass was used on pc-001")

    banner.get_by_role("button", name="Review").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("alice, bob")
    expect(dialog.get_by_role("button", name="Record the review")).to_be_disabled()
    dialog.get_by_label(re.compile("What happened")).fill("The disk was full.")
    dialog.get_by_role("button", name="Record the review").click()

    expect(banner).to_have_count(0)
    assert server.asked("POST", "/api/break-glass/bg-1/review") == [{"review": "The disk was full."}]


def test_a_viewer_sees_the_alarm_but_no_people_and_no_policies(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    server.operator = {"name": "ann", "role": "viewer", "how": "session"}
    page = open_page()

    open_access(page)

    expect(page.locator(".alarm-banner")).to_be_visible()
    expect(page.get_by_role("button", name="Review")).to_have_count(0)
    expect(page.get_by_role("heading", name="People")).to_have_count(0)
    expect(page.get_by_role("heading", name="Approval policies")).to_have_count(0)
    assert server.asked("GET", "/api/operators") == []


def test_a_token_is_shown_once(server: PageServer, open_page: OpenPage) -> None:
    furnish(server)
    page = open_page()
    open_access(page)

    page.get_by_text("New token").click()
    page.get_by_label("What for").fill("backup script")
    page.get_by_role("button", name="Create").click()

    expect(page.get_by_text("r3t_shown-once")).to_be_visible()
    assert server.asked("POST", "/api/tokens") == [{"name": "backup script", "role": "viewer", "expires_in_days": 90}]
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_text("r3t_shown-once")).to_have_count(0)


def test_name_and_password_open_the_page_and_the_way_is_remembered(server: PageServer, open_page: OpenPage) -> None:
    server.test_mode = False
    server.operator = None
    page = open_page()

    page.get_by_role("button", name="Password", exact=True).click()
    page.get_by_label("Name", exact=True).fill("bob")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Name or password is not right.")
    page.get_by_label("Password", exact=True).fill("right-password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    assert server.asked("POST", "/api/session")[-1] == {"name": "bob", "password": "right-password"}


@pytest.mark.parametrize("name", ["invite", "invitation"])
def test_an_invitation_is_accepted_with_a_password_of_ones_own(
    server: PageServer, open_page: OpenPage, name: str
) -> None:
    server.test_mode = False
    server.operator = None
    page = open_page(path=f"/r3#{name}=one-time")
    assert page.evaluate("location.hash") == ""

    page.get_by_label(re.compile("New password")).fill("a long enough password")
    page.get_by_role("button", name="Accept the invitation").click()

    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    sent = {"token": "one-time", "password": "a long enough password"}
    assert server.asked("POST", "/api/invitations/accept") == [sent]


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_the_other_half_of_the_page_is_readable_and_fits(
    server: PageServer, open_page: OpenPage, width: int, scheme: str
) -> None:
    furnish(server)
    page = open_page(width=width, color_scheme=scheme)

    open_access(page)
    page.get_by_text("Pin it on a PC").click()

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert texts_below_contrast(page) == []


def test_the_pc_says_how_many_keys_it_pins_and_whether_others_pin_the_same(
    server: PageServer, open_page: OpenPage
) -> None:
    pins = {"approvers_pinned": 2, "approvals_required": 2, "trust_version": "0123456789abcdef"}
    server.agents = [
        agent("pc-001", metrics=pins),
        agent("pc-002", metrics=pins | {"trust_version": "fedcba9876543210"}),
        agent("pc-003"),
    ]
    page = open_page()

    trust = page.locator(".trust")
    expect(trust).to_contain_text("2 keys pinned, 2 signatures required, trust version 0123 4567 89ab cdef")
    expect(trust).to_contain_text("It differs from 1 other PC.")
    page.get_by_role("button", name="pc-003").click()
    expect(trust).to_contain_text("Approvals not verified by this PC")
