"""The express lane over real connections: what goes through it is what the ordinary way would do, only quicker."""

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator

import pytest

from servers import AGENT_KEYS, ServerProcess

ANSWER_S = 20.0


def plain(line: str, *, agent_id: str = "pc-001", key: str | None = None, body: bytes = b"", more: str = "") -> bytes:
    """A request as the agent sends it: head and body in one piece."""
    shown = AGENT_KEYS[agent_id] if key is None else key
    head = f"{line} HTTP/1.1\r\nhost: reco3\r\nx-agent-id: {agent_id}\r\nx-api-key: {shown}\r\n{more}"
    length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    return f"{head}{length}\r\n".encode() + body


LOG_LINE = {"level": "ERROR", "msg": "disk full", "source": "app.log"}
LOGS = plain("POST /agent/logs", body=json.dumps({"logs": [LOG_LINE]}).encode())
# A query is nothing that an agent sends here, so this one goes the ordinary way.
ODD_LOGS = LOGS.replace(b"/agent/logs ", b"/agent/logs?odd=1 ", 1)
HEARTBEAT = plain("POST /agent/heartbeat", body=b'{"metrics":{"cpu_percent":12.5,"mode":"NORMAL"}}')


@contextlib.contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    """A plain connection to the server."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_S) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """The next answer on a connection: its status and JSON body."""
    status, _, body = whole_answer(connection)
    return status, body


def whole_answer(connection: socket.socket) -> tuple[int, dict[bytes, bytes], dict[str, object]]:
    """The next answer, from its first byte to its last: what follows it stays unread."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += received(connection, 1)
    names = dict(line.lower().split(b": ", 1) for line in data[:-4].split(b"\r\n")[1:])
    body = b""
    while len(body) < int(names[b"content-length"]):
        body += received(connection, int(names[b"content-length"]) - len(body))
    return int(data.split()[1]), names, json.loads(body)


def was_express(connection: socket.socket) -> bool:
    """Whether the next answer, a good one, came by the express lane: only the ordinary way says the date."""
    status, names, _ = whole_answer(connection)
    assert status == 200
    return b"date" not in names


def received(connection: socket.socket, size: int = 65_536) -> bytes:
    data = connection.recv(size)
    assert data, "the server closed the connection instead of answering"
    return data


def asked(server: ServerProcess, command_type: str, payload: object) -> str:
    body = {"agent_id": "pc-001", "type": command_type, "payload": payload}
    command_id: str = server.post("/api/agent-commands", body).json["id"]
    return command_id


@pytest.fixture
def quiet(server: ServerProcess) -> ServerProcess:
    """The server with one PC and an empty queue."""
    server.say("/agent/heartbeat", {"metrics": {}})
    for order in server.pull().json["commands"]:
        server.say("/agent/report", {"command_id": order["id"], "status": "completed"})
    return server


def test_a_heartbeat_is_durable_when_it_is_answered(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(HEARTBEAT)
        status, body = answer(connection)

    shown = quiet.get("/api/r3/agents").json["agents"][0]
    assert (status, body["status"]) == (200, "ok")
    assert shown["metrics"]["cpu_percent"] == 12.5
    assert shown["last_seen"] == body["server_time"]


def test_many_requests_follow_each_other_on_one_connection(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        for _ in range(5):
            connection.sendall(HEARTBEAT)
            assert answer(connection)[0] == 200
        connection.sendall(plain("GET /agent/pull?wait=1"))
        assert answer(connection) == (200, {"commands": []})


def our_own(agent_id: str, key: str, body: bytes, *, length: str | None = None) -> bytes:
    """A heartbeat as our own agent writes it."""
    head = f"POST /agent/heartbeat HTTP/1.1\r\nHost: reco3\r\nX-AGENT-ID: {agent_id}\r\nX-API-Key: {key}\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def cpu_of(server: ServerProcess, agent_id: str) -> float | None:
    shown = {agent["agent_id"]: agent for agent in server.get("/api/r3/agents").json["agents"]}
    cpu_percent: float | None = shown[agent_id]["metrics"]["cpu_percent"] if agent_id in shown else None
    return cpu_percent


@pytest.mark.parametrize("between", [b"", LOGS, ODD_LOGS, plain("GET /agent/pull?wait=1", agent_id="pc-002")])
def test_each_heartbeat_of_our_own_agent_is_stored_whatever_comes_between(quiet: ServerProcess, between: bytes) -> None:
    key = AGENT_KEYS["pc-001"]
    with connected(quiet) as connection:
        for cpu in (b"1.5", b"22.25", b"3.5"):
            connection.sendall(our_own("pc-001", key, b'{"metrics":{"cpu_percent":%b}}' % cpu))
            assert was_express(connection)
            assert cpu_of(quiet, "pc-001") == float(cpu)
            if between:
                connection.sendall(between)
                assert answer(connection)[0] == 200


def test_two_pcs_behind_one_connection_are_never_taken_for_each_other(quiet: ServerProcess) -> None:
    one, other = AGENT_KEYS["pc-001"], AGENT_KEYS["pc-002"]
    with connected(quiet) as connection:
        for turn in (10, 20):
            connection.sendall(our_own("pc-001", one, b'{"metrics":{"cpu_percent":%d}}' % turn))
            assert answer(connection)[0] == 200
            connection.sendall(our_own("pc-002", other, b"no heartbeat"))
            assert answer(connection)[0] == 400
            connection.sendall(our_own("pc-002", other, b'{"metrics":{"cpu_percent":%d}}' % (turn + 1)))
            assert answer(connection)[0] == 200
            assert (cpu_of(quiet, "pc-001"), cpu_of(quiet, "pc-002")) == (turn, turn + 1)


def test_a_known_head_with_another_key_is_refused(quiet: ServerProcess) -> None:
    key = AGENT_KEYS["pc-001"]
    with connected(quiet) as connection:
        connection.sendall(our_own("pc-001", key, b'{"metrics":{"cpu_percent":5}}'))
        assert answer(connection)[0] == 200
        connection.sendall(our_own("pc-001", "x" * len(key), b'{"metrics":{"cpu_percent":6}}'))

        assert answer(connection)[0] == 401
    assert cpu_of(quiet, "pc-001") == 5


def test_a_revoked_key_opens_nothing_on_a_connection_that_knew_it(quiet: ServerProcess) -> None:
    token = quiet.post("/api/enrolment-tokens", {"agent_id": "pc-known"}).json["token"]
    key_hash = hashlib.sha256(b"the-key").hexdigest()
    assert quiet.post("/agent/enrol", {"token": token, "agent_id": "pc-known", "key_hash": key_hash}).status == 200
    with connected(quiet) as connection:
        for _ in range(2):
            connection.sendall(our_own("pc-known", "the-key", b'{"metrics":{}}'))
            assert was_express(connection)
        assert quiet.post("/api/r3/agent/pc-known/revoke-key", {"reason": "stolen"}).status == 200
        connection.sendall(our_own("pc-known", "the-key", b'{"metrics":{}}'))

        assert answer(connection)[0] == 401


@pytest.mark.parametrize("pieces", [1, 2])
def test_heartbeats_of_our_own_agent_may_come_together_or_in_pieces(quiet: ServerProcess, pieces: int) -> None:
    key = AGENT_KEYS["pc-001"]
    known, *more = [our_own("pc-001", key, b'{"metrics":{"cpu_percent":%d}}' % cpu) for cpu in (7, 8, 9)]
    with connected(quiet) as connection:
        connection.sendall(known)
        assert answer(connection)[0] == 200
        together = b"".join(more)
        for start in range(0, len(together), len(together) // pieces):
            connection.sendall(together[start : start + len(together) // pieces])
        assert [answer(connection)[0] for _ in more] == [200, 200]
    assert cpu_of(quiet, "pc-001") == 9


@pytest.mark.parametrize("length", ["+17", "017", "17 ", "0x11", "17, 17", "", "x"])
def test_an_odd_length_means_the_same_behind_a_known_head(quiet: ServerProcess, length: str) -> None:
    key, body = AGENT_KEYS["pc-001"], b'{"metrics":{   }}'
    odd = our_own("pc-001", key, body, length=length)
    with connected(quiet) as known, connected(quiet) as fresh:
        known.sendall(our_own("pc-001", key, body))
        assert answer(known)[0] == 200
        known.sendall(odd)
        fresh.sendall(odd)

        assert known.recv(100).split()[1] == fresh.recv(100).split()[1]


def test_requests_sent_without_waiting_are_answered_in_their_order(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(HEARTBEAT)
        connection.sendall(plain("GET /agent/pull?wait=1&journal=j1"))

        assert "server_time" in answer(connection)[1]
        assert answer(connection)[1] == {"commands": [], "cancels": []}


def test_a_request_in_two_pieces_is_answered_alike(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(HEARTBEAT[:90])
        connection.sendall(HEARTBEAT[90:])

        assert answer(connection)[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (plain("POST /agent/heartbeat", key="wrong", body=b"{}"), 401, "unauthorized"),
        (plain("POST /agent/heartbeat", body=b"{"), 400, "bad_request"),
        (plain("POST /agent/heartbeat", body=b'{"metrics":{"cpu_percent":-1}}'), 400, "bad_request"),
        (plain("POST /agent/logs", key="wrong", body=b'{"logs":[]}'), 401, "unauthorized"),
        (plain("POST /agent/logs", body=b'{"logs":3}'), 400, "bad_request"),
        (plain("POST /agent/logs", body=b'{"logs":[],"stream":"app"}'), 400, "bad_request"),
        (plain("GET /agent/pull?wait=5", key="wrong"), 401, "unauthorized"),
        (plain("GET /agent/pull?wait=5&journal=a%20b"), 400, "bad_request"),
    ],
)
def test_errors_are_those_of_the_ordinary_way(
    quiet: ServerProcess, request_bytes: bytes, status: int, code: str
) -> None:
    with connected(quiet) as connection:
        connection.sendall(request_bytes)
        got, body = answer(connection)

    assert (got, body["error"]) == (status, code)


def test_a_held_pull_is_woken_by_a_command_and_the_next_heartbeat_says_so(quiet: ServerProcess) -> None:
    with connected(quiet) as pulling, connected(quiet) as beating:
        pulling.sendall(plain("GET /agent/pull?wait=25&journal=j1"))
        beating.sendall(HEARTBEAT)
        assert "commands_waiting" not in answer(beating)[1]
        command_id = asked(quiet, "SET_MODE", {"mode": "SAFE"})

        orders = answer(pulling)[1]["commands"]
        beating.sendall(HEARTBEAT)

        assert [order["id"] for order in orders] == [command_id]  # type: ignore[attr-defined]
        assert answer(beating)[1]["commands_waiting"] is True


def test_a_pull_is_held_on_while_a_command_waits_for_its_approval(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(plain("GET /agent/pull?wait=25&journal=j1"))
        command_id = asked(quiet, "ROLLBACK", {})
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(ANSWER_S)
        quiet.post(f"/api/agent-commands/{command_id}/approve", {})

        orders = answer(connection)[1]["commands"]

    assert [order["id"] for order in orders] == [command_id]  # type: ignore[attr-defined]
    quiet.say("/agent/report", {"command_id": command_id, "status": "completed"})


def test_two_pulls_of_one_pc_share_nothing_but_get_the_command_once(quiet: ServerProcess) -> None:
    with connected(quiet) as first, connected(quiet) as second:
        first.sendall(plain("GET /agent/pull?wait=3&journal=j1"))
        second.sendall(plain("GET /agent/pull?wait=3&journal=j1"))
        command_id = asked(quiet, "SET_MODE", {"mode": "NORMAL"})

        answers = [answer(first)[1]["commands"], answer(second)[1]["commands"]]

    assert [order["id"] for orders in answers for order in orders] == [command_id]  # type: ignore[attr-defined]


def test_a_pull_whose_pc_hung_up_takes_no_command_with_it(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(plain("GET /agent/pull?wait=25&journal=j1"))
        quiet.get("/health")
    quiet.get("/health")
    command_id = asked(quiet, "SET_MODE", {"mode": "NORMAL"})

    assert [order["id"] for order in quiet.pull().json["commands"]] == [command_id]


def test_log_lines_are_stored_when_they_are_answered_and_counted_once(quiet: ServerProcess) -> None:
    line = {"level": "WARN", "msg": "slow disk"}
    batch = {"logs": [line, line], "stream": "app", "epoch": "e1", "first_seq": 1}
    request = plain("POST /agent/logs", body=json.dumps(batch).encode())
    before = len(quiet.get("/api/r3/agent/pc-001/logs").json["logs"])

    with connected(quiet) as connection:
        answers = []
        for _ in range(2):
            connection.sendall(request)
            status, names, body = whole_answer(connection)
            answers.append((status, b"date" in names, body))

    once = {"status": "ok", "count": 2, "incidents_created": 0, "acked_seq": 2}
    assert answers == [(200, False, once)] * 2
    assert len(quiet.get("/api/r3/agent/pc-001/logs").json["logs"]) == before + 2


def test_log_lines_in_a_crowd_open_one_incident_for_each_code(quiet: ServerProcess) -> None:
    coded = {"level": "CRITICAL", "msg": "no space", "code": "EXPRESS_DISK"}
    request = plain("POST /agent/logs", body=json.dumps({"logs": [coded]}).encode())
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(quiet)) for _ in range(4)]
        for connection in connections:
            connection.sendall(request)
        opened = [answer(connection)[1]["incidents_created"] for connection in connections]

    assert sorted(opened, key=str) == [0, 0, 0, 1]


def test_an_odd_request_leaves_the_connection_as_quick_as_it_was(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        for _ in range(3):
            connection.sendall(HEARTBEAT)
            assert was_express(connection)
            connection.sendall(LOGS)
            assert was_express(connection)
            connection.sendall(ODD_LOGS)
            assert not was_express(connection)
        connection.sendall(plain("GET /agent/pull?wait=1"))
        assert was_express(connection)


def test_what_comes_with_or_within_an_odd_request_is_answered_in_its_order(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(ODD_LOGS + LOGS + HEARTBEAT)
        assert [was_express(connection) for _ in range(3)] == [False, False, False]
        connection.sendall(ODD_LOGS + HEARTBEAT[:40])
        assert not was_express(connection)
        connection.sendall(HEARTBEAT[40:])
        assert not was_express(connection)
        connection.sendall(HEARTBEAT)
        assert was_express(connection)


def test_a_page_keeps_the_ordinary_way(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: reco3\r\n\r\n")
            assert not was_express(connection)


def test_a_client_that_asks_for_it_is_closed_after_its_answer(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        connection.sendall(plain("POST /agent/heartbeat", body=b'{"metrics":{}}', more="connection: close\r\n"))

        assert answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_a_connection_that_says_nothing_is_closed(quiet: ServerProcess) -> None:
    with connected(quiet) as connection:
        assert connection.recv(1) == b""


def test_a_server_that_stops_answers_the_pulls_it_holds(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = ServerProcess(tmp_path_factory.mktemp("stopping"), RECO3_TEST_MODE="1").start()
    with connected(server) as connection:
        connection.sendall(plain("GET /agent/pull?wait=25"))
        server.get("/health")
        server.stop()

        assert answer(connection) == (200, {"commands": []})
