"""Waits until a command has ended, and says how.

It refuses to decide what happened: the status is the server's, the words are the timeline's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reco3.console.api import Api, Unreachable
from reco3.console.output import INTERRUPTED, Exit, complain, print_lines
from reco3.console.tables import is_waiting
from reco3.console.texts import json_text, visible
from reco3.console.timelines import timeline_lines
from reco3.console.times import between, duration_text

Json = dict[str, Any]
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 1.0
PATIENCE_S = 30.0


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


def wait_and_tell(api: Api, command_id: str, *, is_json: bool) -> int:
    """Wait for the command's end and print its life; returns the exit code that says how it ended."""
    try:
        command = Waiting(_tell_progress).for_end(lambda: api.command(command_id))
    except KeyboardInterrupt:
        complain(f"stopped waiting; the command goes on: reco3 commands show {visible(command_id)}")
        return INTERRUPTED
    print_lines([json_text(command)] if is_json else [*timeline_lines(command), "", end_text(command)])
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
        complain(f"{command_id} waits for approval: reco3 commands approve {command_id}, or reco3 approve {command_id}")
    else:
        complain(f"{command_id} is {visible(command.get('status'))}")
