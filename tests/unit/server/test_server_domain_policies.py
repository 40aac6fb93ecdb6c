"""Policies: which one holds for a command on a PC, and which could never hold."""

from dataclasses import replace
from typing import Any

import pytest

from builders import cases
from fakes import START
from reco3.protocol.commands import CommandType
from reco3.server.domain.errors import BadInput
from reco3.server.domain.policies import Policy, Terms, check_policy, terms_for


def policy(*, type: str = "*", pattern: str = "*", **terms: Any) -> Policy:  # noqa: A002 - the field's name in the table
    return Policy(f"{type} {pattern}", type, pattern, Terms(**terms), "admin", START)


@pytest.mark.parametrize("case", cases("approval_policies"), ids=lambda case: case["name"])
def test_the_most_specific_policy_holds_alone(case: dict[str, Any]) -> None:
    policies = [policy(**one) for one in case["policies"]]

    for order in (policies, policies[::-1]):
        terms = terms_for(order, CommandType(case["type"]), case["agent_id"], has_people=case.get("has_people", False))
        assert terms == Terms(**case["terms"])


@pytest.mark.parametrize("name", ["*", "RESTART_PROCESS", "STOP_PROCESS", "ROLLBACK"])
def test_a_policy_for_strong_commands_is_taken(name: str) -> None:
    check_policy(policy(type=name, pattern="db-?.*_x", approvals_required=10, lifetime_s=60))
    check_policy(policy(type=name, lifetime_s=900))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (policy(type="SET_MODE"), "command_type"),
        (policy(type="NO_SUCH"), "command_type"),
        (policy(type=""), "command_type"),
        (policy(pattern=""), "agent_pattern"),
        (policy(pattern="x" * 65), "agent_pattern"),
        (policy(pattern="db-[12]"), "agent_pattern"),
        (policy(pattern="db 1"), "agent_pattern"),
        (policy(pattern="db\n"), "agent_pattern"),
        (policy(approvals_required=0), "approvals_required"),
        (policy(approvals_required=11), "approvals_required"),
        (policy(lifetime_s=59), "lifetime_s"),
        (policy(lifetime_s=901), "lifetime_s"),
    ],
)
def test_a_policy_that_could_never_hold_is_refused_by_its_field(wrong: Policy, field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_policy(wrong)

    assert refusal.value.field == field
    check_policy(replace(wrong, command_type="*", agent_pattern="*", terms=Terms()))
