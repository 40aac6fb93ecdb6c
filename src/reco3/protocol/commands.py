"""The catalogue of commands: each type's strength and the payload it takes.

One truth for the server, the agent and the page.
It checks the shape of a payload; it refuses to know whether a command is approved or allowed anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from reco3.protocol.limits import ENDPOINT_PATTERN, PROCESS_NAME_PATTERN


class CommandType(StrEnum):
    """Every command that RECO3 knows."""

    SET_MODE = "SET_MODE"
    SET_RATE_LIMIT = "SET_RATE_LIMIT"
    NOTIFY_OPS = "NOTIFY_OPS"
    RESTART_PROCESS = "RESTART_PROCESS"
    STOP_PROCESS = "STOP_PROCESS"
    ROLLBACK = "ROLLBACK"


class Strength(StrEnum):
    """How much harm a command can do, and so which locks it must pass.

    SAFE passes the agent's allow-list alone.
    MODERATE also needs `control.apply_enabled` on the PC.
    STRONG also needs a human's approval on the server.
    """

    SAFE = "safe"
    MODERATE = "moderate"
    STRONG = "strong"


class Mode(StrEnum):
    """What an agent lets happen: everything, no strong command, or monitoring alone."""

    NORMAL = "NORMAL"
    SAFE = "SAFE"
    LOCKED = "LOCKED"


class Severity(StrEnum):
    """How bad a log line or an incident is; `NOTIFY_OPS` takes one of these."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True, slots=True)
class BadPayload:
    """A payload that its command type does not take.

    `field` is the JSON path of the offending value, such as `payload.mode`.
    """

    field: str
    reason: str


MAX_NOTICE_CHARS = 2_000
MAX_RATE_LIMIT_RPS = 1_000_000
MAX_SHOWN_CHARS = 60

type_strengths: Mapping[CommandType, Strength] = {
    CommandType.SET_MODE: Strength.SAFE,
    CommandType.NOTIFY_OPS: Strength.SAFE,
    CommandType.SET_RATE_LIMIT: Strength.MODERATE,
    CommandType.RESTART_PROCESS: Strength.STRONG,
    CommandType.STOP_PROCESS: Strength.STRONG,
    CommandType.ROLLBACK: Strength.STRONG,
}


def needs_approval(command_type: CommandType) -> bool:
    """Whether a human must approve this command on the server before the PC may see it."""
    return type_strengths[command_type] is Strength.STRONG


def needs_apply_enabled(command_type: CommandType) -> bool:
    """Whether the PC's own `control.apply_enabled` must be true for this command."""
    return type_strengths[command_type] is not Strength.SAFE


def check_payload(command_type: CommandType, payload: Mapping[str, object]) -> BadPayload | None:
    """Say what is wrong with `payload` for this command type, or None when it is right.

    Unknown fields are wrong: a typo in a field's name must not silently change what a command does.
    """
    schema = _payload_schemas[command_type]
    for name in payload:
        if name not in schema:
            expected = ", ".join(schema) or "no fields"
            return BadPayload(f"payload.{_shown(name)}", f"is not a field of {command_type}; it takes {expected}")
    for name, field in schema.items():
        if name not in payload:
            if field.required:
                return BadPayload(f"payload.{name}", f"is missing; expected {field.expected}")
            continue
        if not field.accepts(payload[name]):
            return BadPayload(f"payload.{name}", f"expected {field.expected}, got {_shown(payload[name])}")
    return None


@dataclass(frozen=True, slots=True)
class _Field:
    accepts: Callable[[object], bool]
    expected: str
    required: bool = True


def _is_process_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and PROCESS_NAME_PATTERN.fullmatch(value) is not None
        and ".." not in value
        and value == value.strip()
    )


def _is_endpoint(value: object) -> bool:
    return isinstance(value, str) and ENDPOINT_PATTERN.fullmatch(value) is not None and ".." not in value


def _is_rate(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RATE_LIMIT_RPS


def _is_notice(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_NOTICE_CHARS
        and all(character.isprintable() or character in "\n\t" for character in value)
    )


def _is_command_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 64 and value.isascii() and value.isprintable()  # noqa: PLR2004 - the bound of an id


def _one_of(values: type[StrEnum]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in set(values)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"


_PROCESS = "a process name of 1 to 128 letters, digits, spaces and . _ @ + -"
_process_field = _Field(_is_process_name, _PROCESS)

_payload_schemas: Mapping[CommandType, Mapping[str, _Field]] = {
    CommandType.SET_MODE: {"mode": _Field(_one_of(Mode), "one of NORMAL, SAFE, LOCKED")},
    CommandType.SET_RATE_LIMIT: {
        "endpoint": _Field(_is_endpoint, "a path such as /api, at most 256 characters"),
        "limit_rps": _Field(_is_rate, f"a whole number of requests per second, 1 to {MAX_RATE_LIMIT_RPS}"),
    },
    CommandType.NOTIFY_OPS: {
        "severity": _Field(_one_of(Severity), "one of INFO, WARN, ERROR, CRITICAL"),
        "message": _Field(_is_notice, f"1 to {MAX_NOTICE_CHARS} printable characters"),
    },
    CommandType.RESTART_PROCESS: {"process": _process_field},
    CommandType.STOP_PROCESS: {"process": _process_field},
    CommandType.ROLLBACK: {
        "command_id": _Field(_is_command_id, "the id of a command this PC completed", required=False),
        "process": _Field(_is_process_name, _PROCESS, required=False),
    },
}
