"""Puts rate limits in force and takes them back, through the driver that the PC's config names.

It refuses to overwrite a file that it does not understand, and to leave a half-written one.
The drivers `file` and `command` are here; the third is in `nginx_limits`.
"""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reco3.agent.config import LimitCommands, LimitDriver
from reco3.agent.digests import sha256_hex
from reco3.agent.runner import Outcome
from reco3.agent.security import SetRateLimit

MAX_FILE_BYTES = 1024 * 1024
MAX_ERROR_CHARS = 300


class RateLimitError(Exception):
    """A limit cannot be set or undone; `code` is for the report.

    `is_restored` is False when it may have taken effect all the same, so that undoing it still makes sense.
    """

    def __init__(self, code: str, message: str, *, is_restored: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.is_restored = is_restored


@dataclass(frozen=True, slots=True)
class Change:
    """One write to the file of limits; a text of None is a file that is not there.

    `limit_rps` is what then holds for `endpoint`, None for no limit.
    """

    before: str | None
    after: str | None
    endpoint: str
    limit_rps: int | None


class Driver(Protocol):
    """Somebody who enforces limits, and the file at `path` in which those in force are kept."""

    @property
    def name(self) -> LimitDriver:
        """What the config calls it."""

    @property
    def path(self) -> Path:
        """Where it keeps the limits in force."""

    def parse(self, text: str | None) -> dict[str, Any]:
        """Read the file's text into an object with `limits`. Raises: RateLimitError, as every method here."""

    def render(self, content: dict[str, Any]) -> str:
        """Write such an object as the file's text."""

    def rehearse(self, change: Change) -> None:
        """Find out whether a change could work, without making it."""

    def apply(self, change: Change) -> None:
        """Make a change, so that it is in force when this returns; when it fails, everything is as before."""


def plan_limit(driver: Driver, limit: SetRateLimit, *, command_id: str, set_at: str) -> Change:
    """Say how the file changes when the limit is set; other endpoints and whatever else is in it stay.

    Raises: RateLimitError.
    """
    before = read_text(driver.path)
    content = driver.parse(before)
    entry = {"limit_rps": limit.limit_rps, "command_id": command_id, "set_at": set_at}
    content["limits"] = {**content["limits"], limit.endpoint: entry}
    return Change(before, driver.render(content), limit.endpoint, limit.limit_rps)


def undo_record(driver: Driver, change: Change) -> dict[str, Any]:
    """What `plan_undo` will need to know of a change."""
    return {
        "driver": driver.name,
        "path": str(driver.path),
        "endpoint": change.endpoint,
        "text": change.before,
        "after_sha256": digest(change.after),
    }


def plan_undo(driver: Driver, record: dict[str, Any], *, command_id: str) -> Change:
    """Say how the file changes when the change made by `command_id` is undone.

    An untouched file gets its former bytes back; in one that changed since, only the endpoint's own entry goes back.
    Raises: RateLimitError, with code `superseded` when the limit is no longer the one that the command set.
    """
    _refuse_other_driver(driver, record)
    current, before, endpoint = read_text(driver.path), record["text"], record["endpoint"]
    former = driver.parse(before)["limits"].get(endpoint)
    former_rps = former.get("limit_rps") if isinstance(former, dict) else None
    if digest(current) == record["after_sha256"] or current == before:
        return Change(current, before, endpoint, former_rps)
    content = driver.parse(current)
    limits = dict(content["limits"])
    entry = limits.pop(endpoint, None)
    if not isinstance(entry, dict) or entry.get("command_id") != command_id:
        raise RateLimitError(
            "superseded", f"the limit of {endpoint} has been changed since command {command_id} set it"
        )
    content["limits"] = limits if former is None else limits | {endpoint: former}
    return Change(current, driver.render(content), endpoint, former_rps)


def _refuse_other_driver(driver: Driver, record: dict[str, Any]) -> None:
    made_by = record.get("driver", LimitDriver.FILE)
    if made_by == driver.name and record["path"] == str(driver.path):
        return
    raise RateLimitError(
        "superseded",
        f"the limit was set by the {made_by} driver in {record['path']}, but control.rate_limit names the "
        f"{driver.name} driver and {driver.path} now",
    )


@dataclass(frozen=True, slots=True)
class FileDriver:
    """A JSON file that an application reads: whoever reads it enforces it."""

    path: Path
    name: LimitDriver = LimitDriver.FILE

    def parse(self, text: str | None) -> dict[str, Any]:
        """Read a JSON object with `limits` in it."""
        return _parse_json(self.path, text)

    def render(self, content: dict[str, Any]) -> str:
        """Write it indented, for people."""
        return _as_json(content)

    def rehearse(self, change: Change) -> None:
        """Nothing can be known before it is written."""

    def apply(self, change: Change) -> None:
        """Replace the file."""
        write(self.path, change.after)


@dataclass(frozen=True, slots=True)
class CommandDriver:
    """Two commands of the PC's own: one puts a limit in force, one lifts it. The file only remembers what holds."""

    path: Path
    commands: LimitCommands
    run: Callable[[tuple[str, ...]], Outcome]
    name: LimitDriver = LimitDriver.COMMAND

    def parse(self, text: str | None) -> dict[str, Any]:
        """Read a JSON object with `limits` in it."""
        return _parse_json(self.path, text)

    def render(self, content: dict[str, Any]) -> str:
        """Write it indented, for people."""
        return _as_json(content)

    def rehearse(self, change: Change) -> None:
        """Nothing can be known before it is run."""

    def apply(self, change: Change) -> None:
        """Run the command, then remember; exit code 0 means that it is in force."""
        template = self.commands.clear_argv if change.limit_rps is None else self.commands.set_argv
        argv = filled(template, endpoint=change.endpoint, limit_rps=change.limit_rps)
        outcome = self.run(argv)
        if outcome.exit_code != 0:
            raise RateLimitError("rate_limit_command_failed", _why(argv, outcome), is_restored=not outcome.timed_out)
        try:
            write(self.path, change.after)
        except RateLimitError as error:
            raise RateLimitError(
                error.code, f"{argv[0]} went well, but cannot be remembered: {error}", is_restored=False
            ) from error


def filled(template: tuple[str, ...], *, endpoint: str, limit_rps: int | None) -> tuple[str, ...]:
    """Put the values into an argv template: each word stays one word, and the program's name stays what it is."""
    number = "" if limit_rps is None else str(limit_rps)
    words = (word.replace("{endpoint}", endpoint).replace("{limit_rps}", number) for word in template[1:])
    return (template[0], *words)


def _why(argv: tuple[str, ...], outcome: Outcome) -> str:
    if outcome.timed_out:
        return f"{argv[0]} did not end in time and was killed; it is unknown whether it took effect"
    if outcome.exit_code is None:
        return outcome.output[:MAX_ERROR_CHARS]
    last_line = outcome.output.strip().rpartition("\n")[2][:MAX_ERROR_CHARS]
    return f"{argv[0]} ended with exit code {outcome.exit_code}" + (f": {last_line}" if last_line else "")


def write(path: Path, text: str | None) -> None:
    """Put the new content in place at once: a reader sees the old file or the new one. Raises: RateLimitError."""
    try:
        if text is None:
            path.unlink(missing_ok=True)
        else:
            _replace(path, text)
    except OSError as error:
        raise RateLimitError("rate_limit_unwritable", f"{path} cannot be written: {error.strerror}") from error


def read_text(path: Path) -> str | None:
    """Read the file of limits, None when there is none. Raises: RateLimitError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RateLimitError("rate_limit_unreadable", f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise RateLimitError("rate_limit_unreadable", f"{path}: expected at most {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_ours(path) from error


def digest(text: str | None) -> str | None:
    """Tell one content of the file from another."""
    return None if text is None else sha256_hex(text.encode("utf-8"))


def _parse_json(path: Path, text: str | None) -> dict[str, Any]:
    try:
        content = {"limits": {}} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_ours(path) from error
    if not isinstance(content, dict) or not isinstance(content.get("limits"), dict):
        raise _not_ours(path)
    return content


def _not_ours(path: Path) -> RateLimitError:
    return RateLimitError(
        "rate_limit_unreadable", f'{path}: expected a JSON object with "limits" in it; move the file away or mend it'
    )


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            with contextlib.suppress(FileNotFoundError):
                temporary.chmod(path.stat().st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
