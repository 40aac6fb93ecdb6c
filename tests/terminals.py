"""A person at a terminal: starts a command with a terminal of its own, reads what it asks, types answers.

Real terminals exist on Unix alone; tests that need one say so.
"""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

DEADLINE_S = 30.0


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """One command on a terminal; its output is what a person would see."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(environment),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - the child needs the terminal as its own, for getpass
        )
        os.close(slave)
        self._seen = ""
        self._read_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def wait_for(self, words: str) -> None:
        """Read until the words are there, after those that were waited for before."""
        deadline = time.monotonic() + DEADLINE_S
        while (found := self._seen.find(words, self._read_to)) < 0:
            assert self._read(deadline), f"{words!r} never came:\n{self._seen}"
        self._read_to = found + len(words)

    def answer(self, question: str, line: str) -> None:
        """Wait for a question, then type a line."""
        self.wait_for(question)
        os.write(self._master, f"{line}\n".encode())

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and everything that was shown."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self._process.wait(DEADLINE_S), self._seen.replace("\r\n", "\n")

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing came in time:\n{self._seen}"
        try:
            content = os.read(self._master, 65536)
        except OSError:
            # Linux says EIO once the last program has left the terminal.
            return False
        self._seen += content.decode("utf-8", "replace")
        return bool(content)
