"""The bytes of a change of trust: one way to write each, and every other one refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from approvers import key_file, passkey
from reco3.protocol.envelope import PAYLOAD_TYPE, pre_authentication_encoding
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import (
    MAX_TRUST_BYTES,
    MAX_TRUST_VALIDITY_S,
    TRUST_PAYLOAD_TYPE,
    build_trust_change,
    parse_trust_change,
    read_signed_trust_change,
)
from trust_changing import signed_change, trust_change, wire

ALICE, BOB = key_file("alice"), passkey("bob")
CHANGE = trust_change([ALICE], [BOB])
BODY = build_trust_change(CHANGE)


def test_what_is_built_is_read_back_the_same() -> None:
    assert parse_trust_change(BODY) == CHANGE


def test_its_bytes_say_everything_in_one_order() -> None:
    change = replace(CHANGE, created_at=1_800_000_000, expires_at=1_800_000_060)
    fields = json.loads(build_trust_change(change))

    assert list(fields) == [
        *("v", "fleet_id", "old", "new", "requested_by", "reason", "created_at", "expires_at", "nonce"),
    ]
    assert fields["old"] == {"approvers": list(change.old.approvers), "approvals_required": 1}


Edit = Callable[[dict[str, Any]], Any]
EDITS: list[tuple[str, Edit]] = [
    ("another version", lambda fields: fields.update(v=2)),
    ("a flag for the version", lambda fields: fields.update(v=True)),
    ("a key that nobody knows", lambda fields: fields.update(more=1)),
    ("a key that is missing", lambda fields: fields.pop("reason")),
    ("no reason", lambda fields: fields.update(reason=None)),
    ("an empty reason", lambda fields: fields.update(reason="")),
    ("a reason with a control character", lambda fields: fields.update(reason="\x1b[2J")),
    ("no fleet", lambda fields: fields.update(fleet_id="")),
    ("an expiry before its beginning", lambda fields: fields.update(expires_at=fields["created_at"])),
    ("a validity of over a month", lambda fields: fields.update(expires_at=fields["created_at"] + 2_592_001)),
    ("a time that is no number", lambda fields: fields.update(created_at="now")),
    ("no new keys", lambda fields: fields["new"].update(approvers=[])),
    ("a new key twice", lambda fields: fields["new"].update(approvers=fields["new"]["approvers"] * 2)),
    ("unsorted keys", lambda fields: fields["new"].update(approvers=["b", "a"])),
    ("a key that is no text", lambda fields: fields["new"].update(approvers=[7])),
    ("nobody who must sign", lambda fields: fields["new"].update(approvals_required=0)),
    ("a flag for how many must sign", lambda fields: fields["new"].update(approvals_required=True)),
    ("a set that is a list", lambda fields: fields.update(new=[])),
    ("more in a set than there is", lambda fields: fields["old"].update(four_eyes=False)),
    ("the old keys for the new", lambda fields: fields.update(new=fields["old"])),
]


@pytest.mark.parametrize("edit", [edit for _, edit in EDITS], ids=[what for what, _ in EDITS])
def test_bytes_that_say_anything_else_are_refused(edit: Edit) -> None:
    fields = json.loads(BODY)
    edit(fields)

    with pytest.raises(BadEnvelope):
        parse_trust_change(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{" + BODY[1:-1] + b',"nonce":"BBBBBBBBBBBBBBBBBBBBBA"}',
        BODY.replace(b",", b", "),
        BODY + b" ",
        b"\xff" + BODY,
        b"1" * (MAX_TRUST_BYTES + 1),
    ],
)
def test_every_second_way_to_write_it_is_refused(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        parse_trust_change(body)


def test_a_month_is_the_longest() -> None:
    longest = replace(CHANGE, expires_at=CHANGE.created_at + MAX_TRUST_VALIDITY_S)

    assert parse_trust_change(build_trust_change(longest)) == longest


def test_what_travels_is_read_only_with_its_own_type() -> None:
    raw = wire(CHANGE, ALICE, BOB)
    read = read_signed_trust_change(raw)
    assert (read.body, [one.key_id for one in read.signatures]) == (
        BODY,
        [one.key_id for one in signed_change(CHANGE, ALICE, BOB).signatures],
    )

    with pytest.raises(BadEnvelope, match="payload_type"):
        read_signed_trust_change(raw | {"payload_type": PAYLOAD_TYPE})


def test_a_signature_over_a_change_is_none_over_a_command_of_the_same_bytes() -> None:
    as_change = pre_authentication_encoding(TRUST_PAYLOAD_TYPE, BODY)
    as_command = pre_authentication_encoding(PAYLOAD_TYPE, BODY)

    assert as_change != as_command
    assert ALICE.sign(BODY, TRUST_PAYLOAD_TYPE).sig != ALICE.sign(BODY).sig
