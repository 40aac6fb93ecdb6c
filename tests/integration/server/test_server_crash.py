"""kill -9 of the real server under load: whatever was acknowledged is there afterwards, and nothing twice."""

import contextlib
import http.client
import itertools
import json
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers import ServerProcess, agent_headers, read_answer

ROUNDS = 5
SENDERS = 6
ENOUGH_TO_KILL = 60


@dataclass
class Ledger:
    """What the senders sent and what the server acknowledged, by the client's own numbers."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    enough: threading.Event = field(default_factory=threading.Event)

    def note(self, mark: str, *, is_acknowledged: bool, enough_at: int) -> None:
        """Write one record down, before the next is sent."""
        with self.lock:
            (self.acknowledged if is_acknowledged else self.sent).add(mark)
            if len(self.acknowledged) >= enough_at:
                self.enough.set()


def send_until_it_dies(
    server: ServerProcess,
    record: Callable[[str], tuple[str, bytes]],
    ledger: Ledger,
    *,
    marks: "itertools.count[int]",
    name: str,
    enough_at: int,
) -> None:
    """Post one record after the other on one connection, until the server is gone."""
    with contextlib.suppress(OSError, http.client.HTTPException), closing(server.connection()) as connection:
        while True:
            mark = f"{name}-{next(marks)}"
            path, body = record(mark)
            ledger.note(mark, is_acknowledged=False, enough_at=enough_at)
            connection.request("POST", path, body=body, headers=agent_headers())
            if read_answer(connection).status == http.HTTPStatus.OK:
                ledger.note(mark, is_acknowledged=True, enough_at=enough_at)


def heartbeat(mark: str) -> tuple[str, bytes]:
    return "/agent/heartbeat", json.dumps({"version": mark, "metrics": {"cpu_percent": 1}}).encode()


def numbered_log(mark: str) -> tuple[str, bytes]:
    stream, _, number = mark.partition("-")
    batch = {
        "logs": [{"msg": mark, "level": "WARN"}],
        "stream": stream,
        "epoch": "1",
        "first_seq": int(number),
    }
    return "/agent/logs", json.dumps(batch).encode()


def stored_marks(server: ServerProcess, query: str) -> Counter[str]:
    with closing(sqlite3.connect(server.db_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return Counter(row[0] for row in connection.execute(query))


def version_changes(server: ServerProcess) -> Counter[str]:
    """The versions that heartbeats carried: every one was another, so every one left its audit row."""
    events = stored_marks(server, "SELECT payload_json FROM audit_log WHERE event_type = 'agent_version_changed'")
    return Counter({json.loads(payload)["to"]: count for payload, count in events.items()})


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_and_nothing_is_stored_twice(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, RECO3_TEST_MODE="1").start()
    server.say("/agent/heartbeat", {"version": "first", "metrics": {}})
    dice = random.Random(20300115)  # noqa: S311 - a seed, so that a failure can be played again
    logs, heartbeats = Ledger(), Ledger()
    counters = [itertools.count(1) for _ in range(SENDERS)]

    for round_number in range(1, ROUNDS + 1):
        under_load(
            server, logs, heartbeats, counters=counters, enough_at=round_number * ENOUGH_TO_KILL + dice.randrange(60)
        )
        server.start()

    lines = stored_marks(server, "SELECT msg FROM agent_logs")
    beats = version_changes(server)
    server.stop()

    assert len(logs.acknowledged) >= ROUNDS * ENOUGH_TO_KILL
    assert logs.acknowledged - set(lines) == set()
    assert heartbeats.acknowledged - set(beats) == set()
    assert [mark for mark, count in (lines + beats).items() if count > 1] == []
    assert set(lines) <= logs.sent
    assert set(beats) <= heartbeats.sent


def under_load(
    server: ServerProcess, logs: Ledger, heartbeats: Ledger, *, counters: list["itertools.count[int]"], enough_at: int
) -> None:
    """Kill the server while everybody sends, once enough was acknowledged."""
    logs.enough.clear()
    senders = [
        threading.Thread(
            target=send_until_it_dies,
            args=(server, numbered_log if number % 2 else heartbeat, logs if number % 2 else heartbeats),
            kwargs={"marks": counters[number], "name": f"s{number}", "enough_at": enough_at},
        )
        for number in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    assert logs.enough.wait(30), "the server acknowledged too little"
    server.kill()
    for sender in senders:
        sender.join(30)


def test_resending_what_was_not_acknowledged_stores_it_once(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, RECO3_TEST_MODE="1").start()
    server.say("/agent/heartbeat", {"metrics": {}})
    batch = {"logs": [{"msg": f"line {n}"} for n in range(100)], "stream": "s", "epoch": "1", "first_seq": 1}
    body = json.dumps(batch).encode()
    with closing(server.connection()) as connection:
        connection.request("POST", "/agent/logs", body=body, headers=agent_headers())
        server.kill()  # The answer, if any, is never read.
    server.start()

    answer = server.say("/agent/logs", batch)

    assert answer.json["acked_seq"] == 100
    assert set(stored_marks(server, "SELECT msg FROM agent_logs").values()) == {1}
    server.stop()


def test_a_strong_command_that_was_delivered_before_the_crash_is_not_delivered_after_it(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, RECO3_TEST_MODE="1").start()
    server.say("/agent/heartbeat", {"metrics": {}})
    wish = {"agent_id": "pc-001", "type": "ROLLBACK", "payload": {}}
    command_id = server.post("/api/agent-commands", wish).json["id"]
    server.post(f"/api/agent-commands/{command_id}/approve", {})
    delivered = server.pull().json["commands"]
    server.kill()
    server.start()

    again = server.pull().json["commands"]
    server.say("/agent/report", {"command_id": command_id, "status": "completed"})

    assert [order["id"] for order in delivered] == [command_id]
    assert again == []
    assert server.get("/api/agent-commands").json["commands"][0]["status"] == "completed"
    server.stop()
