"""`reco3 commands list|show|create|approve|cancel|resolve`, over the operator API.

It prints what the server says and decides nothing; a strong command waits for a person, whoever asked for it.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from reco3.console.api import Api, Refused, Unreachable
from reco3.console.arguments import parse_arguments, parse_payload
from reco3.console.keys import DEFAULT_URL, URL_VARIABLE, BadUsage, find_key, parse_address, refuse_clear_text
from reco3.console.tables import is_waiting, table_lines
from reco3.console.texts import json_text, visible, visible_lines
from reco3.console.timelines import timeline_lines
from reco3.console.times import between, duration_text
from reco3.protocol.commands import CommandType, needs_approval

Json = dict[str, Any]
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 1.0
PATIENCE_S = 30.0
INTERRUPTED = 130


class Exit(IntEnum):
    """What a script learns from the exit code; the last two only with `--wait`."""

    DONE = 0
    REFUSED = 1
    BAD_USAGE = 2
    UNREACHABLE = 3
    NOT_COMPLETED = 4
    UNKNOWN = 5


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    wants_json = False
    try:
        options = parse_arguments(argv)
        wants_json = _wants_json(options)
        return _verbs[options.verb](_api(options, os.environ), options)
    except (BadUsage, Refused, Unreachable) as err:
        return _tell_failure(err, wants_json=wants_json)
    except SystemExit as err:
        return int(err.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be flushed to him at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _tell_failure(err: BadUsage | Refused | Unreachable, *, wants_json: bool) -> Exit:
    match err:
        case Refused():
            if wants_json:
                _print([json_text({"error": err.code, "message": err.message})])
            _complain(f"the server refused: {err.code}: {err.message}{_hint(err)}")
            return Exit.REFUSED
        case Unreachable():
            _complain(f"{err}. Is the server running there? --server URL or ${URL_VARIABLE} names another.")
            return Exit.UNREACHABLE
        case BadUsage():
            _complain(str(err))
            return Exit.BAD_USAGE


def _api(options: argparse.Namespace, environment: Mapping[str, str]) -> Api:
    address = parse_address(getattr(options, "server", None) or environment.get(URL_VARIABLE) or DEFAULT_URL)
    key = find_key(getattr(options, "api_key_file", None), environment)
    refuse_clear_text(address, key)
    return Api(address, key)


def _list(api: Api, options: argparse.Namespace) -> int:
    page = api.commands(limit=options.limit, agent_id=options.agent, status=options.status)
    if _wants_json(options):
        return _done([json_text(page)])
    commands = page.get("commands") or []
    if not commands:
        return _done(["no such command" if options.agent or options.status else "no command has been sent yet"])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = table_lines(commands, page.get("now"), width=width)
    if page.get("next_cursor"):
        lines.append(f"(the newest {len(commands)}; --limit shows more)")
    return _done(lines)


def _show(api: Api, options: argparse.Namespace) -> int:
    command = api.command(options.id)
    return _done([json_text(command)] if _wants_json(options) else timeline_lines(command))


def _create(api: Api, options: argparse.Namespace) -> int:
    asked = {
        "agent_id": options.agent,
        "type": options.type,
        "payload": parse_payload(options.type, options.payload),
        "reason": options.reason,
        "expires_in_s": options.expires_in_s,
    }
    answer = api.create({name: value for name, value in asked.items() if value is not None})
    command_id = str(answer.get("id"))
    if options.wait:
        _complain(f"created {visible(command_id)}")
        return _wait_and_tell(api, command_id, options)
    if _wants_json(options):
        return _done([json_text(answer)])
    lines = [f"created {visible(command_id)}"]
    if options.type in set(CommandType) and needs_approval(CommandType(options.type)):
        lines.append(f"it waits for approval: reco3 commands approve {visible(command_id)}")
    return _done(lines)


def _approve(api: Api, options: argparse.Namespace) -> int:
    answer = api.approve(options.id)
    if options.wait:
        return _wait_and_tell(api, options.id, options)
    return _done([json_text(answer)] if _wants_json(options) else [f"approved {visible(options.id)}"])


def _cancel(api: Api, options: argparse.Namespace) -> int:
    answer = api.cancel(options.id, options.reason)
    if _wants_json(options):
        return _done([json_text(answer)])
    if answer.get("status") == "cancelled":
        return _done([f"cancelled {visible(options.id)}: it will not run"])
    return _done([f"cancel requested for {visible(options.id)}: it was sent already; the PC says whether it had begun"])


def _resolve(api: Api, options: argparse.Namespace) -> int:
    answer = api.resolve(options.id, outcome=options.outcome.replace("-", "_"), reason=options.reason)
    if _wants_json(options):
        return _done([json_text(answer)])
    finding = "it ran" if options.outcome == "ran" else "it did not run"
    return _done([f"recorded for {visible(options.id)}: {finding}; now {visible(answer.get('status'))}"])


_verbs: Mapping[str, Callable[[Api, argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "create": _create,
    "approve": _approve,
    "cancel": _cancel,
    "resolve": _resolve,
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """How to wait for a command's end; `tell` says every change once."""

    tell: Callable[[Json], None]
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def for_end(self, look: Callable[[], Json]) -> Json:
        """The command once it has ended.

        Raises:
            Unreachable: the server was silent for half a minute.
        """
        look_s, seen, heard_at = FIRST_LOOK_S, None, self.monotonic()
        while True:
            try:
                command = look()
            except Unreachable:
                if self.monotonic() - heard_at > PATIENCE_S:
                    raise
            else:
                heard_at = self.monotonic()
                state = (command.get("status"), is_waiting(command))
                if state[0] not in ("pending", "delivered", "running"):
                    return command
                if state != seen:
                    self.tell(command)
                    look_s, seen = FIRST_LOOK_S, state
            self.pause(look_s)
            look_s = min(look_s * 1.5, LONGEST_LOOK_S)


def _wait_and_tell(api: Api, command_id: str, options: argparse.Namespace) -> int:
    try:
        command = Waiting(_tell_progress).for_end(lambda: api.command(command_id))
    except KeyboardInterrupt:
        _complain(f"stopped waiting; the command goes on: reco3 commands show {visible(command_id)}")
        return INTERRUPTED
    lines = [json_text(command)] if _wants_json(options) else [*timeline_lines(command), "", end_text(command)]
    _print(lines)
    return _exit_of(command)


def end_text(command: Json) -> str:
    """How it ended and how long it took, in one line."""
    approval = command.get("approval")
    start = approval.get("approved_at") if isinstance(approval, dict) else command.get("ts")
    took_s = between(start, command.get("finished_at"))
    took = "" if took_s is None else f" {duration_text(took_s)} after {'approval' if approval else 'asking'}"
    status = str(command.get("status"))
    if status == "unknown":
        return f"unknown{took}: we do not know whether it ran"
    return f"{visible(status)}{took}"


def _exit_of(command: Json) -> Exit:
    status = command.get("status")
    if status == "unknown":
        return Exit.UNKNOWN
    return Exit.DONE if status == "completed" else Exit.NOT_COMPLETED


def _tell_progress(command: Json) -> None:
    command_id = visible(command.get("id"))
    if is_waiting(command):
        _complain(f"{command_id} waits for approval: reco3 commands approve {command_id}")
    else:
        _complain(f"{command_id} is {visible(command.get('status'))}")


def _hint(err: Refused) -> str:
    if err.code == "unauthorized":
        return " (give the operator's key: --api-key-file FILE or $RECO3_API_KEY)"
    return ""


def _wants_json(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "json", False))


def _done(lines: Iterable[str]) -> int:
    _print(lines)
    return Exit.DONE


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(_encodable(line, sys.stdout.encoding) + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"reco3: {_encodable(visible_lines(text), sys.stderr.encoding)}\n")


def _encodable(text: str, encoding: str | None) -> str:
    return text.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")
