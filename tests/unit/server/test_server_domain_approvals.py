"""Approvals: whose yes counts, under which terms a command waits, and what a PC's word about itself is worth."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from approvers import key_file
from builders import agent, cases, command
from fakes import START
from reco3.protocol.commands import CommandType
from reco3.protocol.envelope import PAYLOAD_TYPE, Expected, parse_envelope
from reco3.server.domain.approvals import (
    GivenApproval,
    PcTrust,
    envelope_for,
    is_outdated,
    journal_of,
    may_be_sealed,
    refuse_approval,
    refuse_what_changed,
    seen_process,
    trust_of,
    under_terms,
)
from reco3.server.domain.commands import Approval, Command, CommandStatus, Expectation, may_deliver
from reco3.server.domain.envelopes import StoredEnvelope, sealed
from reco3.server.domain.errors import BadInput, Conflict, Forbidden
from reco3.server.domain.policies import Terms

FLEET = "AAAAAAAAAAAAAAAAAAAAAA"
NONCE = "BBBBBBBBBBBBBBBBBBBBBA"
NGINX = {"name": "nginx", "running": True, "pid": 77, "create_time_ms": 1_900_000_000_123}
SEEN = Expectation(77, 1_900_000_000_123)
PINS = PcTrust(2, 1, "0123456789abcdef")


def restart(**changes: Any) -> Command:
    usual = {"payload_json": '{"process": "nginx"}', "expires_at": START + timedelta(seconds=900), "created_by": "rita"}
    return command(CommandType.RESTART_PROCESS, **{**usual, **changes})


def yes(name: str, number: int = 1) -> Approval:
    return Approval(f"approval-{number}", "cmd-1", name, START)


def sealed_for(asked: Command, seen: Expectation | None = SEEN) -> StoredEnvelope:
    return sealed(envelope_for(asked, seen, fleet_id=FLEET, agent_epoch="j1", nonce=NONCE))


def reporting(**process: Any) -> Any:
    return agent(payload_json=json.dumps({"metrics": {"processes": [{**NGINX, **process}]}}))


@pytest.mark.parametrize("case", cases("pc_trusts"), ids=lambda case: case["name"])
def test_what_a_pc_says_of_approvals_is_taken_within_bounds(case: dict[str, Any]) -> None:
    trust = trust_of(agent(payload_json=json.dumps({"metrics": case["metrics"]})))

    assert trust == PcTrust(case["pinned"], case["required"], case["version"])
    assert trust.verifies is (case["pinned"] > 0)


@pytest.mark.parametrize(("said", "journal"), [("j-1", "j-1"), ("", None), ("x" * 65, None), (7, None), (None, None)])
def test_a_journal_is_taken_when_it_is_one(said: object, journal: str | None) -> None:
    assert journal_of(agent(payload_json=json.dumps({"metrics": {"journal": said}}))) == journal


@pytest.mark.parametrize(
    ("process", "seen"),
    [
        ({}, SEEN),
        ({"running": False, "pid": None}, Expectation(None, None)),
        ({"create_time_ms": None}, None),
        ({"create_time_ms": "now"}, None),
        ({"pid": "77"}, Expectation(None, 1_900_000_000_123)),
        ({"name": "other"}, None),
    ],
)
def test_the_process_is_what_the_pc_reported_last(process: dict[str, Any], seen: Expectation | None) -> None:
    assert seen_process(reporting(**process), restart()) == seen
    assert seen_process(reporting(**process), command(CommandType.ROLLBACK)) is None


def test_an_envelope_says_what_the_command_says_in_whole_seconds() -> None:
    asked = restart(ts=START + timedelta(milliseconds=999), expires_at=START + timedelta(seconds=900, milliseconds=999))

    says = parse_envelope(sealed_for(asked).body)

    assert (says.command_id, says.agent_id, says.agent_epoch) == ("cmd-1", "pc-001", "j1")
    assert (says.type, dict(says.payload), says.requested_by) == ("RESTART_PROCESS", {"process": "nginx"}, "rita")
    assert says.expect == Expected(77, 1_900_000_000_123)
    assert says.expires_at - says.created_at == 900
    assert (says.fleet_id, says.nonce, says.policy) == (FLEET, NONCE, "approval")


def test_bytes_that_somebody_changed_in_the_database_are_told_from_an_envelope() -> None:
    changed = StoredEnvelope(PAYLOAD_TYPE, sealed_for(restart()).body + b" ")

    with pytest.raises(Conflict) as refusal:
        changed.says  # noqa: B018 - reading it is what is refused

    assert refusal.value.code == "bad_envelope"


def test_each_person_counts_once_and_with_four_eyes_the_requester_does_not() -> None:
    asked = restart(approvals_required=2)

    assert not replace(asked, approvals=(yes("ann"), yes("ann", 2))).is_approved
    assert replace(asked, approvals=(yes("ann"), yes("bob", 2))).is_approved
    assert replace(asked, approvals=(yes("ann"), yes("rita", 2))).is_approved
    assert not replace(asked, approvals=(yes("ann"), yes("rita", 2)), four_eyes=True).is_approved
    assert replace(asked, approvals=(yes("ann"), yes("bob", 2), yes("rita", 3)), four_eyes=True).is_approved


def test_one_of_two_approvals_delivers_nothing() -> None:
    asked = restart(approvals_required=2)

    assert not may_deliver(replace(asked, approvals=(yes("ann"),)), START, journal="j1")
    assert may_deliver(replace(asked, approvals=(yes("ann"), yes("bob", 2))), START, journal="j1")


def test_the_envelope_travels_with_every_signature_and_without_the_bare_approvals() -> None:
    stored = sealed_for(restart())
    signature = key_file("ann").sign(stored.body)
    asked = restart(envelope=stored, approvals=(replace(yes("ann"), signature=signature), yes("bob", 2)))

    signed = asked.signed_envelope

    assert signed is not None
    assert (signed.body, signed.signatures) == (stored.body, (signature,))
    assert restart().signed_envelope is None


@pytest.mark.parametrize(
    ("terms", "trust", "required", "four_eyes"),
    [
        (Terms(), PcTrust(), 1, False),
        (Terms(approvals_required=2, four_eyes=True), PcTrust(), 2, True),
        (Terms(), PcTrust(3, 2), 2, False),
        (Terms(approvals_required=3), PcTrust(3, 2), 3, False),
        (Terms(approvals_required=2), PcTrust(3, 3), 3, False),
    ],
)
def test_the_larger_number_of_policy_and_pc_is_needed(
    terms: Terms, trust: PcTrust, required: int, four_eyes: bool
) -> None:
    ready = under_terms(restart(), terms, trust, lifetime=None, approval_required=True)

    assert (ready.approvals_required, ready.four_eyes) == (required, four_eyes)


def test_the_switch_of_the_test_mode_opens_no_pc_that_pins_approvers() -> None:
    terms = Terms(approvals_required=2, four_eyes=True)

    opened = under_terms(restart(), terms, PcTrust(), lifetime=None, approval_required=False)
    closed = under_terms(restart(), terms, PINS, lifetime=None, approval_required=False)

    assert (opened.approvals_required, opened.four_eyes) == (1, False)
    assert (closed.approvals_required, closed.four_eyes) == (2, True)


@pytest.mark.parametrize(
    ("terms", "trust", "asked_s", "life_s"),
    [
        (Terms(), PcTrust(), None, 900),
        (Terms(), PcTrust(), 3600, 3600),
        (Terms(), PINS, None, 900),
        (Terms(), PINS, 900, 900),
        (Terms(), PINS, 901, None),
        (Terms(lifetime_s=300), PcTrust(), None, 300),
        (Terms(lifetime_s=300), PcTrust(), 120, 120),
        (Terms(lifetime_s=300), PcTrust(), 301, None),
    ],
)
def test_a_command_waits_no_longer_than_its_policy_and_signatures_allow(
    terms: Terms, trust: PcTrust, asked_s: int | None, life_s: int | None
) -> None:
    lifetime = None if asked_s is None else timedelta(seconds=asked_s)
    if life_s is None:
        with pytest.raises(BadInput, match="expires_in_s"):
            under_terms(restart(), terms, trust, lifetime=lifetime, approval_required=True)
        return

    ready = under_terms(restart(), terms, trust, lifetime=lifetime, approval_required=True)

    assert ready.expires_at == START + timedelta(seconds=life_s)
    assert may_be_sealed(ready) is (life_s <= 900)


def test_a_reason_is_asked_for_where_the_policy_says_so() -> None:
    terms = Terms(reason_required=True)

    with pytest.raises(BadInput) as refusal:
        under_terms(restart(), terms, PcTrust(), lifetime=None, approval_required=True)
    assert refusal.value.code == "reason_required"

    assert under_terms(restart(reason="it hangs"), terms, PcTrust(), lifetime=None, approval_required=True)


@pytest.mark.parametrize(
    ("asked", "approver", "code"),
    [
        (command(), "ann", "approval_not_needed"),
        (restart(approvals=(yes("bob"),)), "ann", "already_approved"),
        (restart(approvals=(yes("ann"),), approvals_required=2), "ann", "already_approved"),
        (restart(status=CommandStatus.REJECTED), "ann", "not_pending"),
        (restart(expires_at=START), "ann", "not_pending"),
        (restart(four_eyes=True), "rita", "self_approval"),
        (restart(), "rita", None),
        (restart(four_eyes=True), "ann", None),
        (restart(approvals=(yes("bob"),), approvals_required=2), "ann", None),
    ],
)
def test_a_yes_is_refused_where_it_does_not_belong(asked: Command, approver: str, code: str | None) -> None:
    if code is None:
        refuse_approval(asked, yes(approver))
        return

    with pytest.raises((BadInput, Conflict, Forbidden)) as refusal:
        refuse_approval(asked, yes(approver))

    assert refusal.value.code == code


OTHER = Expectation(78, 1_900_000_900_000)
SHA256 = sealed_for(restart()).sha256


@pytest.mark.parametrize(
    ("given", "seen", "is_refused"),
    [
        (GivenApproval(), SEEN, False),
        (GivenApproval(), OTHER, False),
        (GivenApproval(), None, False),
        (GivenApproval(shown=SEEN), SEEN, False),
        (GivenApproval(shown=SEEN), OTHER, True),
        (GivenApproval(shown=SEEN), None, False),
        (GivenApproval(body_sha256=SHA256), SEEN, False),
        (GivenApproval(body_sha256=SHA256.upper()), SEEN, False),
        (GivenApproval(body_sha256=SHA256), OTHER, True),
        (GivenApproval(body_sha256="0" * 64), SEEN, True),
        (GivenApproval(body_sha256="0" * 64), None, True),
        (GivenApproval(signature=key_file("ann").sign(b"x")), SEEN, False),
        (GivenApproval(signature=key_file("ann").sign(b"x")), OTHER, True),
    ],
)
def test_a_yes_to_other_bytes_or_another_process_is_refused(
    given: GivenApproval, seen: Expectation | None, is_refused: bool
) -> None:
    asked = restart(envelope=sealed_for(restart()))
    if not is_refused:
        refuse_what_changed(asked, given, seen)
        return

    with pytest.raises(Conflict) as refusal:
        refuse_what_changed(asked, given, seen)

    assert refusal.value.code == "changed_since_shown"


def test_the_first_approval_settles_the_process_for_everybody_after() -> None:
    asked = restart(envelope=sealed_for(restart()), approvals_required=2)
    once = replace(asked, approvals=(yes("ann"),), expectation=SEEN)

    refuse_what_changed(once, GivenApproval(), SEEN)
    refuse_what_changed(once, GivenApproval(), None)
    with pytest.raises(Conflict, match="first approver"):
        refuse_what_changed(once, GivenApproval(), OTHER)


def test_an_envelope_is_renewed_only_while_nobody_has_approved_and_only_for_another_process() -> None:
    asked = restart(envelope=sealed_for(restart()))

    assert is_outdated(asked, OTHER)
    assert is_outdated(asked, Expectation(None, None))
    assert not is_outdated(asked, SEEN)
    assert not is_outdated(asked, None)
    assert not is_outdated(replace(asked, approvals=(yes("ann"),)), OTHER)
    assert not is_outdated(replace(asked, status=CommandStatus.DELIVERED), OTHER)
    assert not is_outdated(replace(asked, envelope=None), OTHER)
