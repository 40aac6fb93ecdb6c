"""What a person at the PC can do about commands that wait: see them, and stop them before they act.

It refuses to start or to hurry anything.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from reco3.agent.clocks import as_text
from reco3.agent.journal import Journal, is_strong
from reco3.agent.lifecycle import UNSTARTED, Entry


def local_user(environment: Mapping[str, str]) -> str:
    """Name the person at the keyboard, also behind sudo."""
    import getpass  # noqa: PLC0415 - only for a person at the PC, not for the agent itself

    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    behind = environment.get("SUDO_USER", "")
    return f"{behind} (as {name})" if behind and behind != name else name


def waiting_commands(journal: Journal) -> list[Entry]:
    """The strong commands that have not begun and that nobody has stopped yet. Raises: JournalError."""
    return [
        entry
        for entry in journal.open_entries()
        if entry.state in UNSTARTED and entry.veto is None and is_strong(entry.type)
    ]


def describe_waiting(entries: Sequence[Entry], now: datetime) -> str:
    """One line a command, for a terminal; what came from the server is shown with everything odd escaped."""
    return "".join(f"{_describe(entry, now)}\n" for entry in entries) or "nothing waits\n"


def _describe(entry: Entry, now: datetime) -> str:
    payload = entry.order.payload_json if entry.order else None
    words = [entry.command_id, entry.type, ascii(payload)[1:-1] if isinstance(payload, str) else ""]
    if entry.acts_at is None:
        words.append("waits to be asked for again")
    else:
        words.append(f"acts in {max(0.0, (entry.acts_at - now).total_seconds()):.0f} s ({as_text(entry.acts_at)})")
    if entry.expires_at is not None:
        words.append(f"expires {as_text(entry.expires_at)}")
    return "  ".join(word for word in words if word)
