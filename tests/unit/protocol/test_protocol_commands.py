"""The catalogue of commands: what each type takes, and what nobody gets past it."""

from typing import Any

import pytest

from builders import cases, expanded
from reco3.protocol.commands import (
    CommandType,
    Strength,
    check_payload,
    needs_apply_enabled,
    needs_approval,
    type_strengths,
)

PAYLOADS = cases("protocol_payloads")


@pytest.mark.parametrize("case", PAYLOADS, ids=[case["name"] for case in PAYLOADS])
def test_a_payload_is_taken_or_refused_naming_its_field(case: dict[str, Any]) -> None:
    refusal = check_payload(CommandType(case["type"]), expanded(case["payload"]))

    assert (refusal.field if refusal else None) == case["field"]


@pytest.mark.parametrize("case", [case for case in PAYLOADS if case["field"]], ids=lambda case: case["name"])
def test_a_refusal_is_one_short_printable_line(case: dict[str, Any]) -> None:
    refusal = check_payload(CommandType(case["type"]), expanded(case["payload"]))

    assert refusal is not None
    text = f"{refusal.field}: {refusal.reason}"
    assert text.isprintable()
    assert len(text) < 400


def test_every_type_has_a_strength() -> None:
    assert set(type_strengths) == set(CommandType)


@pytest.mark.parametrize(
    ("command_type", "approval", "apply_enabled"),
    [
        (CommandType.SET_MODE, False, False),
        (CommandType.NOTIFY_OPS, False, False),
        (CommandType.SET_RATE_LIMIT, False, True),
        (CommandType.RESTART_PROCESS, True, True),
        (CommandType.STOP_PROCESS, True, True),
        (CommandType.ROLLBACK, True, True),
    ],
)
def test_each_type_passes_the_locks_that_the_contract_names(
    command_type: CommandType, approval: bool, apply_enabled: bool
) -> None:
    assert needs_approval(command_type) is approval
    assert needs_apply_enabled(command_type) is apply_enabled


def test_an_unwatched_strength_does_not_exist() -> None:
    assert set(type_strengths.values()) == set(Strength)


@pytest.mark.parametrize("command_type", list(CommandType))
def test_every_type_refuses_a_field_that_nobody_knows(command_type: CommandType) -> None:
    refusal = check_payload(command_type, {"shell": "reboot"})

    assert refusal is not None
    assert refusal.field == "payload.'shell'"
