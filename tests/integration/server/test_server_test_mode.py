"""Test mode's implicit administrator: only for this machine, under a loopback name, through no proxy."""

import pytest

from servers import ServerProcess

SERVER_ENVIRONMENT = {"RECO3_TEST_MODE": "1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:5001", "localhost:9", "[::1]:80", "[::1]"])
def test_a_loopback_name_acts_as_the_administrator(server: ServerProcess, host: str) -> None:
    assert server.get("/api/session", Host=host).json["how"] == "test-mode"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5001",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example#localhost",
        "127.0.0.1:80:80",
        "0.0.0.0",  # noqa: S104 - a name that a caller claims, nothing is bound
        "[::ffff:127.0.0.1]",
        "",
        "localhost.",
        "192.168.1.5",
    ],
)
def test_another_name_does_not_however_it_resolves(server: ServerProcess, host: str) -> None:
    assert server.get("/api/session", Host=host).status in (400, 401)


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via", "CF-Connecting-IP"],
)
def test_nobody_who_came_through_a_proxy_is_the_administrator(server: ServerProcess, header: str) -> None:
    assert server.get("/api/session", **{header: "127.0.0.1"}).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
    ],
)
def test_another_sites_page_is_refused_before_anything_happens(server: ServerProcess, headers: dict[str, str]) -> None:
    body = {"agent_id": "pc-001", "type": "SET_MODE", "payload": {"mode": "SAFE"}}
    server.say("/agent/heartbeat", {"metrics": {}})

    answers = [
        server.post("/api/agent-commands", body, **headers),
        server.get("/api/r3/agents", **headers),
        server.get("/api/live", **headers),
        server.post("/api/session", {"api_key": "x"}, **headers),
    ]

    assert [(answer.status, answer.json["error"]) for answer in answers] == [(403, "cross_site")] * 4
    assert server.get("/api/agent-commands").json["count"] == 0


def test_the_pages_own_requests_are_let_through(server: ServerProcess) -> None:
    own = {"Origin": server.base_url, "Sec-Fetch-Site": "same-origin"}

    assert server.get("/api/r3/agents", **own).status == 200
    assert server.post("/api/incidents/none/close", {}, **own).status == 404


def test_an_address_typed_by_a_person_is_let_through(server: ServerProcess) -> None:
    assert server.get("/api/r3/agents", **{"Sec-Fetch-Site": "none"}).status == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 404),
        ("application/json; charset=utf-8", 404),
        ("APPLICATION/JSON", 404),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
def test_a_form_of_another_site_cannot_speak_for_the_administrator(
    server: ServerProcess, content_type: str, status: int
) -> None:
    raw = b'{"agent_id": "pc-404", "type": "SET_MODE", "payload": {"mode": "SAFE"}}'

    answer = server.request("POST", "/api/agent-commands", raw=raw, headers={"Content-Type": content_type})

    assert answer.status == status
    assert answer.json["error"] in ("agent_not_found", "unsupported_media_type")


def test_wrong_credentials_are_refused_although_none_would_do(server: ServerProcess) -> None:
    assert server.get("/api/session", **{"X-API-Key": "wrong"}).status == 401
    assert server.get("/api/session", **{"X-AGENT-ID": "pc-001", "X-API-Key": "devkey"}).status == 401
