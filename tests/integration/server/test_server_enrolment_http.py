"""Enrolment, rotation, revocation and clones over real connections, on the express lane too."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import AGENT_KEYS, Answer, ServerProcess, agent_headers, held_pull, read_answer

OPERATOR = {"X-API-Key": "the-operators-key"}
KEY, NEXT_KEY = "a-key-of-the-pc", "the-next-key"
REFUSED = {"error": "unauthorized", "message": "Valid credentials are required."}
NGINX = {"name": "nginx", "running": True, "pid": 77, "create_time_ms": 1_795_438_000_000}
HEARTBEAT = {"platform": "linux", "version": "1", "metrics": {"mode": "NORMAL", "processes": [NGINX]}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of each test's own, because wrong tokens are counted."""
    process = ServerProcess(tmp_path / "server", API_KEY=OPERATOR["X-API-Key"]).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for requests that change nothing."""
    process = ServerProcess(tmp_path_factory.mktemp("shared"), API_KEY=OPERATOR["X-API-Key"]).start()
    yield process
    process.stop()


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def token_for(server: ServerProcess, **wanted: Any) -> str:
    answer = server.post("/api/enrolment-tokens", wanted, **OPERATOR)
    assert answer.status == 200, answer
    token: str = answer.json["token"]
    return token


def enrol(server: ServerProcess, token: str, agent_id: str | None = "pc-9", *, key: str = KEY) -> Answer:
    body = {"token": token, "agent_id": agent_id, "key_hash": hash_of(key), "platform": "linux"}
    return server.post("/agent/enrol", body)


def heartbeat(server: ServerProcess, agent_id: str, key: str) -> int:
    return server.request("POST", "/agent/heartbeat", body=HEARTBEAT, headers=agent_headers(agent_id, key)).status


def test_a_key_works_at_once_after_enrolment_on_both_ways(server: ServerProcess) -> None:
    answer = enrol(server, token_for(server))

    assert (answer.status, answer.json["agent_id"]) == (200, "pc-9")
    with contextlib.closing(server.connection()) as connection:  # One connection stays on the express lane.
        for _ in range(2):
            body = json.dumps(HEARTBEAT)
            connection.request("POST", "/agent/heartbeat", body=body, headers=agent_headers("pc-9", KEY))
            assert read_answer(connection).status == 200
    known = server.request("GET", "/agent/key", headers=agent_headers("pc-9", KEY))
    assert known.json == {"agent_id": "pc-9", "rotating": False}
    agents = server.get("/api/r3/agents", **OPERATOR).json["agents"]
    assert [(agent["agent_id"], agent["status"]) for agent in agents] == [("pc-9", "ONLINE")]
    assert server.get("/api/r3/agent/pc-9/key", **OPERATOR).json["key"] | {"created_at": None} == {
        "source": "enrolled",
        "created_at": None,
        "rotating": False,
        "revoked": False,
        "revoked_at": None,
        "clone_suspected": False,
        "clone_suspected_at": None,
    }


def test_of_fifty_parallel_uses_exactly_one_succeeds(server: ServerProcess) -> None:
    token = token_for(server)
    answers: list[Answer] = []
    start = threading.Barrier(50)

    def use(number: int) -> None:
        start.wait()
        answers.append(enrol(server, token, f"pc-{number:03d}"))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.status for answer in answers} <= {200, 401, 429}
    good = [name for name in range(100, 150) if heartbeat(server, f"pc-{name}", KEY) == 200]
    assert len(good) == 1


def test_unknown_spent_and_foreign_tokens_are_refused_alike_byte_for_byte(server: ServerProcess) -> None:
    spent, bound = token_for(server), token_for(server, agent_id="pc-7")
    assert enrol(server, spent).status == 200

    answers = [enrol(server, token, "pc-8") for token in ("x" * 43, spent, bound, "\u00fc")]

    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    assert answers[0].json == REFUSED
    assert heartbeat(server, "pc-8", KEY) == 401
    events = server.get("/api/audit?event_type=auth_failed", **OPERATOR).json["events"]
    assert ("pc-8", "enrolment token") in [(event["payload"]["claim"], event["payload"]["reason"]) for event in events]


def test_guessing_tokens_is_slowed_down(server: ServerProcess) -> None:
    statuses = [enrol(server, f"guess-{number}").status for number in range(12)]

    assert statuses == [401] * 10 + [429] * 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "token"),
        ({"token": "t"}, "key_hash"),
        ({"token": 1, "key_hash": "a" * 64}, "token"),
        ({"token": "t", "key_hash": "a" * 64, "agent_id": "a/b"}, "agent_id"),
        ({"token": "t", "key_hash": "not-a-hash"}, "key_hash"),
        ({"token": "t" * 300, "key_hash": "a" * 64}, "token"),
    ],
)
def test_a_request_that_is_none_is_refused_by_field(
    shared_server: ServerProcess, body: dict[str, Any], field: str
) -> None:
    answer = shared_server.post("/agent/enrol", body)

    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert field in answer.json["message"]


def test_another_sites_page_enrols_nobody(server: ServerProcess) -> None:
    body = {"token": token_for(server), "agent_id": "pc-9", "key_hash": hash_of(KEY)}

    assert server.post("/agent/enrol", body, Origin="http://evil.example").status == 403
    assert server.request("POST", "/agent/enrol", raw=json.dumps(body).encode()).status == 415
    assert server.post("/agent/enrol", body | {"platform": "x" * 20_000}).status == 413
    assert server.post("/agent/enrol", body).status == 200


def test_tokens_are_made_listed_and_taken_back_by_an_administrator(server: ServerProcess) -> None:
    token = token_for(server, agent_id="pc-7", may_replace=True)
    listed = server.get("/api/enrolment-tokens", **OPERATOR)
    one = listed.json["tokens"][0]
    shown = (one["agent_id"], one["may_replace"], one["status"], one["created_by"])
    assert shown == ("pc-7", True, "open", "admin")
    assert token.encode() not in listed.body

    path = f"/api/enrolment-tokens/{one['id']}"
    assert server.request("DELETE", path, headers=OPERATOR).json == {"status": "revoked"}

    assert enrol(server, token, "pc-7").status == 401
    assert server.request("DELETE", path, headers=OPERATOR).json["error"] == "enrolment_token_not_found"
    refused = server.post("/api/enrolment-tokens", {"may_replace": True}, **OPERATOR)
    assert (refused.status, refused.json["error"]) == (400, "bad_request")


def test_neither_token_nor_key_is_found_in_what_the_server_keeps(server: ServerProcess) -> None:
    token = token_for(server)
    assert enrol(server, token).status == 200
    server.request("POST", "/agent/key", body={"next_key_hash": hash_of(NEXT_KEY)}, headers=agent_headers("pc-9", KEY))
    assert heartbeat(server, "pc-9", NEXT_KEY) == 200

    files = [path for path in server.db_path.parent.iterdir() if path.name.startswith("reco3.db")]
    kept = b"".join(path.read_bytes() for path in files) + server.log_text().encode()

    assert hash_of(NEXT_KEY).encode() in kept
    assert not [secret for secret in (token, KEY, NEXT_KEY) if secret.encode() in kept]


def test_a_rotation_ends_the_old_key_with_the_first_use_of_the_new(server: ServerProcess) -> None:
    enrol(server, token_for(server))
    announced = server.request(
        "POST", "/agent/key", body={"next_key_hash": hash_of(NEXT_KEY)}, headers=agent_headers("pc-9", KEY)
    )
    assert announced.json == {"status": "ok"}
    assert heartbeat(server, "pc-9", KEY) == 200
    assert server.get("/api/r3/agent/pc-9/key", **OPERATOR).json["key"]["rotating"] is True

    assert heartbeat(server, "pc-9", NEXT_KEY) == 200

    assert heartbeat(server, "pc-9", KEY) == 401
    server.kill()
    server.start()
    assert [heartbeat(server, "pc-9", key) for key in (KEY, NEXT_KEY)] == [401, 200]


def test_a_revocation_ends_the_key_everywhere_at_once_and_stays_after_a_restart(server: ServerProcess) -> None:
    with (
        held_pull(server, "pc-001", AGENT_KEYS["pc-001"]) as express,
        held_pull(server, "pc-001", AGENT_KEYS["pc-001"], path="/agent/pull?journal=j&wait=20") as ordinary,
    ):
        begun = time.monotonic()
        revoked = server.post("/api/r3/agent/pc-001/revoke-key", {"reason": "stolen"}, **OPERATOR)
        answers = [read_answer(express), read_answer(ordinary)]

    assert revoked.json == {"status": "revoked"}
    assert time.monotonic() - begun < 5
    assert {answer.status for answer in answers} <= {401, 503}
    assert not [answer for answer in answers if "commands" in answer.json]
    assert heartbeat(server, "pc-001", AGENT_KEYS["pc-001"]) == 401
    again = server.post("/api/r3/agent/pc-001/revoke-key", {"reason": "stolen"}, **OPERATOR)
    assert (again.status, again.json["error"]) == (409, "already_revoked")
    server.stop()
    server.start()
    assert heartbeat(server, "pc-001", AGENT_KEYS["pc-001"]) == 401
    assert "settings_key_opens_nothing agent_id=pc-001 why=revoked" in server.log_text()
    assert heartbeat(server, "pc-002", AGENT_KEYS["pc-002"]) == 200


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": 1}])
@pytest.mark.parametrize("order", ["revoke-key", "clear-clone"])
def test_an_order_about_a_key_needs_a_reason(shared_server: ServerProcess, order: str, body: dict[str, Any]) -> None:
    answer = shared_server.post(f"/api/r3/agent/pc-001/{order}", body, **OPERATOR)

    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert heartbeat(shared_server, "pc-001", AGENT_KEYS["pc-001"]) == 200


def test_two_clients_with_one_key_are_noticed_and_get_nothing_strong(server: ServerProcess) -> None:
    assert heartbeat(server, "pc-001", AGENT_KEYS["pc-001"]) == 200
    wanted = {"agent_id": "pc-001", "type": "RESTART_PROCESS", "payload": {"process": "nginx"}}
    for journal in ("one", "two", "one"):
        assert server.pull(f"?wait=1&journal={journal}").json["commands"] == []
    command_id = server.post("/api/agent-commands", wanted, **OPERATOR).json["id"]
    server.post(f"/api/agent-commands/{command_id}/approve", {}, **OPERATOR)

    pulls = [server.pull(f"?wait=1&journal={journal}").json["commands"] for journal in ("one", "two", "one")]

    assert pulls == [[], [], []]
    assert server.get("/api/r3/agent/pc-001/key", **OPERATOR).json["key"]["clone_suspected"] is True
    incidents = server.get("/api/incidents", **OPERATOR).json["incidents"]
    assert [(one["code"], one["severity"]) for one in incidents] == [("CLONE_SUSPECTED", "CRITICAL")]
    with held_pull(server, "pc-001", AGENT_KEYS["pc-001"], path="/agent/pull?wait=20&journal=one") as held:
        cleared = server.post("/api/r3/agent/pc-001/clear-clone", {"reason": "the copy is gone"}, **OPERATOR)
        assert cleared.json == {"status": "cleared"}
        assert [order["id"] for order in read_answer(held).json["commands"]] == [command_id]
