"""Held pulls over real connections: answered at once when there is something, released when the server stops."""

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servers import ServerProcess, agent_headers, read_answer

AT_ONCE_S = 5.0


@pytest.fixture
def pc(server: ServerProcess) -> ServerProcess:
    """The server, with one PC and nothing left in its queue."""
    server.say("/agent/heartbeat", {"metrics": {}})
    for order in server.pull().json["commands"]:
        server.say("/agent/report", {"command_id": order["id"], "status": "completed"})
    return server


@contextlib.contextmanager
def held_pull(server: ServerProcess, *, wait_s: int = 20) -> Iterator[http.client.HTTPConnection]:
    """A pull that the server holds open by now."""
    with contextlib.closing(server.connection()) as connection:
        connection.request("GET", f"/agent/pull?wait={wait_s}", headers=agent_headers())
        wait_until_held(server, connection)
        yield connection


def wait_until_held(server: ServerProcess, connection: http.client.HTTPConnection) -> None:
    """Two requests later, what came before them has been taken up."""
    assert connection.sock is not None
    for _ in range(2):
        server.get("/health")


def asked(server: ServerProcess, command_type: str, payload: dict[str, Any]) -> str:
    answer = server.post("/api/agent-commands", {"agent_id": "pc-001", "type": command_type, "payload": payload})
    command_id: str = answer.json["id"]
    return command_id


def status_of(server: ServerProcess, command_id: str) -> str:
    commands = server.get("/api/agent-commands?limit=500").json["commands"]
    status: str = next(command["status"] for command in commands if command["id"] == command_id)
    return status


def ids_in(connection: http.client.HTTPConnection) -> list[str]:
    return [order["id"] for order in read_answer(connection).json["commands"]]


def test_a_held_pull_is_answered_at_once_by_a_safe_command(pc: ServerProcess) -> None:
    with held_pull(pc) as connection:
        begun = time.monotonic()
        command_id = asked(pc, "SET_MODE", {"mode": "SAFE"})

        assert ids_in(connection) == [command_id]
        assert time.monotonic() - begun < AT_ONCE_S


def test_a_held_pull_is_answered_at_once_by_an_approval_and_not_before(pc: ServerProcess) -> None:
    with held_pull(pc) as connection:
        command_id = asked(pc, "ROLLBACK", {})
        assert is_silent(connection)
        begun = time.monotonic()
        pc.post(f"/api/agent-commands/{command_id}/approve", {})

        assert ids_in(connection) == [command_id]
        assert time.monotonic() - begun < AT_ONCE_S


def is_silent(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing has been answered within a moment."""
    connection.sock.settimeout(0.2)
    try:
        connection.sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        connection.sock.settimeout(30)
    return False


def test_a_pull_that_waited_in_vain_is_answered_empty_in_time(pc: ServerProcess) -> None:
    begun = time.monotonic()

    answer = pc.pull("?wait=1")

    assert (answer.status, answer.json) == (200, {"commands": []})
    assert 0.9 < time.monotonic() - begun < 1 + AT_ONCE_S


def test_a_pull_without_wait_is_answered_at_once(pc: ServerProcess) -> None:
    begun = time.monotonic()

    assert pc.pull().json == {"commands": []}
    assert pc.pull("?wait=0").json == {"commands": []}
    assert time.monotonic() - begun < AT_ONCE_S


def test_nothing_is_delivered_to_a_pc_that_hung_up(pc: ServerProcess) -> None:
    with held_pull(pc):
        pass  # Leaving the block closes the connection.
    let_it_work(pc)

    command_id = asked(pc, "SET_MODE", {"mode": "SAFE"})
    let_it_work(pc)

    assert status_of(pc, command_id) == "pending"
    assert [order["id"] for order in pc.pull().json["commands"]] == [command_id]


def let_it_work(server: ServerProcess) -> None:
    """Several durable requests later, the server has done what it was about to do."""
    for _ in range(5):
        server.say("/agent/heartbeat", {"metrics": {}})


def test_pulls_at_the_same_time_deliver_each_command_once(pc: ServerProcess) -> None:
    ids = [asked(pc, "ROLLBACK", {}) for _ in range(5)]
    for command_id in ids:
        pc.post(f"/api/agent-commands/{command_id}/approve", {})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: pc.pull("?wait=1").json["commands"], range(10)))

    delivered = [order["id"] for orders in answers for order in orders]
    assert sorted(delivered) == sorted(ids)


def test_a_stopping_server_answers_fifty_held_pulls_and_is_gone_in_three_seconds(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = ServerProcess(tmp_path_factory.mktemp("stopping"), RECO3_TEST_MODE="1").start()
    server.say("/agent/heartbeat", {"metrics": {}})
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(held_pull(server)) for _ in range(50)]

        begun = time.monotonic()
        server.stop()
        took_s = time.monotonic() - begun

        answers = [read_answer(connection) for connection in connections]
    assert [(answer.status, answer.json) for answer in answers] == [(200, {"commands": []})] * 50
    assert took_s < 10


def test_an_agent_of_the_first_protocol_works_unchanged(pc: ServerProcess) -> None:
    # Sequential, one connection, polling without `wait`, string payloads, reports only completed or failed.
    command_id = asked(pc, "SET_MODE", {"mode": "SAFE"})
    with contextlib.closing(pc.connection()) as connection:
        answers = []
        for method, path, body in [
            ("POST", "/agent/heartbeat", b'{"platform":"windows","version":"1.0","metrics":{"cpu_percent":5}}'),
            ("POST", "/agent/logs", b'{"logs":[{"ts":"2030-01-15T12:00:00","level":"ERROR","code":"E","msg":"x"}]}'),
            ("GET", "/agent/pull", None),
            ("POST", "/agent/report", b'{"command_id":"%b","status":"completed"}' % command_id.encode()),
        ]:
            connection.request(method, path, body=body, headers=agent_headers())
            answers.append(read_answer(connection))

    assert [answer.status for answer in answers] == [200] * 4
    assert [order["id"] for order in answers[2].json["commands"]] == [command_id]
    assert status_of(pc, command_id) == "completed"
