import hashlib
import re

import pytest
from page_access import envelope_of
from page_browser import OpenPage, wait_until_settled
from page_server import PageServer, agent, command, process, stamp
from playwright.sync_api import Locator, Page, expect

from reco3.protocol.envelope import PAYLOAD_TYPE, pre_authentication_encoding, read_signature
from reco3.signing.pins import parse_pin
from reco3.signing.verifying import Verified, verify_signature

pytest_plugins = ("page_fixtures",)

APPROVE = "/api/agent-commands/c-1/approve"
PINS = {"approvers_pinned": 1, "approvals_required": 1, "trust_version": "0123456789abcdef"}
PLAIN_HTTP = "plain-http.test"
MARKUP = '<img src=x onerror="window.pwned=1">'
BIDI = "\u202e"


def open_queue(
    server: PageServer, open_page: OpenPage, *rows: dict[str, object], width: int = 390, host: str = "127.0.0.1"
) -> Page:
    server.agents = server.agents or [agent("pc-001")]
    server.commands = list(rows)
    page = open_page(width=width, host=host)
    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.locator(".command")).to_have_count(len(rows))
    wait_until_settled(page)
    return page


def ask_to_approve(page: Page) -> Locator:
    page.locator(".command").get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog", name=re.compile("^Approve on"))
    expect(dialog.locator(".note").first).to_be_visible()
    return dialog


def make_browser_key(page: Page, label: str = "my browser") -> None:
    page.get_by_role("button", name="Access").click()
    page.get_by_label("Name of the new key").fill(label)
    page.get_by_role("button", name="Make a browser key").click()
    expect(page.get_by_text("works here")).to_be_visible()
    page.get_by_role("button", name="Dashboard").click()


def test_the_dialog_says_what_the_bytes_say(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1", created_by="user:rita", reason="it hangs"))

    dialog = ask_to_approve(page)

    for text in (
        "Restart nginx",
        "pc-001",
        "RESTART_PROCESS",
        "pid 4711, started 13:03:22",
        "rita",
        "it hangs",
        "Valid until",
        "c-1",
    ):
        expect(dialog).to_contain_text(text)


def test_without_pins_an_approval_is_unsigned_and_the_page_says_so(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1"))

    dialog = ask_to_approve(page)
    expect(dialog).to_contain_text("Approvals not verified by this PC")
    dialog.get_by_role("button", name="Approve").click()

    expect(dialog).to_have_count(0)
    (sent,) = server.asked("POST", APPROVE)
    assert sent == {
        "expect": {"pid": 4711, "create_time_ms": 1_795_439_002_000},
        "body_sha256": hashlib.sha256(envelope_of(server.commands[0])).hexdigest(),
    }


def test_a_page_by_plain_http_from_another_machine_can_say_yes(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1"), host=PLAIN_HTTP)
    assert page.evaluate("isSecureContext") is False

    dialog = ask_to_approve(page)
    expect(dialog).to_contain_text("Restart nginx")
    dialog.get_by_role("button", name="Approve").click()

    expect(dialog).to_have_count(0)
    assert server.asked("POST", APPROVE) == [{"expect": {"pid": 4711, "create_time_ms": 1_795_439_002_000}}]


def test_a_page_by_plain_http_says_why_it_cannot_sign(server: PageServer, open_page: OpenPage) -> None:
    server.access.pc = PINS
    page = open_queue(server, open_page, command("c-1"), host=PLAIN_HTTP)

    dialog = ask_to_approve(page)

    expect(dialog).to_contain_text("Open it by https, or approve in a terminal with reco3 approve.")
    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()
    assert server.asked("POST", APPROVE) == []


def test_a_pc_with_pins_and_a_person_without_a_key_get_a_next_step(server: PageServer, open_page: OpenPage) -> None:
    server.access.pc = PINS
    page = open_queue(server, open_page, command("c-1"))

    dialog = ask_to_approve(page)

    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()
    expect(dialog.get_by_role("button", name="Open on localhost, for passkeys")).to_be_visible()
    dialog.get_by_role("button", name="Set up a key").click()
    expect(page.get_by_role("heading", name="Your keys")).to_be_visible()
    assert server.asked("POST", APPROVE) == []


def test_a_browser_key_signs_and_the_pcs_own_code_verifies_it(server: PageServer, open_page: OpenPage) -> None:
    server.access.pc = PINS
    page = open_queue(server, open_page, command("c-1", created_by="user:rita"))
    make_browser_key(page)

    dialog = ask_to_approve(page)
    expect(dialog).to_contain_text("You sign exactly this with your browser key “my browser”")
    dialog.get_by_role("button", name="Sign and approve").click()
    expect(dialog).to_have_count(0)

    (sent,) = server.asked("POST", APPROVE)
    pin = parse_pin(server.access.keys[0]["pin"])
    signature = read_signature(sent["signature"])
    pae = pre_authentication_encoding(PAYLOAD_TYPE, envelope_of(server.commands[0]))
    assert isinstance(verify_signature(pin, signature, pae), Verified)
    assert not isinstance(verify_signature(pin, signature, pae + b" "), Verified)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent_id": "pc-999"}, "name another PC"),
        ({"type": "STOP_PROCESS"}, "name another action"),
        ({"payload": {"process": "postgres"}}, "name another payload"),
        ({"command_id": "c-9"}, "name another command"),
    ],
)
def test_bytes_that_say_something_else_than_the_list_are_not_signed(
    server: PageServer, open_page: OpenPage, changes: dict[str, object], said: str
) -> None:
    row = command("c-1", created_by="user:rita")
    server.access.bodies["c-1"] = envelope_of(row, **changes)
    page = open_queue(server, open_page, row)

    dialog = ask_to_approve(page)

    expect(dialog.get_by_role("alert")).to_contain_text(said)
    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1,', b'"v":1, '),
        (b'"v":1,', b'"v":1.0,'),
        (b'"process":"nginx"', b'"process":"nginx","process":"nginx"'),
        (b'"policy":"approval"', b'"policy":"approval","more":1'),
        (b'"reason":null', b'"reason":"\xff"'),
    ],
)
def test_bytes_that_are_written_another_way_are_not_signed(
    server: PageServer, open_page: OpenPage, old: bytes, new: bytes
) -> None:
    row = command("c-1", created_by="user:rita")
    body = envelope_of(row)
    server.access.bodies["c-1"] = body.replace(old, new)
    assert server.access.bodies["c-1"] != body
    page = open_queue(server, open_page, row)

    dialog = ask_to_approve(page)

    expect(dialog.get_by_role("alert")).to_contain_text("Not to be signed")
    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()


def test_who_asked_cannot_approve_where_four_eyes_are_on(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1", four_eyes=True))

    row = page.locator(".command")
    expect(row).to_contain_text("you asked, so somebody else must approve")
    expect(row.get_by_role("button", name="Approve")).to_have_count(0)
    expect(row.get_by_role("button", name="Deny")).to_be_visible()


def test_the_first_of_two_approvals_says_that_it_needs_one_more_not_you(
    server: PageServer, open_page: OpenPage
) -> None:
    page = open_queue(server, open_page, command("c-1", created_by="user:rita", approvals_required=2, four_eyes=True))
    expect(page.locator(".command")).to_contain_text("0 of 2: needs 2 more")

    ask_to_approve(page).get_by_role("button", name="Approve").click()

    expect(page.locator(".command")).to_contain_text("1 of 2: needs one more, not you")
    expect(page.locator(".command").get_by_role("button", name="Approve")).to_have_count(0)
    expect(page.get_by_role("region", name="Notifications")).to_contain_text("1 of 2: needs one more, not you.")


def test_denying_needs_a_reason_and_keeps_it_in_sight(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1", created_by="user:rita"))

    page.locator(".command").get_by_role("button", name="Deny").click()
    dialog = page.get_by_role("dialog", name="Deny on pc-001?")
    expect(dialog.get_by_role("button", name="Deny")).to_be_disabled()
    dialog.get_by_label(re.compile("Why not")).fill(f"not now {MARKUP}")
    dialog.get_by_role("button", name="Deny").click()

    expect(page.locator(".command")).to_contain_text(f"Denied by admin: “not now {MARKUP}”. It did not run.")
    assert server.asked("POST", "/api/agent-commands/c-1/deny") == [{"reason": f"not now {MARKUP}"}]
    assert page.evaluate("window.pwned") is None


def test_comments_are_read_and_written_under_the_timeline(server: PageServer, open_page: OpenPage) -> None:
    server.access.comments["c-1"] = [
        {"id": "k", "author": "user:bob", "text": f"{MARKUP}{BIDI}x", "created_at": stamp(5)}
    ]
    page = open_queue(server, open_page, command("c-1"))
    row = page.locator(".command")

    row.get_by_text("Timeline").click()
    expect(row.locator(".comment")).to_contain_text(MARKUP)
    row.get_by_label("Comment").fill("I look at it")
    row.get_by_role("button", name="Say").click()

    expect(row.locator(".comment")).to_have_count(2)
    expect(row.locator(".comment").last).to_contain_text("I look at it")
    assert BIDI not in row.inner_text()
    assert page.evaluate("window.pwned") is None


def test_hostile_text_in_what_is_signed_stays_text(server: PageServer, open_page: OpenPage) -> None:
    name = f"{MARKUP}-db"
    server.agents = [agent(metrics={"processes": [process(name)]})]
    row = command("c-1", payload={"process": name}, reason=f"{MARKUP} please", created_by="user:rita")
    page = open_queue(server, open_page, row)

    dialog = ask_to_approve(page)
    dialog.get_by_text("Comment, and the exact bytes").click()

    expect(dialog).to_contain_text(f"Restart {name}")
    expect(dialog).to_contain_text(f"{MARKUP} please")
    expect(dialog.locator("pre")).to_contain_text("onerror")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_server_that_wants_a_proof_gets_it_and_then_the_approval(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1", created_by="user:rita"))
    server.access.needs_proof = True

    ask_to_approve(page).get_by_role("button", name="Approve").click()
    proof = page.get_by_role("dialog", name="Is it you?")
    proof.get_by_label("API key").fill("wrong")
    proof.get_by_role("button", name="Confirm").click()
    expect(proof.get_by_role("alert")).to_have_text("That is not right.")
    proof.get_by_label("API key").fill("right-key")
    proof.get_by_role("button", name="Confirm").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".command")).to_contain_text("approved by admin")


def test_who_gives_no_proof_approves_nothing(server: PageServer, open_page: OpenPage) -> None:
    page = open_queue(server, open_page, command("c-1", created_by="user:rita"))
    server.access.needs_proof = True

    ask_to_approve(page).get_by_role("button", name="Approve").click()
    page.get_by_role("dialog", name="Is it you?").get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("Nothing was done")
    assert not server.commands[0]["approved"]


@pytest.mark.parametrize(
    ("role", "seen"),
    [
        ("viewer", set()),
        ("auditor", set()),
        ("operator", {"Cancel"}),
        ("approver", {"Approve", "Deny", "Cancel"}),
        ("admin", {"Approve", "Deny", "Cancel"}),
    ],
)
def test_each_role_sees_the_buttons_that_it_may_use(
    server: PageServer, open_page: OpenPage, role: str, seen: set[str]
) -> None:
    server.test_mode = False
    server.operator = {"name": "ann", "role": role, "how": "session"}
    page = open_queue(server, open_page, command("c-1"))

    buttons = page.locator(".command .command-actions button").all_inner_texts()

    assert set(buttons) == seen
    expect(page.get_by_role("button", name="SAFE Mode")).to_have_count(0 if role in {"viewer", "auditor"} else 1)
