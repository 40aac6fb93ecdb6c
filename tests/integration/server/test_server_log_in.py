"""Log-in, sessions, the one-time set-up: what a browser may do, and what nobody else may."""

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie

import pytest

from servers import Answer, ServerProcess

KEY = "the-operators-key"
SERVER_ENVIRONMENT = {"API_KEY": KEY}


@pytest.fixture
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has nobody yet."""
    process = ServerProcess(tmp_path_factory.mktemp("locked")).start()
    yield process
    process.stop()


def logged_in(server: ServerProcess) -> dict[str, str]:
    """The headers that a logged-in browser sends from the page."""
    answer = server.post("/api/session", {"api_key": KEY})
    assert answer.status == 200, answer.body
    return {"Cookie": cookie_of(answer), "Sec-Fetch-Site": "same-origin"}


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def set_up_token(server: ServerProcess) -> str:
    found = re.search(r"/r3#setup=([\w-]+)", server.log_text())
    assert found is not None, server.log_text()
    return found[1]


def test_the_key_opens_a_session_whose_cookie_no_script_and_no_other_site_gets(server: ServerProcess) -> None:
    answer = server.post("/api/session", {"api_key": KEY})

    morsel = SimpleCookie(answer.headers["set-cookie"])["reco3_session"]
    assert answer.json == {"name": "admin", "role": "admin", "how": "session"}
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "strict", "/")
    assert int(morsel["max-age"]) == 12 * 3600
    assert len(morsel.value) >= 43
    assert KEY not in answer.headers["set-cookie"]


def test_behind_tls_the_cookie_is_sent_over_tls_alone(server: ServerProcess) -> None:
    plain = server.post("/api/session", {"api_key": KEY})
    behind_tls = server.post("/api/session", {"api_key": KEY}, **{"X-Forwarded-Proto": "https"})

    assert "secure" not in plain.headers["set-cookie"].lower()
    assert "; secure" in behind_tls.headers["set-cookie"].lower()


def test_a_session_reads_and_changes_from_its_own_page(server: ServerProcess) -> None:
    browser = logged_in(server)

    assert server.get("/api/session", **browser).json["how"] == "session"
    assert server.post("/api/incidents/none/close", {}, **browser).status == 404
    assert server.post("/api/incidents/none/close", {}, Cookie=browser["Cookie"], Origin=server.base_url).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_cookie_alone_or_from_another_site_changes_nothing(server: ServerProcess, headers: dict[str, str]) -> None:
    cookie = logged_in(server)["Cookie"]

    answer = server.post("/api/incidents/none/close", {}, Cookie=cookie, **headers)

    assert (answer.status, answer.json["error"]) == (403, "cross_site")


def test_log_out_ends_the_session_on_the_server(server: ServerProcess) -> None:
    browser = logged_in(server)

    answer = server.request("DELETE", "/api/session", headers=browser)

    assert answer.json == {"status": "ok"}
    assert 'reco3_session=""' in answer.headers["set-cookie"]
    assert server.get("/api/session", **browser).status == 401


def test_a_cookie_that_was_changed_is_nobody(server: ServerProcess) -> None:
    browser = logged_in(server)

    assert server.get("/api/session", Cookie=browser["Cookie"] + "x").status == 401
    assert server.get("/api/session", Cookie=browser["Cookie"].upper()).status == 401


def test_a_recorded_approver_is_who_is_logged_in_whatever_he_claims(server: ServerProcess) -> None:
    server.say("/agent/heartbeat", {"metrics": {}})
    wish = {"agent_id": "pc-001", "type": "ROLLBACK", "payload": {}}
    by_key = {"X-API-Key": KEY}
    command_id = server.post("/api/agent-commands", wish, **by_key).json["id"]

    server.post(f"/api/agent-commands/{command_id}/approve", {"approved_by": "somebody-else"}, **by_key)

    command = server.get("/api/agent-commands", **by_key).json["commands"][0]
    assert command["approval"]["approved_by"] == "admin"


def test_guessing_is_answered_429_with_the_time_to_wait(server: ServerProcess) -> None:
    answers = [server.post("/api/session", {"api_key": f"guess-{n}"}) for n in range(12)]

    assert [answer.status for answer in answers[:10]] == [401] * 10
    assert (answers[-1].status, answers[-1].json["error"]) == (429, "too_many_requests")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    assert server.post("/api/session", {"api_key": KEY}).status == 429
    assert server.get("/api/session", **{"X-API-Key": KEY}).status == 429


def test_the_set_up_link_works_once(locked: ServerProcess) -> None:
    token = set_up_token(locked)
    assert locked.get("/api/config/test-mode").json["locked"] is True

    first = locked.post("/api/setup", {"token": token})
    again = locked.post("/api/setup", {"token": token})

    assert set(first.json) == {"name", "api_key"}
    assert (again.status, again.json["error"]) == (403, "setup_refused")
    assert locked.get("/api/config/test-mode").json["locked"] is False
    by_key = {"X-API-Key": first.json["api_key"]}
    assert locked.get("/api/session", **by_key).json == {"name": "admin", "role": "admin", "how": "api-key"}
    assert locked.get("/api/session", Cookie=cookie_of(first)).json["how"] == "session"
    assert first.json["api_key"] not in locked.log_text()


def test_the_set_up_link_works_from_this_machine_alone_and_with_its_token_alone(locked: ServerProcess) -> None:
    token = set_up_token(locked)
    refusals = [
        locked.post("/api/setup", {"token": token}, Host="evil.example"),
        locked.post("/api/setup", {"token": token}, **{"X-Forwarded-For": "10.0.0.1"}),
        locked.post("/api/setup", {"token": token}, Origin="https://evil.example"),
        locked.post("/api/setup", {"token": token[:-1]}),
        locked.post("/api/setup", {"token": ""}),
    ]

    assert [answer.status for answer in refusals] == [403] * 5
    assert locked.post("/api/setup", {"token": token}).status == 200


def test_a_locked_server_serves_agents_but_no_operator(locked: ServerProcess) -> None:
    assert locked.say("/agent/heartbeat", {"metrics": {}}).status == 200
    assert locked.get("/api/r3/agents").status == 401
    assert locked.post("/api/session", {"api_key": ""}).status == 401


def test_after_a_restart_the_key_of_the_set_up_still_opens_and_the_set_up_is_over(locked: ServerProcess) -> None:
    key = locked.post("/api/setup", {"token": set_up_token(locked)}).json["api_key"]
    cookie = cookie_of(locked.post("/api/session", {"api_key": key}))
    locked.stop()

    locked.start()

    assert locked.get("/api/session", **{"X-API-Key": key}).status == 200
    assert locked.get("/api/session", Cookie=cookie).status == 200
    assert locked.log_text().count("#setup=") == 1


def test_a_key_in_a_url_opens_nothing(server: ServerProcess) -> None:
    for query in (f"?api_key={KEY}", f"?X-API-Key={KEY}", f"?token={KEY}", f"?access_token={KEY}"):
        assert server.get(f"/api/r3/agents{query}").status == 401
