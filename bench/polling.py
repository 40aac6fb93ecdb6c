"""Asks the peers for their figures every ten seconds, as a monitoring server would, while their footprint is watched.

An agent that nobody asks costs nothing, so a poll that fails is counted and makes the run say so.
"""

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from processes import fetch

POLL_EVERY_S = 10.0
ZABBIX_KEYS = (
    *("system.cpu.util[,user]", "system.cpu.load[,avg1]", "vm.memory.size[pavailable]", "vfs.fs.size[/,pused]"),
    *("net.if.in[lo]", "net.if.out[lo]", "proc.num[zabbix_agent2]", "system.uptime"),
)
_ZABBIX_HEAD = struct.Struct("<4sBII")
_ZABBIX_MARK, _ZABBIX_FLAGS = b"ZBXD", 1
_NOT_SUPPORTED = b"ZBX_NOTSUPPORTED"


class PollFailed(Exception):
    """A peer answered, but not with a figure."""


@dataclass(slots=True)
class Polls:
    """What came of polling: answers and failures by name; the threads write it, the run reads it at the end."""

    answered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def polling(asked: Mapping[str, Callable[[], None]], *, every_s: float = POLL_EVERY_S) -> Iterator[Polls]:
    """Poll each named peer regularly for the time of the block."""
    stopped = threading.Event()
    polls = Polls(answered=dict.fromkeys(asked, 0))
    threads = [
        threading.Thread(target=_poll, args=(name, ask, polls, stopped, every_s), daemon=True)
        for name, ask in asked.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield polls
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def ask_zabbix(port: int, key: str) -> str:
    """Ask a zabbix agent for one item by a passive check, and return its value.

    Raises:
        PollFailed: no such item, or no Zabbix at the other end.
        OSError: nobody answers.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(_ZABBIX_HEAD.pack(_ZABBIX_MARK, _ZABBIX_FLAGS, len(key), 0) + key.encode())
        with connection.makefile("rb") as stream:
            answer = stream.read()
    return zabbix_value(answer)


def zabbix_value(answer: bytes) -> str:
    """Return the value in a Zabbix agent's answer.

    Raises:
        PollFailed: the answer is no value.
    """
    if len(answer) < _ZABBIX_HEAD.size or answer[:4] != _ZABBIX_MARK:
        raise PollFailed(f"expected a Zabbix answer, got {answer[:20]!a}")
    size_bytes = _ZABBIX_HEAD.unpack_from(answer)[2]
    value = answer[_ZABBIX_HEAD.size :][:size_bytes]
    if value.startswith(_NOT_SUPPORTED):
        raise PollFailed(value.replace(b"\0", b": ").decode(errors="replace"))
    return value.decode(errors="replace")


def poll_zabbix(port: int) -> Callable[[], None]:
    """Make a poll of all our items."""

    def ask() -> None:
        for key in ZABBIX_KEYS:
            ask_zabbix(port, key)

    return ask


def poll_url(url: str) -> Callable[[], None]:
    """Make a poll of an address."""

    def ask() -> None:
        fetch(url)

    return ask


def _poll(name: str, ask: Callable[[], None], polls: Polls, stopped: threading.Event, every_s: float) -> None:
    while not stopped.is_set():
        try:
            ask()
        except (OSError, http.client.HTTPException, PollFailed) as err:
            polls.failed[name] = f"{type(err).__name__}: {err}"
        else:
            polls.answered[name] += 1
        stopped.wait(every_s)
