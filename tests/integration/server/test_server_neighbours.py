"""Two server processes on one PostgreSQL: what one writes, the other goes by."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL

from postgresql import Postgres
from servers import AGENT_KEYS, ServerProcess, agent_headers, held_pull, read_answer

OPERATOR = {"X-API-Key": "the-operators-key"}
HEARTBEAT = {"platform": "linux", "version": "1", "metrics": {"mode": "NORMAL"}}
# Well below the five seconds after which a sweep would have found it without any word.
SOON_S = 4.0
DEADLINE_S = 20.0


@dataclass
class Pair:
    """Two servers, and the address of their database."""

    one: ServerProcess
    other: ServerProcess
    database: URL

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database.render_as_string(hide_password=False), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    database = postgres.new_database().set(drivername="postgresql")
    settings = {
        "RECO3_DATABASE_URL": database.render_as_string(hide_password=False),
        "API_KEY": OPERATOR["X-API-Key"],
        "SECRET_KEY": "one-secret-for-both-processes-of-the-pair",
    }
    servers = [ServerProcess(tmp_path_factory.mktemp(name), **settings).start() for name in ("one", "other")]
    yield Pair(*servers, database)
    for server in servers:
        server.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def enrol(server: ServerProcess, agent_id: str, key: str, *, may_replace: bool = False) -> None:
    wanted = {"agent_id": agent_id, "may_replace": may_replace}
    token = server.post("/api/enrolment-tokens", wanted, **OPERATOR).json["token"]
    body = {"token": token, "agent_id": agent_id, "key_hash": hashlib.sha256(key.encode()).hexdigest()}
    answer = server.post("/agent/enrol", body)
    assert answer.status == 200, answer


def heartbeat(server: ServerProcess, agent_id: str, key: str) -> int:
    return server.request("POST", "/agent/heartbeat", body=HEARTBEAT, headers=agent_headers(agent_id, key)).status


def test_a_command_reaches_the_pull_that_is_held_at_the_other_process(pair: Pair) -> None:
    assert pair.one.say("/agent/heartbeat", HEARTBEAT).status == 200
    with held_pull(pair.other, "pc-001", AGENT_KEYS["pc-001"]) as connection:
        began = time.monotonic()
        body = {"agent_id": "pc-001", "type": "SET_MODE", "payload": {"mode": "SAFE"}}
        asked = pair.one.post("/api/agent-commands", body, **OPERATOR)
        answer = read_answer(connection)
        took_s = time.monotonic() - began

    assert [order["id"] for order in answer.json["commands"]] == [asked.json["id"]]
    assert took_s < SOON_S


def test_a_strong_command_approved_at_one_process_reaches_the_pull_held_at_the_other_once(pair: Pair) -> None:
    enrol(pair.one, "pc-11", "key-of-pc-11")
    wait_until(lambda: heartbeat(pair.other, "pc-11", "key-of-pc-11") == 200)
    wanted = {"agent_id": "pc-11", "type": "RESTART_PROCESS", "payload": {"process": "web"}}
    asked = pair.one.post("/api/agent-commands", wanted, **OPERATOR).json["id"]
    with held_pull(pair.other, "pc-11", "key-of-pc-11") as connection:
        began = time.monotonic()
        approved = pair.one.post(f"/api/agent-commands/{asked}/approve", {}, **OPERATOR)
        answer = read_answer(connection)
        took_s = time.monotonic() - began

    again = pair.one.request(
        "GET", "/agent/pull?wait=1&journal=another", headers=agent_headers("pc-11", "key-of-pc-11")
    )
    assert approved.status == 200
    assert [order["id"] for order in answer.json["commands"]] == [asked]
    assert took_s < SOON_S
    # Delivered by one process, it is not delivered by the other, whatever journal asks.
    assert again.json["commands"] == []


def test_a_pc_that_enrolled_at_one_process_is_known_to_the_other_until_its_key_is_revoked(pair: Pair) -> None:
    enrol(pair.one, "pc-7", "key-of-pc-7")
    wait_until(lambda: heartbeat(pair.other, "pc-7", "key-of-pc-7") == 200)

    revoked = pair.one.post("/api/r3/agent/pc-7/revoke-key", {"reason": "stolen"}, **OPERATOR)

    assert revoked.status == 200
    wait_until(lambda: heartbeat(pair.other, "pc-7", "key-of-pc-7") == 401)


def test_a_pull_held_with_a_key_that_is_revoked_elsewhere_is_refused(pair: Pair) -> None:
    enrol(pair.one, "pc-8", "key-of-pc-8")
    wait_until(lambda: heartbeat(pair.other, "pc-8", "key-of-pc-8") == 200)
    with held_pull(pair.other, "pc-8", "key-of-pc-8") as connection:
        pair.one.post("/api/r3/agent/pc-8/revoke-key", {"reason": "stolen"}, **OPERATOR)

        # What a revoked key hears on the express lane is that it should come again, and then it is refused.
        assert read_answer(connection).status in (401, 503)
    assert heartbeat(pair.other, "pc-8", "key-of-pc-8") == 401


def test_a_key_in_anothers_place_ends_that_one_at_the_other_process_too(pair: Pair) -> None:
    enrol(pair.one, "pc-9", "first-key")
    wait_until(lambda: heartbeat(pair.other, "pc-9", "first-key") == 200)
    with held_pull(pair.other, "pc-9", "first-key") as connection:
        enrol(pair.one, "pc-9", "second-key", may_replace=True)

        assert read_answer(connection).status in (401, 503)
    wait_until(lambda: heartbeat(pair.other, "pc-9", "second-key") == 200)
    assert heartbeat(pair.other, "pc-9", "first-key") == 401


def test_a_page_at_the_other_process_hears_of_a_heartbeat(pair: Pair) -> None:
    with contextlib.closing(pair.other.connection()) as connection:
        connection.request("GET", "/api/live", headers=OPERATOR)
        stream = connection.getresponse()
        assert stream.readline() == b"event: hello\n"
        pair.one.say("/agent/heartbeat", HEARTBEAT, agent_id="pc-002")

        said: dict[str, list[str]] = {}
        while "pc-002" not in said.get("agent_ids", []):
            line = stream.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: ") and b"topics" in line:
                said = json.loads(line.removeprefix(b"data: "))

    assert "agents" in said["topics"]


def test_whoever_is_disabled_at_one_process_is_shown_the_door_at_the_other(pair: Pair) -> None:
    link = pair.one.post("/api/operators", {"name": "bob", "role": "viewer"}, **OPERATOR).json["link"]
    accepted = pair.one.post("/api/invitations/accept", {"token": link.rpartition("=")[2], "password": "correct horse"})
    cookie = {"Cookie": accepted.headers["set-cookie"].partition(";")[0]}
    with contextlib.closing(pair.other.connection()) as connection:
        connection.request("GET", "/api/live", headers=cookie)
        stream = connection.getresponse()
        assert stream.status == 200

        pair.one.request("PATCH", "/api/operators/bob", body={"role": "viewer", "disabled": True}, headers=OPERATOR)

        deadline = time.monotonic() + DEADLINE_S
        while stream.readline():
            assert time.monotonic() < deadline, "the stream stayed open"
    assert pair.other.get("/api/session", **cookie).status == 401


def test_one_of_two_processes_leads_and_the_other_takes_over_when_it_is_killed(
    postgres: Postgres, tmp_path: Path
) -> None:
    database = postgres.new_database().set(drivername="postgresql")
    settings = {"RECO3_DATABASE_URL": database.render_as_string(hide_password=False), "API_KEY": OPERATOR["X-API-Key"]}
    servers = [ServerProcess(tmp_path / name, **settings).start() for name in ("first", "second")]
    pair = Pair(servers[0], servers[1], database)
    leads = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
    leads += "(SELECT oid FROM pg_database WHERE datname = current_database())"
    try:
        wait_until(lambda: pair.sql(leads) == [(1,)])
        assert pair.one.say("/agent/heartbeat", HEARTBEAT).status == 200
        pair.one.kill()
        # Half a minute later it is announced, once, by the one that is left.
        pair.sql("UPDATE agent_status SET last_seen = now() - interval '1 minute'")

        silent = "SELECT count(*) FROM audit_log WHERE event_type = 'agent_offline'"
        wait_until(lambda: pair.sql(silent) == [(1,)])
        assert pair.sql(leads) == [(1,)]
    finally:
        pair.one.kill()
        pair.other.stop()


def test_what_was_said_while_the_line_was_down_is_caught_up_with(pair: Pair) -> None:
    enrol(pair.one, "pc-10", "key-of-pc-10")
    wait_until(lambda: heartbeat(pair.other, "pc-10", "key-of-pc-10") == 200)
    listening = "application_name = 'reco3-listener' AND datname = current_database()"

    pair.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {listening}")
    wait_until(lambda: "neighbours_not_heard" in pair.other.log_text())
    pair.one.post("/api/r3/agent/pc-10/revoke-key", {"reason": "stolen"}, **OPERATOR)

    wait_until(lambda: heartbeat(pair.other, "pc-10", "key-of-pc-10") == 401)
    wait_until(lambda: "neighbours_heard_again" in pair.other.log_text())
    assert "hunter2" not in pair.other.log_text()
