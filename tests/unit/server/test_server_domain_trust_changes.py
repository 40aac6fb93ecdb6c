"""Trust changes: which are built, whose signature is taken, and when there are enough of both sides."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from approvers import ORIGIN, Approver, browser_key, key_file, passkey
from fakes import START
from reco3.protocol.envelope import PAYLOAD_TYPE, KeyKind
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, parse_trust_change
from reco3.server.domain.errors import BadInput, Conflict
from reco3.server.domain.trust_changes import (
    ProposedSet,
    StoredTrustChange,
    TrustChangeStatus,
    TrustProposal,
    handover_of,
    proposed,
    signed_by,
    status_of,
    withdrawn,
)
from reco3.signing.pins import P256_POINT_BYTES, P256_PREFIX, Pin, pin_text

FLEET = "AAAAAAAAAAAAAAAAAAAAAA"
NONCE = "BBBBBBBBBBBBBBBBBBBBBA"
ALICE, BOB, CAROL, DAVE = (key_file(owner) for owner in ("alice", "bob", "carol", "dave"))
DAY = timedelta(days=1)
NO_POINT = Pin("bob", KeyKind.WEBCRYPTO, P256_PREFIX + b"\xff" * P256_POINT_BYTES, ORIGIN)


def pins(*approvers: Approver | Pin) -> tuple[str, ...]:
    return tuple(pin_text(one if isinstance(one, Pin) else one.pin) for one in approvers)


def keys(*approvers: Approver | Pin, required: int = 1) -> ProposedSet:
    return ProposedSet(pins(*approvers), required)


def proposal(old: ProposedSet, new: ProposedSet, **more: Any) -> TrustProposal:
    return TrustProposal(old, new, "alice lost her laptop", **more)


def change(old: ProposedSet, new: ProposedSet, **more: Any) -> StoredTrustChange:
    return proposed(proposal(old, new, **more), fleet_id=FLEET, requested_by="root", now=START, nonce=NONCE)


def signed(made: StoredTrustChange, *approvers: Approver) -> StoredTrustChange:
    for one in approvers:
        made = signed_by(made, one.sign(made.body, TRUST_PAYLOAD_TYPE), START)
    return made


def test_the_bytes_say_what_was_asked_with_the_pins_sorted() -> None:
    made = change(keys(BOB, ALICE, required=2), keys(CAROL))

    says = parse_trust_change(made.body)
    assert says.old.approvers == tuple(sorted(pins(ALICE, BOB)))
    assert (says.old.approvals_required, says.new.approvals_required) == (2, 1)
    assert (says.fleet_id, says.requested_by, says.nonce, made.id) == (FLEET, "root", NONCE, NONCE)
    assert (says.created_at, says.expires_at) == (START.timestamp(), (START + 7 * DAY).timestamp())
    assert made.expires_at == START + 7 * DAY


def test_times_of_fractions_of_a_second_do_not_make_it_live_too_long() -> None:
    wanted = proposal(keys(ALICE), keys(BOB), lifetime_days=30)

    made = proposed(wanted, fleet_id=FLEET, requested_by="root", now=START + timedelta(seconds=0.999), nonce=NONCE)

    assert made.expires_at == START + 30 * DAY


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (ProposedSet(("alice",), 1), keys(BOB), "old.approvers"),
        (keys(ALICE), ProposedSet((pins(BOB)[0] + " ",), 1), "new.approvers"),
        (keys(ALICE), ProposedSet(pins(BOB, BOB), 1), "new.approvers"),
        (keys(ALICE), keys(BOB, replace(BOB, owner="bert")), "new.approvers"),
        (keys(ALICE), keys(BOB, required=2), "new.approvals_required"),
        (keys(ALICE), keys(ALICE), "new"),
        (keys(ALICE), keys(NO_POINT), "new.approvers"),
    ],
    ids=["no pin", "a pin of another spelling", "twice", "one key of two", "too few owners", "the same", "no point"],
)
def test_a_set_that_no_pc_would_take_is_refused_by_its_field(old: ProposedSet, new: ProposedSet, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        change(old, new)

    assert (refused.value.field, refused.value.code) == (field, "bad_request")


def test_a_change_that_more_than_sixteen_would_have_to_sign_is_refused() -> None:
    crowd = [key_file(f"p{number:02d}") for number in range(17)]

    with pytest.raises(BadInput) as refused:
        change(keys(*crowd[:9], required=9), keys(*crowd[9:], required=8))

    assert refused.value.field == "new.approvals_required"
    assert change(keys(*crowd[:8], required=8), keys(*crowd[8:], required=8))
    assert change(keys(*crowd[:9], required=9), keys(*crowd[1:], required=8)), "eight of them count on both sides"


def test_it_is_published_by_the_signature_that_makes_enough_of_both_sides() -> None:
    made = change(keys(ALICE, BOB), keys(CAROL, DAVE))

    after_one = signed(made, CAROL, ALICE)
    after_all = signed(after_one, BOB)

    assert (after_one.old_signed, after_one.new_signed, after_one.published_at) == (("alice",), ("carol",), None)
    assert (after_all.old_signed, after_all.new_signed) == (("alice", "bob"), ("carol",))
    assert after_all.published_at == START
    assert len(after_all.signatures) == 3


def test_the_old_side_alone_publishes_nothing_and_neither_does_the_new_one() -> None:
    made = change(keys(ALICE), keys(BOB, CAROL, required=2))

    assert signed(made, ALICE, BOB).published_at is None
    assert signed(made, BOB, CAROL).published_at is None
    assert signed(made, ALICE, BOB, CAROL).published_at == START


def test_whoever_stays_signs_once_for_both_sides() -> None:
    after = signed(change(keys(ALICE), keys(ALICE, BOB)), ALICE)

    assert (after.old_signed, after.new_signed, after.published_at) == (("alice",), ("alice",), START)


def test_two_keys_of_one_person_count_once() -> None:
    second = key_file("alice")
    made = change(keys(ALICE, second, BOB), keys(CAROL))

    after = signed(made, ALICE, second, CAROL)

    assert (after.old_signed, after.published_at) == (("alice",), None)


def test_development_keys_count_here_and_the_pc_decides() -> None:
    trying = key_file("dev-me")

    assert signed(change(keys(trying), keys(ALICE)), trying, ALICE).published_at == START


def test_a_signature_after_enough_keeps_the_moment_of_publication() -> None:
    published = signed(change(keys(ALICE), keys(BOB, CAROL)), ALICE, BOB)

    later = signed_by(published, CAROL.sign(published.body, TRUST_PAYLOAD_TYPE), START + DAY)

    assert later.published_at == START
    assert later.new_signed == ("bob", "carol")


@pytest.mark.parametrize("make", [key_file, passkey, browser_key])
def test_every_kind_of_key_signs(make: Any) -> None:
    signer = make("alice")

    assert signed(change(keys(signer), keys(BOB)), signer).old_signed == ("alice",)


def test_a_signature_by_a_stranger_over_other_bytes_or_of_another_kind_of_payload_is_refused() -> None:
    made = change(keys(ALICE), keys(BOB))
    other = change(keys(ALICE), keys(CAROL))
    wrong = {
        "unknown_key": CAROL.sign(made.body, TRUST_PAYLOAD_TYPE),
        "bad_signature": ALICE.sign(other.body, TRUST_PAYLOAD_TYPE),
    }
    for code, signature in wrong.items():
        with pytest.raises(BadInput) as refused:
            signed_by(made, signature, START)
        assert refused.value.code == code
    with pytest.raises(BadInput) as as_command:
        signed_by(made, ALICE.sign(made.body, PAYLOAD_TYPE), START)
    with pytest.raises(BadInput) as renamed:
        signed_by(made, replace(CAROL.sign(made.body, TRUST_PAYLOAD_TYPE), key_id=ALICE.sign(b"").key_id), START)

    assert (as_command.value.code, renamed.value.code) == ("bad_signature", "bad_signature")
    assert signed(made, ALICE).old_signed == ("alice",)


def test_a_passkey_that_did_not_check_its_person_is_refused() -> None:
    alice = passkey("alice")
    made = change(keys(alice), keys(BOB))

    with pytest.raises(BadInput) as refused:
        signed_by(made, alice.sign(made.body, TRUST_PAYLOAD_TYPE, flags=0x01), START)

    assert refused.value.code == "bad_signature"
    assert signed(made, alice).old_signed == ("alice",)


def test_a_key_under_two_addresses_signs_where_either_is_its_own() -> None:
    alice = passkey("alice", "https://new.example.com")
    before = replace(alice, origin="https://old.example.com")

    after = signed(change(keys(before), keys(alice)), alice)

    assert (after.old_signed, after.new_signed) == ((), ("alice",))


def test_one_key_signs_once() -> None:
    made = signed(change(keys(ALICE), keys(BOB)), ALICE)

    with pytest.raises(Conflict) as refused:
        signed(made, ALICE)

    assert refused.value.code == "already_signed"
    assert signed(made, BOB).published_at == START


def test_sixteen_signatures_travel_and_no_more() -> None:
    crowd = [key_file(f"p{number:02d}") for number in range(17)]
    full = signed(change(keys(*crowd), keys(ALICE)), *crowd[:16])

    with pytest.raises(Conflict) as refused:
        signed(full, crowd[16])

    assert refused.value.code == "too_many_signatures"


def test_what_has_expired_or_was_withdrawn_is_over() -> None:
    made = change(keys(ALICE), keys(BOB))
    signature = ALICE.sign(made.body, TRUST_PAYLOAD_TYPE)
    gone = withdrawn(made, "root", "a mistake", START)

    for over, now in ((made, made.expires_at), (gone, START)):
        for attempt in (lambda: signed_by(over, signature, now), lambda: withdrawn(over, "root", "again", now)):  # noqa: B023 - called at once
            with pytest.raises(Conflict) as refused:
                attempt()
            assert refused.value.code == "trust_change_over"
    assert signed_by(made, signature, made.expires_at - timedelta(milliseconds=1))


def test_the_status_says_what_can_still_become_of_it() -> None:
    made = change(keys(ALICE), keys(BOB))
    published = signed(made, ALICE, BOB)
    gone = withdrawn(published, "root", "a mistake", START)

    assert status_of(made, START) is TrustChangeStatus.OPEN
    assert status_of(published, START) is TrustChangeStatus.PUBLISHED
    assert status_of(published, made.expires_at) is TrustChangeStatus.EXPIRED
    assert status_of(gone, made.expires_at) is TrustChangeStatus.WITHDRAWN
    assert (gone.withdrawn_by, gone.withdrawn_reason, gone.published_at) == ("root", "a mistake", START)


def test_bytes_that_somebody_changed_in_the_database_are_named() -> None:
    made = change(keys(ALICE), keys(BOB))

    with pytest.raises(Conflict) as refused:
        handover_of(replace(made, body=made.body.replace(b'"v":1', b'"v":2')))

    assert refused.value.code == "bad_envelope"
    assert handover_of(made).says.reason == "alice lost her laptop"
