"""Starts our own and the peers' processes on loopback, waits until they answer, and stops what it started.

It stops by process id only, and only processes that it started; no command goes through a shell.
"""

import contextlib
import http.client
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv/bin"
SERVER_CORE, GENERATOR_CORE = "0", "1"
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
TAIL_CHARS = 600


class ScriptFailed(Exception):
    """A measuring script ended badly, or said nothing that can be read; the text is one line."""


class PartDied(Exception):
    """A process that a measurement needs did not come up."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A script that ended well."""

    argv: tuple[str, ...]
    output: str

    @property
    def command(self) -> str:
        """The command line as a reader would type it in the repository."""
        return shown(self.argv)


def shown(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Render a command line, with paths relative to the repository."""
    words = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    return " ".join([*words, *map(shlex.quote, argv)]).replace(f"{ROOT}/", "")


def on_core(core: str, argv: Sequence[str]) -> list[str]:
    """Pin a command to one core, where the system can; on a single core everything shares it."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) <= int(core):
        return list(argv)
    return ["taskset", "-c", core, *argv]


def free_port() -> int:
    """Return a loopback port that nobody uses, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def started(
    argv: Sequence[str], log_path: Path, *, environment: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the time of the block, in a group of its own; its output goes to a file."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=clean_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def clean_environment() -> dict[str, str]:
    """Return the variables a measured process gets: none of the developer's settings leak in."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until a started process is ready.

    Raises:
        PartDied: it ended, or it did not become ready in time.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if is_ready():
                return
        time.sleep(0.1)
    raise PartDied(f"{what} did not come up (exit code {process.poll()})")


def answers(url: str) -> Callable[[], bool]:
    """Make a check whether an address answers 200."""

    def is_answered() -> bool:
        fetch(url)
        return True

    return is_answered


def fetch(url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    """GET or POST on loopback; returns the body of a good answer.

    Raises:
        OSError: no answer, or one that says no.
    """
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
        content: bytes = answer.read()
    return content


def listens(port: int) -> Callable[[], bool]:
    """Make a check whether a loopback port takes connections."""

    def is_open() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True

    return is_open


def run_script(argv: Sequence[str], *, limit_s: float, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a measuring script to its end.

    Raises:
        ScriptFailed: it is not there, took longer than `limit_s`, or ended badly.
    """
    return run_script_while(argv, lambda: None, every_s=limit_s, limit_s=limit_s, environment=environment)[0]


def run_script_while(
    argv: Sequence[str],
    meanwhile: Callable[[], None],
    *,
    every_s: float,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[Ran, float]:
    """Run a measuring script to its end, doing something every so often; returns also the seconds that it took.

    Raises:
        ScriptFailed: it is not there, took longer than `limit_s`, or ended badly.
    """
    if argv[1:] and argv[1].endswith(".py") and not Path(argv[1]).exists():
        raise ScriptFailed(f"{shown(argv[1:2])} does not exist")
    began_s = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            list(argv),
            cwd=ROOT,
            env=clean_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            _await(process, meanwhile, every_s=every_s, ends_s=began_s + limit_s)
        except subprocess.TimeoutExpired as err:
            raise ScriptFailed(f"`{shown(argv)}` took longer than {limit_s:.0f} s") from err
        finally:
            _stop(process)
        said, complaint = _text_of(output), _text_of(errors)
    if process.returncode != 0:
        last_words = " ".join((complaint or said).split())[-TAIL_CHARS:]
        raise ScriptFailed(f"`{shown(argv)}` ended with exit code {process.returncode}: {last_words}")
    return Ran(tuple(argv), said), time.monotonic() - began_s


def _await(process: subprocess.Popen[bytes], meanwhile: Callable[[], None], *, every_s: float, ends_s: float) -> None:
    while True:
        meanwhile()
        left_s = ends_s - time.monotonic()
        try:
            process.wait(max(0.0, min(every_s, left_s)))
        except subprocess.TimeoutExpired:
            if left_s <= every_s:
                raise
        else:
            return


def _text_of(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def last_json(text: str) -> Any:
    """Return the last JSON object or array that begins a line of a script's output.

    Raises:
        ScriptFailed: there is none.
    """
    lines = text.splitlines(keepends=True)
    for position in range(len(lines) - 1, -1, -1):
        # A line within an indented object begins with blanks; the object itself does not.
        if lines[position][:1] in ("{", "["):
            with contextlib.suppress(ValueError):
                value, _end = json.JSONDecoder().raw_decode("".join(lines[position:]))
                return value
    raise ScriptFailed("the script printed no JSON")


def _stop(process: subprocess.Popen[Any]) -> None:
    """End a process and what it started: its session is its own, so the group holds nobody else's processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            # A group may outlive its leader (salt's children do), so it is signalled even when the leader is gone.
            os.killpg(process.pid, number)
        deadline = time.monotonic() + STOP_DEADLINE_S
        while time.monotonic() < deadline and (process.poll() is None or _group_lives(process.pid)):
            time.sleep(0.05)
        if process.poll() is not None and not _group_lives(process.pid):
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
