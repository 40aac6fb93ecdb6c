"""People in browsers of their own: a phone or a desk, with a passkey's device where one is wanted."""

import re
from dataclasses import dataclass, field
from typing import Any

import requests
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect
from world import World

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PASSWORD = "correct horse battery staple"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@dataclass
class Person:
    """Somebody at a browser of his own; a script error or a policy violation is kept as a complaint."""

    name: str
    context: BrowserContext
    page: Page
    device: CDPSession | None = None
    complaints: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


def sit_down(chromium: Browser, name: str, *, has_device: bool = False, **window: Any) -> Person:
    """A fresh browser profile, with a virtual authenticator that always finds its person."""
    context = chromium.new_context(**window)
    page = context.new_page()
    page.set_default_timeout(15_000)
    person = Person(name, context, page)
    page.on("pageerror", lambda error: person.complaints.append(str(error)))
    page.on("console", lambda message: person.complaints.append(message.text) if _is_violation(message.text) else None)
    if has_device:
        person.device = context.new_cdp_session(page)
        person.device.send("WebAuthn.enable")
        person.device.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    return person


def invite(world: World, name: str, role: str, *, host: str = "127.0.0.1") -> str:
    """The link that the administrator gives to somebody."""
    body = {"name": name, "role": role}
    answer = requests.post(f"http://{host}:{world.port}/api/operators", json=body, timeout=5)
    assert answer.status_code == 200, answer.text
    link: str = answer.json()["link"]
    return link


def accept(person: Person, link: str) -> None:
    """Open the link and choose a password."""
    person.page.goto(link)
    person.page.get_by_label(re.compile("New password")).fill(PASSWORD)
    person.page.get_by_role("button", name="Accept the invitation").click()
    expect(person.page.locator(".connection")).to_have_text("Live")


def make_key(person: Person, button: str) -> str:
    """Make a key under Access and come back; the pin as the page shows it."""
    page = person.page
    page.get_by_role("button", name="Access").click()
    page.get_by_label("Name of the new key").fill(f"{person.name}'s key")
    page.get_by_role("button", name=button).click()
    row = page.locator(".own-key", has_text="works here")
    expect(row).to_be_visible()
    pin = row.locator(".copyable-text").last.inner_text()
    page.get_by_role("button", name="Dashboard").click()
    return pin


def _is_violation(text: str) -> bool:
    return "Content Security Policy" in text or "TrustedHTML" in text
