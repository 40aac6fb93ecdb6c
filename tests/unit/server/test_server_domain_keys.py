"""Operators' keys: under which addresses passkeys work, and when a counter has gone back."""

from typing import Any

import pytest

from builders import cases
from fakes import START
from reco3.protocol.envelope import KeyKind
from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import OperatorKey, Site, has_gone_back
from reco3.signing.pins import key_id, pin_text
from soft_authenticator import ORIGIN, SoftAuthenticator


@pytest.mark.parametrize("case", cases("sites"), ids=lambda case: case["origin"])
def test_a_passkey_belongs_to_a_host_name_and_an_ip_address_is_told_where_to_go(case: dict[str, Any]) -> None:
    site = Site(case["origin"], case["host"])
    if "rp_id" in case:
        assert site.require_rp_id() == case["rp_id"]
        return
    with pytest.raises(BadInput) as refusal:
        site.require_rp_id()
    assert refusal.value.code == "passkey_needs_host_name"
    assert case["open_instead"] in refusal.value.message


@pytest.mark.parametrize(
    ("before", "now", "is_back"),
    [(0, 0, False), (0, 1, False), (5, 6, False), (5, 5, True), (5, 4, True), (5, 0, True)],
)
def test_a_counter_that_does_not_grow_went_back_unless_it_never_counted(
    before: int, now: int, *, is_back: bool
) -> None:
    key = OperatorKey("id", "alice", KeyKind.WEBAUTHN, "key", "label", START, sign_count=before)

    assert has_gone_back(key, now) is is_back


def test_a_key_knows_the_line_that_pcs_pin() -> None:
    public_key = SoftAuthenticator().public_key
    key = OperatorKey("id", "alice", KeyKind.WEBAUTHN, public_key, "label", START, origin=ORIGIN)

    assert pin_text(key.pin) == f"alice:webauthn:{public_key} {ORIGIN}"
    assert len(key_id(key.pin.key)) == 32
