"""Pins: one line of text a key, strict both ways, with a fingerprint for the telephone."""

import json
from typing import Any

import pytest

from approvers import EVERY_KIND, key_file, passkey
from builders import DATA
from reco3.signing.pins import BadPin, fingerprint, is_origin, key_id, parse_pin, pin_text, trust_version

VECTORS = json.loads((DATA / "envelope_vectors.json").read_text(encoding="utf-8"))
ALICE = VECTORS["pins"][0]["pin"]
BOB = VECTORS["pins"][1]["pin"]


@pytest.mark.parametrize("vector", VECTORS["pins"], ids=lambda vector: vector["pin"][:20])
def test_a_pin_reads_and_names_itself_as_ever(vector: dict[str, Any]) -> None:
    pin = parse_pin(vector["pin"])

    assert pin_text(pin) == vector["pin"]
    assert fingerprint(pin.key) == vector["fingerprint"]
    assert key_id(pin.key) == vector["key_id"] == vector["fingerprint"].replace(" ", "")


@pytest.mark.parametrize("make", EVERY_KIND)
def test_the_pin_of_every_kind_of_key_survives_its_text(make: Any) -> None:
    pin = make("alice").pin

    assert parse_pin(pin_text(pin)) == pin


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "pin"),
        ("alice", "pin"),
        ("alice:ed25519", "pin"),
        (ALICE + ":more", "pin"),
        (BOB + " more", "pin"),
        ("x" * 2_000, "pin"),
        (ALICE.replace("alice", ""), "owner"),
        (ALICE.replace("alice", "al/ice"), "owner"),
        (ALICE.replace("alice", "a" * 65), "owner"),
        (ALICE.replace("alice", "älice"), "owner"),
        (ALICE.replace("ed25519", "rsa"), "kind"),
        (ALICE.replace("ed25519", "webauthn"), "key"),
        (ALICE[:-1], "key"),
        (ALICE + "=", "key"),
        (ALICE.replace("=", "!"), "key"),
        ("alice:ed25519:AAAA", "key"),
        (BOB.replace("webauthn", "ed25519").split(" ")[0], "key"),
        (ALICE + " http://localhost:5001", "origin"),
        (BOB.split(" ")[0], "origin"),
        (BOB.split(" ")[0] + " reco3.example.com", "origin"),
    ],
)
def test_a_text_that_is_no_pin_is_refused_naming_the_part(text: str, field: str) -> None:
    with pytest.raises(BadPin) as refused:
        parse_pin(text)

    assert refused.value.field == field


@pytest.mark.parametrize(
    ("origin", "is_right"),
    [
        ("http://localhost:5001", True),
        ("http://127.0.0.1:5001", True),
        ("https://reco3.example.com", True),
        ("https://reco3.example.com:8443", True),
        ("http://[::1]:5001", True),
        ("https://reco3.example.com/", False),
        ("https://reco3.example.com:443", False),
        ("http://localhost:80", False),
        ("https://reco3.example.com:08443", False),
        ("https://reco3.example.com:99999", False),
        ("https://Reco3.example.com", False),
        ("https://user@reco3.example.com", False),
        ("https://reco3..example.com", False),
        ("https://-reco3.example.com", False),
        ("ftp://reco3.example.com", False),
        ("https://reco3.example.com\n", False),
        ("null", False),
        (None, False),
    ],
)
def test_an_origin_is_exactly_what_a_browser_writes(origin: str | None, is_right: bool) -> None:
    assert is_origin(origin) is is_right


def test_a_trust_version_names_the_set_and_not_its_order() -> None:
    pins = [parse_pin(vector["pin"]) for vector in VECTORS["pins"]]

    assert trust_version(pins) == trust_version(reversed(pins)) == VECTORS["trust_version"]
    assert trust_version(pins[1:]) != trust_version(pins)
    assert trust_version([key_file("alice").pin]) != trust_version([passkey("alice").pin])
