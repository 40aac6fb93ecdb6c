"""Decides whether this PC does what the server asks: (order, policy) → Allowed | Refused.

It refuses everything that is not expressly allowed here, and it does nothing itself: no clock, no files, no log.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reco3.agent.clocks import parse_time
from reco3.agent.config import ControlConfig, WatchedProgram
from reco3.protocol.commands import (
    CommandType,
    Mode,
    Severity,
    Strength,
    check_payload,
    needs_apply_enabled,
    type_strengths,
)
from reco3.protocol.limits import MAX_PAYLOAD_BYTES

MAX_ID_CHARS = 64
MAX_SHOWN_CHARS = 60
MAX_COUNT = 1 << 53
ROLLBACK_TARGET = "the last change"
_EXPECT_FIELDS = ("pid", "create_time_ms")


@dataclass(frozen=True, slots=True)
class Order:
    """A command as the server sent it: only `id` has been checked, so that a refusal can be reported at all.

    `absent` names which of `approved` and `approval` the server did not send, as servers of the first protocol do.
    """

    id: str
    agent_id: object
    type: object
    payload_json: object
    absent: frozenset[str] = frozenset()
    approved: object = None
    approval: object = None
    expires_at: object = None
    delivery: object = None
    expect: object = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What the approver saw of the process: its oldest process, or None for both when it was not running."""

    pid: int | None
    create_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Until when a command may begin, and what must hold when it does."""

    expires_at: datetime | None = None
    expect: Expect | None = None


@dataclass(frozen=True, slots=True)
class SetMode:
    """Change the agent's mode."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class NotifyOps:
    """Write a notice to the agent's log."""

    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class SetRateLimit:
    """Limit the requests per second to one endpoint."""

    endpoint: str
    limit_rps: int


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Restart or stop a watched process as the PC's own config says: by its commands, one after the other.

    There are none when `program` names a service of the operating system instead.
    """

    type: CommandType
    process: str
    argvs: tuple[tuple[str, ...], ...]
    program: WatchedProgram | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """Undo the change that a command made; without an id, the last one."""

    command_id: str | None


@dataclass(frozen=True, slots=True)
class RollbackProgram:
    """Run the rollback that the PC's own config has for a watched process."""

    process: str
    program: WatchedProgram


Action = SetMode | NotifyOps | SetRateLimit | RunProgram | Rollback | RollbackProgram


@dataclass(frozen=True, slots=True)
class Allowed:
    """Every lock is open; `action` holds all that is needed to act, taken from the PC's own config where it can be."""

    action: Action
    strength: Strength
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True)
class Refused:
    """A lock held; `reason` says which one and how the PC's administrator opens it."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What this PC allows at this moment."""

    agent_id: str
    mode: Mode
    control: ControlConfig
    programs: Mapping[str, WatchedProgram]
    config_path: str


def read_order(raw: object) -> Order | None:
    """Take a delivered command apart; None when it has no usable id, so that nothing can be said about it."""
    if not isinstance(raw, dict):
        return None
    command_id = raw.get("id")
    if not isinstance(command_id, str) or not 1 <= len(command_id) <= MAX_ID_CHARS:
        return None
    if not (command_id.isascii() and command_id.isprintable()):
        return None
    return Order(
        id=command_id,
        agent_id=raw.get("agent_id"),
        type=raw.get("type"),
        payload_json=raw.get("payload_json"),
        absent=frozenset({"approved", "approval"} - raw.keys()),
        approved=raw.get("approved"),
        approval=raw.get("approval"),
        expires_at=raw.get("expires_at"),
        delivery=raw.get("delivery"),
        expect=raw.get("expect"),
    )


def read_terms(order: Order) -> Terms | Refused:
    """Read what an order says of its time and of the world; a server that says nothing sets no terms."""
    expires_at = None if order.expires_at is None else parse_time(order.expires_at)
    if order.expires_at is not None and expires_at is None:
        return Refused("bad_order", "expires_at: expected an RFC 3339 time with its zone")
    if order.expect is None:
        return Terms(expires_at)
    if not isinstance(order.expect, dict) or not all(map(_is_count, map(order.expect.get, _EXPECT_FIELDS))):
        return Refused("bad_order", "expect: expected null or an object of pid and create_time_ms, whole numbers")
    return Terms(expires_at, Expect(order.expect.get("pid"), order.expect.get("create_time_ms")))


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT)


def target_of(action: Action) -> str:
    """Name what a command acts on, as far as its budget cares."""
    return action.process if isinstance(action, RunProgram | RollbackProgram) else ROLLBACK_TARGET


def decide(order: Order, policy: Policy) -> Allowed | Refused:
    """Go through the locks in their order; the first one that holds is the answer."""
    command = _read_command(order, policy)
    if isinstance(command, Refused):
        return command
    unapproved = _unapproved(order, command.strength, policy)
    if unapproved is not None:
        return unapproved
    action = _allow_listed(command, policy)
    if isinstance(action, Refused):
        return action
    return (
        _mode_lock(command.strength, policy)
        or _apply_lock(command, policy)
        or Allowed(action, command.strength, command.terms)
    )


def read_action(order: Order, policy: Policy) -> Action | None:
    """Say what an order asks for in the words of this PC's config, whether or not it is allowed now."""
    command = _read_command(order, policy)
    action = command if isinstance(command, Refused) else _allow_listed(command, policy)
    return None if isinstance(action, Refused) else action


@dataclass(frozen=True, slots=True)
class _Command:
    """An order for this PC whose payload fits its type."""

    type: CommandType
    strength: Strength
    payload: Mapping[str, Any]
    terms: Terms


def _read_command(order: Order, policy: Policy) -> _Command | Refused:
    payload = _read_payload(order)
    if isinstance(payload, Refused):
        return payload
    terms = read_terms(order)
    if isinstance(terms, Refused):
        return terms
    if order.agent_id != policy.agent_id:
        return Refused("wrong_agent", f"the order is for {_shown(order.agent_id)}, this PC is {policy.agent_id}")
    if not isinstance(order.type, str) or order.type not in set(CommandType):
        return Refused("unknown_type", f"{_shown(order.type)} is no command this agent knows")
    command_type = CommandType(order.type)
    bad = check_payload(command_type, payload)
    if bad is not None:
        return Refused("bad_payload", f"{bad.field}: {bad.reason}")
    return _Command(command_type, type_strengths[command_type], payload, terms)


def _read_payload(order: Order) -> Mapping[str, Any] | Refused:
    text = order.payload_json
    if not isinstance(text, str):
        return Refused("bad_order", "payload_json: expected a JSON object in a string")
    if len(text.encode("utf-8", "replace")) > MAX_PAYLOAD_BYTES:
        return Refused("bad_order", f"payload_json: expected at most {MAX_PAYLOAD_BYTES} bytes")
    try:
        payload = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return Refused("bad_order", "payload_json: expected a JSON object in a string, with each key once")
    if not isinstance(payload, dict):
        return Refused("bad_order", "payload_json: expected a JSON object in a string")
    return payload


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _unapproved(order: Order, strength: Strength, policy: Policy) -> Refused | None:
    if strength is not Strength.STRONG:
        return None
    if policy.control.approvers:
        return Refused(
            "approvals_unverifiable",
            f"control.approvers in {policy.config_path} pins keys whose signatures this release cannot verify; "
            "an empty list makes the server's own approval enough",
        )
    if "approved" not in order.absent and order.approved is not True:
        return Refused("not_approved", "the server says that nobody approved this; approve it on the RECO3 page")
    if "approval" not in order.absent and not (isinstance(order.approval, dict) and order.approval):
        return Refused("not_approved", "the server names no approval for this; approve it on the RECO3 page")
    return None


def _allow_listed(command: _Command, policy: Policy) -> Action | Refused:
    payload = command.payload
    match command.type:
        case CommandType.SET_MODE:
            return _listed_mode(Mode(payload["mode"]), policy)
        case CommandType.NOTIFY_OPS:
            return NotifyOps(Severity(payload["severity"]), payload["message"])
        case CommandType.SET_RATE_LIMIT:
            return SetRateLimit(payload["endpoint"], payload["limit_rps"])
        case CommandType.RESTART_PROCESS | CommandType.STOP_PROCESS:
            return _listed_program(command.type, payload["process"], policy)
        case CommandType.ROLLBACK:
            return _listed_rollback(payload, policy)


def _listed_mode(mode: Mode, policy: Policy) -> Action | Refused:
    if mode in policy.control.safe_modes:
        return SetMode(mode)
    listed = ", ".join(policy.control.safe_modes) or "none"
    return Refused(
        "mode_not_allowed",
        f"mode {mode} is not in control.safe_modes in {policy.config_path} (allowed: {listed}); add it there",
    )


def _listed_program(command_type: CommandType, name: str, policy: Policy) -> Action | Refused:
    program = _allowed_program(name, policy)
    if isinstance(program, Refused):
        return program
    argvs, keys = _configured_argvs(command_type, program)
    if argvs or program.service:
        return RunProgram(command_type, name, argvs, program)
    return Refused(
        "no_command_configured",
        f"watch.processes in {policy.config_path} has no {keys} and no service for {name}; configure one to allow this",
    )


def _allowed_program(name: str, policy: Policy) -> WatchedProgram | Refused:
    program = policy.programs.get(name)
    if program is None:
        return Refused(
            "process_not_watched",
            f"{name} is not in watch.processes in {policy.config_path}; add it there to allow this",
        )
    if not program.allow_restart:
        return Refused(
            "restart_not_allowed",
            f"watch.processes in {policy.config_path} has allow_restart: false for {name}; true allows this",
        )
    return program


def _configured_argvs(command_type: CommandType, program: WatchedProgram) -> tuple[tuple[tuple[str, ...], ...], str]:
    if command_type is CommandType.STOP_PROCESS:
        return ((program.stop_argv,) if program.stop_argv else ()), "stop_cmd"
    keys = "restart_cmd (or stop_cmd and start_cmd)"
    if program.restart_argv:
        return (program.restart_argv,), keys
    if program.stop_argv and program.start_argv:
        return (program.stop_argv, program.start_argv), keys
    return (), keys


def _listed_rollback(payload: Mapping[str, Any], policy: Policy) -> Action | Refused:
    if "process" not in payload:
        return Rollback(payload.get("command_id"))
    if "command_id" in payload:
        return Refused("bad_payload", "payload: expected command_id or process, not both")
    name = payload["process"]
    program = _allowed_program(name, policy)
    if isinstance(program, Refused):
        return program
    if program.rollback_argv:
        return RollbackProgram(name, program)
    return Refused(
        "no_rollback_configured",
        f"watch.processes in {policy.config_path} has no rollback for {name}; configure it to allow this",
    )


def _mode_lock(strength: Strength, policy: Policy) -> Refused | None:
    if policy.mode is Mode.LOCKED:
        return Refused(
            "mode_locked",
            f"this PC is LOCKED and only monitored; leave it on the PC with `reco3 agent mode NORMAL "
            f"{policy.config_path}`",
        )
    if policy.mode is Mode.SAFE and strength is Strength.STRONG:
        return Refused(
            "mode_safe",
            "this PC is in SAFE mode, which refuses strong commands; leave it with SET_MODE NORMAL or on the PC with "
            f"`reco3 agent mode NORMAL {policy.config_path}`",
        )
    return None


def _apply_lock(command: _Command, policy: Policy) -> Refused | None:
    if not needs_apply_enabled(command.type) or policy.control.apply_enabled:
        return None
    return Refused(
        "apply_disabled",
        f"apply_enabled is false on this PC: set control.apply_enabled to true in {policy.config_path} and restart the "
        "agent to allow this",
    )


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
