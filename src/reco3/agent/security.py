"""Decides whether this PC does what the server asks: (order, policy) → Allowed | Refused.

It refuses everything that is not expressly allowed here, and it does nothing itself: no clock, no files, no log.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reco3.agent.clocks import as_text, parse_time
from reco3.agent.config import ControlConfig, WatchedProgram
from reco3.agent.refusals import Refused
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

if TYPE_CHECKING:
    from reco3.agent.approvals import Approved, SignatureCheck, Verify
    from reco3.protocol.envelope import Envelope, SignedEnvelope

MAX_ID_CHARS = 64
MAX_SHOWN_CHARS = 60
MAX_COUNT = 1 << 53
ROLLBACK_TARGET = "the last change"
_EXPECT_FIELDS = ("pid", "create_time_ms")


@dataclass(frozen=True, slots=True)
class Order:
    """A command as the server sent it: only `id` has been checked, so that a refusal can be reported at all.

    `absent` names which of `approved` and `approval` the server did not send, as servers of the first protocol do.
    `used_by` names who at this PC broke the glass for it; None for what the server sent. `signed_by` are the owners
    whose signatures were verified when it came, and then the other fields are those of the envelope.
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
    envelope: object = None
    used_by: str | None = None
    signed_by: tuple[str, ...] = ()

    @property
    def is_break_glass(self) -> bool:
        """Whether somebody at this PC asks for it, with a sheet that was signed beforehand."""
        return self.used_by is not None


@dataclass(frozen=True, slots=True)
class Expect:
    """What the approver saw of the process: its oldest process, or None for both when it was not running."""

    pid: int | None
    create_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Until when a command may begin, and what must hold when it does; the last two are of a signed one alone.

    `created_at` is when it was made, and `longest` how much later it may expire at most.
    """

    expires_at: datetime | None = None
    expect: Expect | None = None
    created_at: datetime | None = None
    longest: timedelta | None = None


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
    """Every lock is open; `action` holds all that is needed to act, taken from the PC's own config where it can be.

    `signed_by` are the owners of pinned keys whose signatures this rests on.
    """

    action: Action
    strength: Strength
    terms: Terms = Terms()
    signed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What this PC allows at this moment; `epoch` names its journal."""

    agent_id: str
    mode: Mode
    control: ControlConfig
    programs: Mapping[str, WatchedProgram]
    config_path: str
    epoch: str | None = None


def verify_nothing(_signed: "SignedEnvelope") -> "Sequence[SignatureCheck]":
    """Let no signature count."""
    return ()


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
        envelope=raw.get("envelope"),
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


def decide(order: Order, policy: Policy, verify: "Verify" = verify_nothing) -> Allowed | Refused:
    """Go through the locks in their order; the first one that holds is the answer."""
    command = (
        _signed_command(order, policy, verify) if _is_to_be_signed(order, policy) else _read_command(order, policy)
    )
    if isinstance(command, Refused):
        return command
    unapproved = None if command.approved else _unapproved(order, command.strength)
    if unapproved is not None:
        return unapproved
    action = _allow_listed(command, policy)
    if isinstance(action, Refused):
        return action
    return (
        _four_eyes_lock(command, policy)
        or _mode_lock(command.strength, policy)
        or _apply_lock(command, policy)
        or Allowed(action, command.strength, command.terms, command.approved.owners if command.approved else ())
    )


def as_signed(order: Order, policy: Policy, verify: "Verify" = verify_nothing) -> Order:
    """Lay what was signed over what the server says beside it, so that nobody is ever shown anything else.

    Where the signatures do not hold, the order stays as it is, and `decide` refuses it.
    """
    if order.envelope is None or not policy.control.approvers:
        return order
    from reco3.agent import approvals  # noqa: PLC0415 - an agent without approvers does not need it

    approved = approvals.read_approved(order.envelope, policy.control, verify, config_path=policy.config_path)
    return order if isinstance(approved, Refused) else _laid_over(order, approved)


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
    approved: "Approved | None" = None


def _is_to_be_signed(order: Order, policy: Policy) -> bool:
    """Where keys are pinned an envelope holds, whatever is said beside it, and nothing strong goes without one."""
    if order.is_break_glass:
        return True
    is_strong = isinstance(order.type, str) and type_strengths.get(order.type) is Strength.STRONG  # type: ignore[call-overload]
    return bool(policy.control.approvers) and (order.envelope is not None or is_strong)


def _signed_command(order: Order, policy: Policy, verify: "Verify") -> _Command | Refused:
    """Take a command from what was signed, and from nothing else."""
    if not policy.control.approvers:
        return Refused(
            "no_approvers", f"control.approvers in {policy.config_path} pins no key, so nobody can have signed this"
        )
    from reco3.agent import approvals  # noqa: PLC0415 - an agent without approvers does not need it

    approved = approvals.read_approved(order.envelope, policy.control, verify, config_path=policy.config_path)
    if isinstance(approved, Refused):
        return approved
    envelope = approved.envelope
    place = approvals.Place(policy.agent_id, policy.epoch, order.id, order.is_break_glass)
    refusal = approvals.misdirected(envelope, policy.control, place)
    if refusal is not None:
        return refusal
    checked = _checked_payload(envelope.type, envelope.payload)
    if isinstance(checked, Refused):
        return checked
    return _Command(checked, type_strengths[checked], envelope.payload, _signed_terms(envelope), approved)


def _signed_terms(envelope: "Envelope") -> Terms:
    from reco3.protocol.envelope import (  # noqa: PLC0415 - as above
        MAX_BREAK_GLASS_VALIDITY_S,
        MAX_VALIDITY_S,
        EnvelopePolicy,
    )

    is_sheet = envelope.policy is EnvelopePolicy.BREAK_GLASS
    expect = envelope.expect
    return Terms(
        expires_at=datetime.fromtimestamp(envelope.expires_at, UTC),
        expect=None if expect is None else Expect(expect.pid, expect.create_time_ms),
        created_at=datetime.fromtimestamp(envelope.created_at, UTC),
        longest=timedelta(seconds=MAX_BREAK_GLASS_VALIDITY_S if is_sheet else MAX_VALIDITY_S),
    )


def _laid_over(order: Order, approved: "Approved") -> Order:
    envelope = approved.envelope
    expect = envelope.expect
    return replace(
        order,
        agent_id=envelope.agent_id,
        type=envelope.type,
        payload_json=json.dumps(dict(envelope.payload)),
        expires_at=as_text(datetime.fromtimestamp(envelope.expires_at, UTC)),
        expect=None if expect is None else {"pid": expect.pid, "create_time_ms": expect.create_time_ms},
        signed_by=approved.owners,
    )


def _four_eyes_lock(command: _Command, policy: Policy) -> Refused | None:
    if command.approved is None:
        return None
    from reco3.agent import approvals  # noqa: PLC0415 - as above

    return approvals.self_approval(command.approved, policy.control, config_path=policy.config_path)


def _read_command(order: Order, policy: Policy) -> _Command | Refused:
    payload = _read_payload(order)
    if isinstance(payload, Refused):
        return payload
    terms = read_terms(order)
    if isinstance(terms, Refused):
        return terms
    if order.agent_id != policy.agent_id:
        return Refused("wrong_agent", f"the order is for {_shown(order.agent_id)}, this PC is {policy.agent_id}")
    checked = _checked_payload(order.type, payload)
    return checked if isinstance(checked, Refused) else _Command(checked, type_strengths[checked], payload, terms)


def _checked_payload(type_: object, payload: Mapping[str, Any]) -> CommandType | Refused:
    if not isinstance(type_, str) or type_ not in set(CommandType):
        return Refused("unknown_type", f"{_shown(type_)} is no command this agent knows")
    command_type = CommandType(type_)
    bad = check_payload(command_type, payload)
    return command_type if bad is None else Refused("bad_payload", f"{bad.field}: {bad.reason}")


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


def _unapproved(order: Order, strength: Strength) -> Refused | None:
    """Without pinned keys the server's word is all there is."""
    if strength is not Strength.STRONG:
        return None
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
