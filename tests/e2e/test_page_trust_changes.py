import re
from typing import Any

import pytest
from page_access import bytes_of, own_key, trust_change, trust_set
from page_browser import OpenPage
from page_server import PageServer, agent
from playwright.sync_api import Locator, Page, expect
from test_page_look import texts_below_contrast

from approvers import key_file
from reco3.protocol.envelope import pre_authentication_encoding, read_signature
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE
from reco3.signing.pins import fingerprint, key_id, parse_pin, pin_text, trust_version
from reco3.signing.verifying import Verified, verify_signature

pytest_plugins = ("page_fixtures",)

ALICE, BOB, CAROL = (pin_text(key_file(owner).pin) for owner in ("alice", "bob", "carol"))
ADMINS_OWN = str(own_key()["pin"])
MARKUP = '<img src=x onerror="window.pwned=1">'


def fingerprint_of(pin: str) -> str:
    return fingerprint(parse_pin(pin).key)


def open_access(
    server: PageServer, open_page: OpenPage, *rows: dict[str, Any], role: str = "admin", **options: Any
) -> Page:
    server.agents = [agent()]
    server.operator = {"name": "admin", "role": role, "how": "session"}
    server.access.keys = [own_key()]
    server.access.trust_changes = list(rows)
    page = open_page(**options)
    expect(page.locator(".connection")).to_have_text("Live")
    page.get_by_role("button", name="Access").click()
    expect(page.locator(".own-key")).to_have_count(1)
    expect(page.locator(".trust-change")).to_have_count(len(rows))
    return page


def ask_to_sign(page: Page) -> Locator:
    page.locator(".trust-change").get_by_role("button", name="Sign").click()
    return page.get_by_role("dialog", name="Sign this trust change?")


def test_a_change_says_which_keys_come_and_go_and_whose_signature_is_missing(
    server: PageServer, open_page: OpenPage
) -> None:
    old, new = trust_set(ALICE, BOB, required=2), trust_set(BOB, CAROL)
    page = open_access(server, open_page, trust_change(old, new, old_signed=["alice"], old_needed=2))

    row = page.locator(".trust-change")
    for text in (
        "open",
        "alice, bob (2 signatures required) → bob, carol (1 signature required)",
        "1 key removed",
        "1 key added",
        "1 key stays.",
        "old keys: 1 of 2 signed (alice); new keys: 0 of 1",
        "alice lost her laptop",
        "asked for by root",
        "Expires",
    ):
        expect(row).to_contain_text(text)
    gone, come = row.locator(".pin-list").all()
    expect(gone).to_contain_text(f"alice key file{fingerprint_of(ALICE)}")
    expect(come).to_contain_text(f"carol key file{fingerprint_of(CAROL)}")
    for side in (old, new):
        version = trust_version(map(parse_pin, side["approvers"]))
        expect(row).to_contain_text(" ".join(re.findall("....", version)))


def test_a_browser_key_of_the_new_set_signs_and_the_pcs_own_code_verifies_it(
    server: PageServer, open_page: OpenPage
) -> None:
    page = open_access(server, open_page, role="approver")
    page.get_by_label("Name of the new key").fill("my browser")
    page.get_by_role("button", name="Make a browser key").click()
    expect(page.get_by_text("works here")).to_be_visible()
    pin = server.access.keys[1]["pin"]
    server.access.trust_changes = [trust_change(trust_set(ALICE), trust_set(BOB, pin))]
    server.access.after_signing = {"new_signed": ["admin"]}
    server.access.needs_proof = True
    server.tell("trust_changes")

    dialog = ask_to_sign(page)
    expect(dialog).to_contain_text("You sign exactly this with your browser key “my browser”, for the new keys.")
    for text in ("alice: 1 key, 1 signature required", "root", "alice lost her laptop", fingerprint_of(pin)):
        expect(dialog).to_contain_text(text)
    dialog.get_by_role("button", name="Sign").click()
    proof = page.get_by_role("dialog", name="Is it you?")
    proof.get_by_label("API key", exact=True).fill("right-key")
    proof.get_by_role("button", name="Confirm").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".trust-change")).to_contain_text("new keys: 1 of 1 signed (admin)")
    sent = server.asked("POST", f"/api/trust-changes/{server.access.trust_changes[0]['id']}/sign")[-1]
    pae = pre_authentication_encoding(TRUST_PAYLOAD_TYPE, bytes_of(server.access.trust_changes[0]))
    signature = read_signature(sent["signature"])
    assert isinstance(verify_signature(parse_pin(pin), signature, pae), Verified)
    assert not isinstance(verify_signature(parse_pin(pin), signature, pae + b" "), Verified)


@pytest.mark.parametrize(
    ("signed_bytes", "said"),
    [
        (lambda row: bytes_of(row | {"new": trust_set(CAROL)}), "name other new keys"),
        (lambda row: bytes_of(row | {"old": trust_set(ALICE, CAROL)}), "name other old keys"),
        (lambda row: bytes_of(row | {"reason": "something else"}), "name another reason"),
        (lambda row: bytes_of(row | {"id": "A" * 22}), "name another change"),
        (lambda row: bytes_of(row).replace(b'"v":1,', b'"v":1, '), "not written the one agreed way"),
        (lambda row: bytes_of(row).replace(b'"nonce"', b'"more":1,"nonce"'), "not those that were agreed"),
    ],
)
def test_bytes_that_say_something_else_than_the_list_are_not_signed(
    server: PageServer, open_page: OpenPage, signed_bytes: Any, said: str
) -> None:
    row = trust_change(trust_set(ALICE), trust_set(ADMINS_OWN))
    page = open_access(server, open_page, trust_change(row["old"], row["new"], body=signed_bytes(row)))

    dialog = ask_to_sign(page)

    expect(dialog.get_by_role("alert")).to_contain_text(said)
    expect(dialog.get_by_role("button", name="Sign")).to_be_disabled()


def test_who_has_no_key_of_either_side_here_is_told_where_to_sign(server: PageServer, open_page: OpenPage) -> None:
    page = open_access(server, open_page, trust_change(trust_set(ALICE), trust_set(BOB)))

    dialog = ask_to_sign(page)

    expect(dialog).to_contain_text("None of your keys that work here is among the old or the new ones.")
    expect(dialog).to_contain_text(f"reco3 trust sign {server.access.trust_changes[0]['id']}")
    expect(dialog.get_by_role("button", name="Sign")).to_be_disabled()


def test_who_has_signed_is_told_that_somebody_else_must(server: PageServer, open_page: OpenPage) -> None:
    page = open_access(server, open_page)
    page.get_by_label("Name of the new key").fill("my browser")
    page.get_by_role("button", name="Make a browser key").click()
    expect(page.get_by_text("works here")).to_be_visible()
    pin = server.access.keys[1]["pin"]
    signed_by = [key_id(parse_pin(pin).key)]
    server.access.trust_changes = [trust_change(trust_set(pin), trust_set(ALICE), signed_by=signed_by)]
    server.tell("trust_changes")

    dialog = ask_to_sign(page)

    expect(dialog).to_contain_text("You have signed this already; it needs somebody else.")
    expect(dialog.get_by_role("button", name="Sign")).to_be_disabled()


def test_an_administrator_withdraws_a_published_change_with_a_reason(server: PageServer, open_page: OpenPage) -> None:
    row = trust_change(trust_set(ALICE), trust_set(BOB), status="published", published_at="2026-11-23T14:01:00.000Z")
    page = open_access(server, open_page, row, width=390)
    shown = page.locator(".trust-change")
    expect(shown.get_by_role("button", name="Sign")).to_have_count(0)

    shown.get_by_role("button", name="Withdraw").click()
    dialog = page.get_by_role("dialog", name="Withdraw this trust change?")
    expect(dialog).to_contain_text("a PC that has taken it keeps the new keys")
    expect(dialog.get_by_role("button", name="Withdraw")).to_be_disabled()
    dialog.get_by_label(re.compile("^Why")).fill("the wrong key")
    dialog.get_by_role("button", name="Withdraw").click()

    expect(shown).to_contain_text("Withdrawn by admin: “the wrong key”")
    expect(shown.get_by_role("button")).to_have_count(0)
    assert server.asked("POST", f"/api/trust-changes/{row['id']}/withdraw") == [{"reason": "the wrong key"}]


def test_without_any_an_administrator_reads_how_one_is_made_and_others_read_nothing(
    server: PageServer, open_page: OpenPage
) -> None:
    page = open_access(server, open_page)
    expect(page.get_by_role("heading", name="Trust changes")).to_be_visible()
    expect(page.locator(".trust-changes")).to_contain_text("reco3 trust propose")

    other = open_access(server, open_page, role="viewer")

    expect(other.get_by_role("heading", name="Trust changes")).to_have_count(0)


def test_a_viewer_sees_a_change_and_no_button(server: PageServer, open_page: OpenPage) -> None:
    row = trust_change(trust_set(ALICE), trust_set(BOB))
    page = open_access(server, open_page, row, role="viewer")

    expect(page.locator(".trust-change").get_by_role("button")).to_have_count(0)
    expect(page.locator(".trust-changes")).not_to_contain_text("reco3 trust propose")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_hostile_change_is_only_text_and_fits(
    server: PageServer, open_page: OpenPage, width: int, scheme: str
) -> None:
    many = [pin_text(key_file(f"{'x' * 60}{number:02d}").pin) for number in range(8)]
    row = trust_change(trust_set(*many, required=3), trust_set(ALICE), reason="w" * 500)
    row |= {"reason": MARKUP + "\u202e" + "w" * 400, "requested_by": MARKUP, "old_signed": [MARKUP]}
    row["old"] = row["old"] | {"owners": [MARKUP, "x" * 300], "approvers": [*many, MARKUP], "trust_version": MARKUP}

    page = open_access(server, open_page, row, width=width, color_scheme=scheme)

    expect(page.locator(".trust-change")).to_contain_text(MARKUP)
    expect(page.locator(".trust-change")).to_contain_text("U+202E")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert texts_below_contrast(page) == []
    assert page.evaluate("window.pwned") is None
    dialog = ask_to_sign(page)
    expect(dialog.get_by_role("alert")).to_contain_text("Not to be signed")
    assert page.evaluate("document.documentElement.scrollWidth") == width
