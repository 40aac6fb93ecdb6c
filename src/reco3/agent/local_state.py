"""The state folder as people at the PC use it, beside an agent that may be running.

It refuses to explain itself in more than one line.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from reco3.agent.config import AgentConfig
from reco3.agent.journal import Journal, JournalError

JOURNAL_FILE = "agent.db"


class StartError(Exception):
    """The agent cannot run, or not do what was asked at the PC; the text is one line for the PC's administrator."""


@contextlib.contextmanager
def local_journal(config: AgentConfig) -> Iterator[Journal]:
    """The journal, beside an agent that may be running with it. Raises: StartError."""
    make_state_dir(config.state_dir)
    journal = Journal(config.state_dir / JOURNAL_FILE)
    try:
        yield journal
    except JournalError as error:
        raise StartError(f"the journal cannot be used: {error}") from error
    finally:
        journal.close()


def make_state_dir(path: Path) -> None:
    """Make the folder, for the agent's own user alone. Raises: StartError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{path}: state_dir: cannot be made: {error.strerror}") from error
