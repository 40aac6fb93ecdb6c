"""Who must have signed: people are counted, not keys, and nobody for himself."""

from typing import Any

import pytest
from agent_builders import ALICE, CONFIG_PATH, make_control

from approvers import envelope, key_file, signed
from reco3.agent.approvals import Approved, Place, SignatureCheck, misdirected, read_approved, self_approval
from reco3.agent.refusals import Refused
from reco3.protocol.envelope import EnvelopePolicy, SignedEnvelope, signed_envelope_shape

BAD = SignatureCheck(refusal=Refused("bad_signature", ""))
STRANGE = SignatureCheck(refusal=Refused("unpinned_key", ""))


def by(*owners: str) -> list[SignatureCheck]:
    return [SignatureCheck(owner) for owner in owners]


def approved_by(checks: list[SignatureCheck], required: int, **fields: Any) -> Approved | Refused:
    control = make_control(approvers=(ALICE,), approvals_required=required)
    raw = signed_envelope_shape(signed(envelope(**fields), *[key_file("x") for _ in checks]))

    def verify(one: SignedEnvelope) -> list[SignatureCheck]:
        assert len(one.signatures) == len(checks)
        return checks

    return read_approved(raw, control, verify, config_path=CONFIG_PATH)


@pytest.mark.parametrize(
    ("checks", "required", "answer"),
    [
        ([], 1, "not_signed"),
        (by("alice"), 1, ("alice",)),
        (by("alice"), 2, "too_few_signatures"),
        (by("alice", "alice"), 2, "too_few_signatures"),
        (by("alice", "ALICE"), 2, "too_few_signatures"),
        (by("bob", "alice"), 2, ("alice", "bob")),
        (by("bob", "alice", "carol"), 2, ("alice", "bob", "carol")),
        ([BAD], 1, "bad_signature"),
        ([STRANGE, BAD], 1, "unpinned_key"),
        ([*by("alice"), BAD], 2, "bad_signature"),
        ([*by("alice"), STRANGE], 1, ("alice",)),
        ([BAD, *by("alice", "bob")], 2, ("alice", "bob")),
    ],
)
def test_distinct_owners_are_counted(checks: list[SignatureCheck], required: int, answer: object) -> None:
    outcome = approved_by(checks, required)

    assert (outcome.code if isinstance(outcome, Refused) else outcome.owners) == answer


def test_what_does_not_travel_as_it_should_is_refused_before_anything_is_verified() -> None:
    def verify(_one: SignedEnvelope) -> list[SignatureCheck]:
        raise AssertionError("nothing of this is to be verified")

    outcome = read_approved({"body": "x"}, make_control(approvers=(ALICE,)), verify, config_path=CONFIG_PATH)

    assert isinstance(outcome, Refused)
    assert outcome.code == "bad_envelope"


@pytest.mark.parametrize(
    ("owners", "required", "requested_by", "four_eyes", "code"),
    [
        (("alice",), 1, "rita", True, None),
        (("alice",), 1, "alice", True, "self_approval"),
        (("alice",), 1, "Alice", True, "self_approval"),
        (("alice",), 1, "alice", False, None),
        (("alice", "bob"), 1, "alice", True, None),
        (("alice", "bob"), 2, "alice", True, "self_approval"),
        (("alice", "bob", "carol"), 2, "alice", True, None),
    ],
)
def test_nobody_approves_what_he_requested_himself(
    owners: tuple[str, ...], required: int, requested_by: str, four_eyes: bool, code: str | None
) -> None:
    control = make_control(approvers=(ALICE,), approvals_required=required, four_eyes=four_eyes)

    refusal = self_approval(Approved(envelope(requested_by=requested_by), owners), control, config_path=CONFIG_PATH)

    assert (refusal.code if refusal else None) == code


@pytest.mark.parametrize(
    ("fields", "is_sheet", "fleet_id", "code"),
    [
        ({}, False, "", None),
        ({}, False, "A" * 22, None),
        ({}, False, "B" * 21 + "A", "wrong_fleet"),
        ({"agent_id": "pc-002"}, False, "", "wrong_agent"),
        ({"agent_epoch": "another"}, False, "", "wrong_epoch"),
        ({"agent_epoch": None}, False, "", "wrong_epoch"),
        ({"command_id": "c-2"}, False, "", "wrong_command"),
        ({"policy": EnvelopePolicy.BREAK_GLASS}, False, "", "wrong_policy"),
        ({}, True, "", "wrong_policy"),
        ({"policy": EnvelopePolicy.BREAK_GLASS}, True, "", None),
        ({"policy": EnvelopePolicy.BREAK_GLASS, "agent_epoch": None}, True, "", None),
        ({"policy": EnvelopePolicy.BREAK_GLASS, "agent_epoch": "another"}, True, "", "wrong_epoch"),
    ],
)
def test_an_envelope_is_for_one_fleet_pc_journal_command_and_way(
    fields: dict[str, Any], is_sheet: bool, fleet_id: str, code: str | None
) -> None:
    made = envelope(**{"agent_epoch": "epoch", **fields})

    refusal = misdirected(made, make_control(fleet_id=fleet_id), Place("pc-001", "epoch", "c-1", is_sheet))

    assert (refusal.code if refusal else None) == code
