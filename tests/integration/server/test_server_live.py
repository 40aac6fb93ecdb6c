"""The live stream over a real connection: hello, hints within a second, many of them together, an end."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from servers import ServerProcess


@dataclass
class Stream:
    """The events of an open live stream."""

    response: HTTPResponse
    comments: list[str] = field(default_factory=list)

    def next_event(self) -> tuple[str, dict[str, Any]]:
        """The next event's name and content."""
        name = ""
        while line := self.response.readline():
            text = line.decode().strip()
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                return name, json.loads(text.removeprefix("data: "))
            elif text.startswith(":"):
                self.comments.append(text)
        return "end", {}


@contextlib.contextmanager
def live(server: ServerProcess) -> Iterator[Stream]:
    """An open live stream that has said hello."""
    with contextlib.closing(server.connection()) as connection:
        connection.request("GET", "/api/live")
        response = connection.getresponse()
        assert response.status == 200
        assert (response.getheader("content-type") or "").startswith("text/event-stream")
        stream = Stream(response)
        name, content = stream.next_event()
        assert (name, list(content)) == ("hello", ["now"])
        yield stream


def test_a_heartbeat_is_hinted_at_within_a_second(server: ServerProcess) -> None:
    with live(server) as stream:
        begun = time.monotonic()
        server.say("/agent/heartbeat", {"metrics": {}})

        name, content = stream.next_event()

        assert (name, content) == ("changed", {"topics": ["agents"], "agent_ids": ["pc-001"]})
        assert time.monotonic() - begun < 5


def test_many_changes_are_told_together(server: ServerProcess) -> None:
    server.say("/agent/heartbeat", {"metrics": {}})
    with live(server) as stream:
        for number in range(60):
            server.say("/agent/heartbeat", {"metrics": {}}, agent_id=f"pc-00{number % 2 + 1}")
        server.say("/agent/logs", {"logs": [{"msg": "x", "code": "LIVE"}]})
        server.post("/api/agent-commands", {"agent_id": "pc-001", "type": "SET_MODE", "payload": {"mode": "SAFE"}})

        topics: set[str] = set()
        events = 0
        while topics != {"agents", "logs", "incidents", "commands"}:
            name, content = stream.next_event()
            assert name == "changed"
            topics |= set(content["topics"])
            events += 1

    assert events <= 15


def test_a_hint_names_the_pcs_and_never_what_they_said(server: ServerProcess) -> None:
    with live(server) as stream:
        server.say("/agent/heartbeat", {"metrics": {"hostname": "secret-host"}})

        _, content = stream.next_event()

    assert set(content) == {"topics", "agent_ids"}
    assert "secret-host" not in json.dumps(content)


def test_a_dashboard_that_left_does_not_disturb_the_others(server: ServerProcess) -> None:
    with live(server) as stays:
        with live(server):
            pass
        server.say("/agent/heartbeat", {"metrics": {}})

        assert stays.next_event()[0] == "changed"


def test_a_stopping_server_ends_the_streams_and_is_gone_in_three_seconds(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, RECO3_TEST_MODE="1").start()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(live(server)) for _ in range(5)]
        begun = time.monotonic()

        server.stop()

        assert time.monotonic() - begun < 10
        assert [stream.next_event()[0] for stream in streams] == ["end"] * 5


@pytest.mark.parametrize("headers", [{"X-AGENT-ID": "pc-001", "X-API-Key": "devkey"}, {"Host": "evil.example"}])
def test_a_stranger_hears_nothing(server: ServerProcess, headers: dict[str, str]) -> None:
    assert server.get("/api/live", **headers).status == 401
