"""Accounts in a real Chromium on the real server: invited, logged in, proved again, disabled."""

from collections.abc import Iterator

import pytest
from page_people import DESK, PASSWORD, PHONE, Person, accept, invite, make_key, sit_down
from playwright.sync_api import Browser, Page, Route, expect
from world import World

# As an extension does it: both inputs are filled before the page has drawn anything.
FILL_AT_ONCE = """(words) => {
  for (const [name, value] of Object.entries(words)) {
    const input = document.querySelector(`input[name=${name}]`);
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
}"""


@pytest.fixture
def alice(chromium: Browser) -> Iterator[Person]:
    person = sit_down(chromium, "alice", has_device=True, **PHONE)
    yield person
    person.close()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Access").click()
    page.get_by_role("button", name="Log out here").click()
    # Until the server has answered, the page of before is there, with buttons of like names.
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def log_in_with_password(page: Page) -> None:
    page.get_by_label("Name", exact=True).fill("alice")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_an_invited_person_chooses_a_password_and_comes_back_with_it(server_only: World, alice: Person) -> None:
    page = alice.page
    accept(alice, invite(server_only, "alice", "approver"))
    log_out(page)

    log_in_with_password(page)

    expect(page.locator(".connection")).to_have_text("Live")
    assert server_only.sql("SELECT name, role FROM operators WHERE name = 'alice'") == [("alice", "approver")]
    assert PASSWORD not in page.content()


def test_a_password_manager_fills_name_and_password_at_once(server_only: World, alice: Person) -> None:
    page = alice.page
    accept(alice, invite(server_only, "alice", "approver"))
    log_out(page)

    page.evaluate(FILL_AT_ONCE, {"name": "alice", "password": PASSWORD})
    page.get_by_role("button", name="Log in").click()

    expect(page.locator(".connection")).to_have_text("Live")


def test_a_refusal_of_the_last_session_leaves_the_next_one_alone(server_only: World, alice: Person) -> None:
    page = alice.page
    accept(alice, invite(server_only, "alice", "approver"))
    held: list[Route] = []
    page.route("**/api/tokens", lambda route: held.append(route))  # noqa: PLW0108 - it looks for a function's attributes
    log_out(page)
    log_in_with_password(page)
    expect(page.locator(".connection")).to_have_text("Live")

    with page.expect_response("**/api/tokens"):
        held[0].fulfill(status=401, json={"error": "unauthorized", "message": "Log in first."})

    page.get_by_role("button", name="Access").click()
    expect(page.get_by_role("button", name="Log out here")).to_be_visible()


def test_a_passkey_is_registered_and_logs_in(server_only: World, alice: Person) -> None:
    page = alice.page
    accept(alice, invite(server_only, "alice", "approver", host="localhost"))
    pin = make_key(alice, "Register a passkey")
    assert pin.startswith("alice:webauthn:")
    assert pin.endswith(f" http://localhost:{server_only.port}")
    log_out(page)

    page.get_by_role("button", name="Passkey", exact=True).click()
    page.get_by_role("button", name="Log in").click()

    expect(page.locator(".connection")).to_have_text("Live")


def test_a_session_that_proved_itself_long_ago_is_asked_again(server_only: World, alice: Person) -> None:
    page = alice.page
    accept(alice, invite(server_only, "alice", "approver"))
    server_only.forget_proofs()
    page.get_by_role("button", name="Access").click()
    page.get_by_label("Name of the new key").fill("phone")
    page.get_by_role("button", name="Make a browser key").click()

    proof = page.get_by_role("dialog", name="Is it you?")
    proof.get_by_label("Password").fill(PASSWORD)
    proof.get_by_role("button", name="Confirm").click()

    expect(page.get_by_text("works here")).to_be_visible()
    assert server_only.sql("SELECT owner, kind FROM operator_keys") == [("alice", "webcrypto")]


def test_who_is_disabled_is_out_at_once(server_only: World, alice: Person, chromium: Browser) -> None:
    accept(alice, invite(server_only, "alice", "approver"))
    admin = sit_down(chromium, "admin", **DESK)
    admin.page.goto(f"{server_only.url}/r3")
    admin.page.get_by_role("button", name="Access").click()

    admin.page.get_by_role("button", name="Change alice").click()
    admin.page.get_by_role("dialog").get_by_label("Disabled").check()
    admin.page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(admin.page.locator(".person", has_text="alice")).to_contain_text("disabled")

    alice.page.reload()
    # On this machine the test mode lets everybody in as its admin; alice's own session is over.
    expect(alice.page.get_by_text("TEST MODE", exact=True)).to_be_visible()
    assert server_only.sql("SELECT count(*) FROM sessions WHERE name = 'alice'") == [(0,)]
    admin.close()
