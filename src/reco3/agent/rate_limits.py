"""Keeps the rate limits in a JSON file that an application reads: the `file` driver.

It refuses to overwrite a file that it does not understand, and to leave a half-written one.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reco3.agent.security import SetRateLimit

MAX_FILE_BYTES = 1024 * 1024


class RateLimitError(Exception):
    """A limit cannot be set or undone; `code` is for the report."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Change:
    """One write to the file; a text of None is a file that is not there."""

    before: str | None
    after: str | None


def plan_limit(path: Path, limit: SetRateLimit, *, command_id: str, set_at: str) -> Change:
    """Say how the file changes when the limit is set; other endpoints and whatever else is in it stay.

    Raises: RateLimitError.
    """
    before = _read_text(path)
    content = _parse(path, before)
    entry = {"limit_rps": limit.limit_rps, "command_id": command_id, "set_at": set_at}
    content["limits"] = {**content["limits"], limit.endpoint: entry}
    return Change(before, _as_text(content))


def undo_record(path: Path, endpoint: str, change: Change) -> dict[str, Any]:
    """What `plan_undo` will need to know of a change."""
    return {"path": str(path), "endpoint": endpoint, "text": change.before, "after_sha256": _digest(change.after)}


def plan_undo(path: Path, record: dict[str, Any], *, command_id: str) -> Change:
    """Say how the file changes when the change made by `command_id` is undone.

    An untouched file gets its former bytes back; in one that changed since, only the endpoint's own entry goes back.
    Raises: RateLimitError, with code `superseded` when the limit is no longer the one that the command set.
    """
    if record["path"] != str(path):
        raise RateLimitError(
            "superseded", f"the limit was set in {record['path']}, but control.rate_limit.path is {path} now"
        )
    current, before = _read_text(path), record["text"]
    if _digest(current) == record["after_sha256"] or current == before:
        return Change(current, before)
    content, endpoint = _parse(path, current), record["endpoint"]
    limits = dict(content["limits"])
    entry = limits.pop(endpoint, None)
    if not isinstance(entry, dict) or entry.get("command_id") != command_id:
        raise RateLimitError(
            "superseded", f"the limit of {endpoint} has been changed since command {command_id} set it"
        )
    former = _parse(path, before)["limits"].get(endpoint)
    content["limits"] = limits if former is None else limits | {endpoint: former}
    return Change(current, _as_text(content))


def write(path: Path, change: Change) -> None:
    """Put the new content in place at once: a reader sees the old file or the new one. Raises: RateLimitError."""
    try:
        if change.after is None:
            path.unlink(missing_ok=True)
        else:
            _replace(path, change.after)
    except OSError as error:
        raise RateLimitError("rate_limit_unwritable", f"{path} cannot be written: {error.strerror}") from error


def _read_text(path: Path) -> str | None:
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


def _parse(path: Path, text: str | None) -> dict[str, Any]:
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


def _as_text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode("utf-8")).hexdigest()


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
