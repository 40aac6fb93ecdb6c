"""Whom a PC trusts next: enough owners of the keys it has, and of those to come, or nobody new at all."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agent_builders import make_control

from approvers import Approver, browser_key, key_file, passkey
from reco3.agent.clocks import Clock
from reco3.agent.config import ControlConfig
from reco3.agent.refusals import Refused
from reco3.agent.trust_changes import Followed, follow, follow_again
from reco3.protocol.envelope import encode_base64url
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, TrustChange, build_trust_change
from trust_changing import FLEET_ID, HasPin, signed_change, wire
from trust_changing import trust_change as change_now

ALICE, BOB, CAROL, DAVE = key_file("alice"), passkey("bob"), browser_key("carol"), key_file("dave")
ALICE_AT_HOME = key_file("alice")
MALLORY = key_file("mallory")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLOCK = Clock(NOW, NOW, 0)


def trust_change(old: Sequence[HasPin], new: Sequence[HasPin], **fields: Any) -> TrustChange:
    """A change of the moment that `CLOCK` shows."""
    created_at = int(NOW.timestamp())
    return change_now(old, new, **{"created_at": created_at, "expires_at": created_at + 3_600, **fields})


def trusting(*people: Approver, required: int = 1, **fields: Any) -> ControlConfig:
    return make_control(approvers=tuple(one.pin for one in people), approvals_required=required, **fields)


def outcome_of(
    raw: object,
    control: ControlConfig,
    *,
    clock: Clock = CLOCK,
    spent: Sequence[str] = (),
    is_development: bool = False,
) -> str:
    """The code of the refusal, or who owns the keys that are trusted then."""
    step = follow(raw, control, is_development=is_development, clock=clock, spent=spent)
    return step.code if isinstance(step, Refused) else "+".join(sorted(pin.owner for pin in step.control.approvers))


def test_the_owner_of_the_old_key_and_that_of_the_new_one_hand_trust_on() -> None:
    step = follow(
        wire(trust_change([ALICE], [BOB]), ALICE, BOB), trusting(ALICE), is_development=False, clock=CLOCK, spent=()
    )

    assert isinstance(step, Followed)
    assert step.control.approvers == (BOB.pin,)
    assert step.owners == ("alice",)


def test_how_many_must_sign_changes_with_the_keys() -> None:
    change = trust_change([ALICE, BOB], [ALICE, BOB, CAROL], old_required=1, new_required=2)

    step = follow_again(wire(change, ALICE, BOB), trusting(ALICE, BOB), is_development=False)

    assert isinstance(step, Followed)
    assert step.control.approvals_required == 2


@pytest.mark.parametrize(
    ("old", "required", "signers", "outcome"),
    [
        ([ALICE], 1, [ALICE, DAVE], "dave"),
        ([ALICE], 1, [DAVE], "too_few_signatures"),
        ([ALICE], 1, [], "too_few_signatures"),
        ([ALICE], 1, [ALICE], "too_few_new_signatures"),
        ([ALICE], 1, [MALLORY, DAVE], "too_few_signatures"),
        ([ALICE, ALICE_AT_HOME], 1, [ALICE, DAVE], "dave"),
        ([ALICE, BOB], 1, [ALICE, DAVE], "too_few_signatures"),
        ([ALICE, BOB], 1, [ALICE, ALICE, DAVE], "too_few_signatures"),
        ([ALICE, ALICE_AT_HOME, BOB], 1, [ALICE, ALICE_AT_HOME, DAVE], "too_few_signatures"),
        ([ALICE, BOB], 1, [ALICE, BOB, DAVE], "dave"),
        ([ALICE, BOB, CAROL], 1, [CAROL, BOB, DAVE], "dave"),
        ([ALICE, BOB, CAROL], 3, [CAROL, BOB, DAVE], "too_few_signatures"),
        ([ALICE, BOB, CAROL], 3, [CAROL, BOB, ALICE, DAVE], "dave"),
    ],
)
def test_what_several_hold_takes_two_whatever_a_command_takes(
    old: list[Approver], required: int, signers: list[Approver], outcome: str
) -> None:
    raw = wire(trust_change(old, [DAVE], old_required=required), *signers)

    assert outcome_of(raw, trusting(*old, required=required)) == outcome


def test_of_the_new_owners_as_many_sign_as_will_have_to() -> None:
    change = trust_change([ALICE], [BOB, CAROL], new_required=2)

    assert outcome_of(wire(change, ALICE, BOB), trusting(ALICE)) == "too_few_new_signatures"
    assert outcome_of(wire(change, ALICE, BOB, CAROL), trusting(ALICE)) == "bob+carol"


def test_whoever_keeps_a_key_signs_once_for_both() -> None:
    assert outcome_of(wire(trust_change([ALICE], [ALICE, BOB]), ALICE), trusting(ALICE)) == "alice+bob"


def test_a_pc_that_pins_no_key_takes_none_from_the_network() -> None:
    assert outcome_of(wire(trust_change([ALICE], [BOB]), ALICE, BOB), trusting()) == "no_approvers"


def test_a_config_may_refuse_every_change() -> None:
    raw = wire(trust_change([ALICE], [BOB]), ALICE, BOB)

    assert outcome_of(raw, trusting(ALICE, trust_changes=False)) == "trust_changes_off"


@pytest.mark.parametrize(
    ("control", "outcome"),
    [
        (trusting(ALICE, fleet_id=FLEET_ID), "bob"),
        (trusting(ALICE, fleet_id="CCCCCCCCCCCCCCCCCCCCCA"), "wrong_fleet"),
        (trusting(ALICE_AT_HOME, ALICE), "other_trust"),
        (trusting(ALICE, four_eyes=False), "bob"),
    ],
)
def test_it_is_for_pcs_of_its_fleet_that_trust_exactly_the_old_keys(control: ControlConfig, outcome: str) -> None:
    assert outcome_of(wire(trust_change([ALICE], [BOB]), ALICE, BOB), control) == outcome


def test_how_many_had_to_sign_before_is_part_of_the_old_trust() -> None:
    raw = wire(trust_change([ALICE, BOB], [DAVE], old_required=1), ALICE, BOB, DAVE)

    assert outcome_of(raw, trusting(ALICE, BOB, required=2)) == "other_trust"


def test_each_counts_once() -> None:
    change = trust_change([ALICE], [BOB])
    digest = follow_again(wire(change, ALICE, BOB), trusting(ALICE), is_development=False)
    assert isinstance(digest, Followed)

    assert outcome_of(wire(change, ALICE, BOB), trusting(ALICE), spent=[digest.digest]) == "already_used"
    assert outcome_of(wire(change, ALICE, BOB), trusting(ALICE), spent=["another"]) == "bob"


@pytest.mark.parametrize(
    ("created_ago_s", "lasts_s", "outcome"),
    [
        (0, 60, "bob"),
        (3_600, 3_599, "expired"),
        (3_600, 3_700, "bob"),
        (-60, 600, "bob"),
        (-600, 6_000, "not_yet_valid"),
    ],
)
def test_it_counts_within_its_time(created_ago_s: int, lasts_s: int, outcome: str) -> None:
    created_at = int(NOW.timestamp()) - created_ago_s
    change = trust_change([ALICE], [BOB], created_at=created_at, expires_at=created_at + lasts_s)

    assert outcome_of(wire(change, ALICE, BOB), trusting(ALICE)) == outcome


def test_a_clock_that_was_set_back_revives_none() -> None:
    highest = NOW + timedelta(days=30)
    raw = wire(trust_change([ALICE], [BOB]), ALICE, BOB)

    assert outcome_of(raw, trusting(ALICE), clock=Clock(NOW, highest, 0)) == "clock_regressed"


def test_one_that_was_followed_before_counts_whatever_the_time_is() -> None:
    long_ago = int(NOW.timestamp()) - 10_000_000
    raw = wire(trust_change([ALICE], [BOB], created_at=long_ago, expires_at=long_ago + 60), ALICE, BOB)

    assert outcome_of(raw, trusting(ALICE)) == "expired"
    assert isinstance(follow_again(raw, trusting(ALICE), is_development=False), Followed)


def test_a_development_key_counts_in_a_development_agent_alone() -> None:
    dev = key_file("dev-1")
    raw = wire(trust_change([dev], [BOB]), dev, BOB)

    assert outcome_of(raw, trusting(dev)) == "too_few_signatures"
    assert outcome_of(raw, trusting(dev), is_development=True) == "bob"


def test_signatures_of_a_command_over_the_same_bytes_do_not_count() -> None:
    body = build_trust_change(trust_change([ALICE], [ALICE, BOB]))
    raw = wire(body) | {"signatures": wire(body, ALICE)["signatures"]}
    assert outcome_of(raw, trusting(ALICE)) == "alice+bob"

    stolen = ALICE.sign(body)  # As an approval of a command signs.
    raw["signatures"][0]["sig"] = encode_base64url(stolen.sig)

    assert outcome_of(raw, trusting(ALICE)) == "too_few_signatures"


@pytest.mark.parametrize("raw", [None, 7, [], {}, {"payload_type": TRUST_PAYLOAD_TYPE}, "text"])
def test_what_is_no_change_is_refused(raw: object) -> None:
    assert outcome_of(raw, trusting(ALICE)) == "bad_trust_change"


def test_new_keys_that_are_none_are_refused_although_the_old_owners_signed_them() -> None:
    change = trust_change([ALICE], [BOB])
    no_point = BOB.pin.key[:27] + b"\x01" * 64
    body = build_trust_change(change).replace(_base64(BOB.pin.key), _base64(no_point))

    assert outcome_of(wire(body, ALICE, BOB), trusting(ALICE)) == "bad_trust_change"


@pytest.mark.parametrize(("old", "new"), [(ALICE, DAVE), (BOB, CAROL)])
def test_no_single_flipped_bit_is_accepted(old: Approver, new: Approver) -> None:
    signed = signed_change(trust_change([old], [new]), old, new)
    raw = wire(signed.body, old, new)
    assert outcome_of(raw, trusting(old)) == new.owner

    accepted = []
    for at in range(0, len(signed.body) * 8, 7):
        flipped = bytearray(signed.body)
        flipped[at // 8] ^= 1 << at % 8
        changed = raw | {"body": encode_base64url(bytes(flipped))}
        if isinstance(follow_again(changed, trusting(old), is_development=False), Followed):
            accepted.append(at)

    assert accepted == []


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content)
