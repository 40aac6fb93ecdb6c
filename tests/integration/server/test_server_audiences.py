"""Who may call what: every route, with every kind of caller, against the real server outside test mode."""

import re

import pytest

from reco3.server.web.audiences import Kind
from route_table import Way, every_way
from servers import AGENT_KEYS, ServerProcess, agent_headers

KEY = "the-operators-key"
SERVER_ENVIRONMENT = {"API_KEY": KEY}

STRANGERS_GETS = {"/", "/r3", "/sw.js", "/manifest.webmanifest", "/favicon.ico", "/static/{name:path}", "/health"}
STRANGERS_ROUTES = {
    *(("GET", path) for path in STRANGERS_GETS),
    ("GET", "/api/config/test-mode"),
    ("POST", "/api/session"),
    ("POST", "/api/session/passkey/options"),
    ("POST", "/api/session/passkey"),
    ("POST", "/api/invitations/accept"),
    ("POST", "/api/setup"),
    ("POST", "/agent/enrol"),
}
REFUSED = {"error": "unauthorized", "message": "Valid credentials are required."}
OPERATOR = {"X-API-Key": KEY}
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> list[Way]:
    """Every way into the server, as the code declares them."""
    return every_way(tmp_path_factory.mktemp("ways"))


def test_the_routes_without_credentials_are_exactly_those_of_the_contract(ways: list[Way]) -> None:
    public = {(way.method, way.path) for way in ways if way.audience.kind is Kind.PUBLIC and way.method != "HEAD"}

    assert public == STRANGERS_ROUTES


def test_every_documented_route_is_among_those_that_are_tried(server: ServerProcess, ways: list[Way]) -> None:
    paths = server.get("/api/openapi.json", **OPERATOR).json["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert documented <= {(way.method, way.path) for way in ways}
    assert len(documented) > 15


def test_a_stranger_gets_nothing_but_the_public_routes(server: ServerProcess, ways: list[Way]) -> None:
    for way in ways:
        answer = server.request(way.method, way.url, body=way.body)

        if way.audience.kind is Kind.PUBLIC:
            assert answer.status != 401 or way.path == "/api/session", way
        elif way.method == "HEAD":
            assert answer.status == 401, way
        else:
            assert (answer.status, answer.json) == (401, REFUSED), way


def test_agents_credentials_open_no_operators_route(server: ServerProcess, ways: list[Way]) -> None:
    for way in ways:
        if way.audience.kind is Kind.OPERATOR:
            answer = server.request(way.method, way.url, body=way.body, headers=agent_headers())
            assert (answer.status, answer.json) == (401, REFUSED), way


def test_an_agents_key_opens_no_operators_route_without_its_name_either(server: ServerProcess, ways: list[Way]) -> None:
    keys = [{"X-API-Key": AGENT_KEYS["pc-001"]}, {"Authorization": f"Bearer {AGENT_KEYS['pc-001']}"}]
    for way in ways:
        if way.audience.kind is Kind.OPERATOR:
            statuses = {server.request(way.method, way.url, body=way.body, headers=one).status for one in keys}
            assert statuses == {401}, way


def test_an_agents_name_beside_an_operators_key_is_neither(server: ServerProcess) -> None:
    answer = server.get("/api/r3/agents", **OPERATOR, **{"X-AGENT-ID": "pc-001"})

    assert (answer.status, answer.json) == (401, REFUSED)


def test_operators_credentials_open_no_agents_route(server: ServerProcess, ways: list[Way]) -> None:
    cookie = server.post("/api/session", {"api_key": KEY}).headers["set-cookie"].partition(";")[0]
    browser = {"Cookie": cookie, "Origin": server.base_url}
    named = {"X-AGENT-ID": "admin", "X-API-Key": KEY}
    as_pc = {"X-AGENT-ID": "pc-001", "X-API-Key": KEY}
    for way in ways:
        if way.audience.kind is Kind.AGENT:
            for headers in (OPERATOR, BEARER, browser, named, as_pc):
                answer = server.request(way.method, way.url, headers=headers)
                assert answer.status == 401, way


def test_the_operators_key_opens_every_operators_route_in_both_headers(server: ServerProcess, ways: list[Way]) -> None:
    for way in ways:
        if way.audience.kind is Kind.OPERATOR and way.path != "/api/live":
            for headers in (OPERATOR, BEARER):
                answer = server.request(way.method, way.url, body=way.body, headers=headers)
                assert answer.status not in (401, 403, 500), way


def test_an_agents_key_opens_its_own_pc_only(server: ServerProcess) -> None:
    stolen = {"X-AGENT-ID": "pc-002", "X-API-Key": AGENT_KEYS["pc-001"]}
    server.request("POST", "/agent/heartbeat", body={"metrics": {"hostname": "stolen"}}, headers=stolen)

    agents = server.get("/api/r3/agents", **OPERATOR).json["agents"]

    assert "pc-002" not in [agent["agent_id"] for agent in agents]


@pytest.mark.parametrize("path", ["/agent/heartbeat", "/agent/logs", "/agent/report", "/agent/pull"])
def test_a_missing_header_an_unknown_pc_and_a_wrong_key_are_refused_alike(server: ServerProcess, path: str) -> None:
    method = "GET" if path == "/agent/pull" else "POST"
    callers: list[dict[str, str]] = [
        {},
        {"X-AGENT-ID": "pc-001"},
        {"X-API-Key": "devkey"},
        {"X-AGENT-ID": "pc-404", "X-API-Key": "devkey"},
        {"X-AGENT-ID": "pc-001", "X-API-Key": "wrong"},
        {"X-AGENT-ID": "pc-001", "X-API-Key": ""},
        {"X-AGENT-ID": "PC-001", "X-API-Key": "devkey"},
        {"X-AGENT-ID": "pc-001", "Authorization": "Bearer devkey"},
        {"X-AGENT-ID": "x" * 5_000, "X-API-Key": "y" * 5_000},
        {"X-AGENT-ID": "\u00fc\u00e4", "X-API-Key": "\u00fc"},
    ]

    answers = [server.request(method, path, raw=b"{" if method == "POST" else None, headers=one) for one in callers]

    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    assert answers[0].json == REFUSED
    assert len({tuple(sorted(set(answer.headers) - {"date"})) for answer in answers}) == 1


VARIANTS = [
    "//api/r3/agents",
    "/api//r3/agents",
    "/api/./r3/agents",
    "/./api/r3/agents",
    "/api/r3/../r3/agents",
    "/static/../api/r3/agents",
    "/health/../api/r3/agents",
    "/health/..;/api/r3/agents",
    "/api/r3/agents;x",
    "/api/r3/agents;/static/x.js",
    "/api;x/r3/agents",
    "/api/r3/agents/",
    "/api/r3/agents.",
    "/api/r3/agents..",
    "/api/r3/agents.js",
    "/api/r3/agents%20",
    "/api/r3/agents%00",
    "/api/r3/agents%2f",
    "/api/r3/agents%3f",
    "/api/r3/%61gents",
    "/api/r3%2fagents",
    "/api/%72%33/agents",
    "/%2e/api/r3/agents",
    "/%61pi/r3/agents",
    "/API/R3/AGENTS",
    "/Api/r3/agents",
    "/api/r3/agents?x=/static/a.js",
    "/api/r3/agents?test_mode=1",
    "/static/%2e%2e/api/r3/agents",
    "/static/..%2fapi%2fr3%2fagents",
    "/api\\r3\\agents",
    "/agent/../api/r3/agents",
    "/agent/%2e%2e/api/r3/agents",
    "http://127.0.0.1/api/r3/agents",
]


@pytest.mark.parametrize("path", VARIANTS)
def test_no_spelling_of_a_path_opens_it(server: ServerProcess, path: str) -> None:
    for headers in ({}, agent_headers()):
        answer = server.request("GET", path, headers=headers)
        assert answer.status in (400, 401, 404, 405), answer
        assert b'agents":' not in answer.body


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Original-URL": "/health"},
        {"X-Rewrite-URL": "/health"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Host": "127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1;host=localhost"},
        {"X-HTTP-Method-Override": "GET"},
        {"Host": "localhost"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"X-API-Key": ""},
        {"Cookie": "reco3_session="},
        {"Cookie": "reco3_session=x; reco3_session=y"},
        {"Cookie": "=;;=,;reco3_session"},
        {"Cookie": "reco3_session=" + "x" * 8_000},
    ],
)
def test_no_header_of_a_proxy_or_a_guess_opens_anything(server: ServerProcess, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/api/r3/agents"), ("POST", "/api/agent-commands"), ("GET", "/agent/pull")):
        answer = server.request(method, path, headers=headers)
        assert (answer.status, answer.json) == (401, REFUSED)


@pytest.mark.parametrize("path", ["/api/r3/agents/", "/r3/", "/agent/heartbeat/", "/health/"])
def test_a_trailing_slash_is_not_redirected_to_whatever_host_was_named(server: ServerProcess, path: str) -> None:
    answer = server.get(path, Host="evil.example")

    assert answer.status == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/no/such/page", 404, "not_found"),
        ("GET", "/agent/no-such-page", 404, "not_found"),
        ("PUT", "/agent/heartbeat", 405, "method_not_allowed"),
        ("DELETE", "/api/agent-commands", 405, "method_not_allowed"),
        ("PATCH", "/r3", 405, "method_not_allowed"),
        ("TRACE", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/api/r3/agents", 405, "method_not_allowed"),
    ],
)
def test_what_the_router_refuses_has_the_shape_of_every_error(
    server: ServerProcess, method: str, path: str, status: int, code: str
) -> None:
    answer = server.request(method, path)

    assert (answer.status, answer.json["error"]) == (status, code)
    assert set(answer.json) == {"error", "message"}


def test_a_stolen_hash_of_a_key_opens_nothing_and_no_key_lies_in_the_files(server: ServerProcess) -> None:
    files = [path for path in server.db_path.parent.iterdir() if path.name.startswith("reco3.db")]
    stored = b"".join(path.read_bytes() for path in files) + server.log_text().encode()
    hashes = set(re.findall(rb"[0-9a-f]{64}", stored))

    assert not [key for key in (*AGENT_KEYS.values(), KEY) if key.encode() in stored]
    assert hashes
    for key in hashes:
        assert server.get("/api/session", **{"X-API-Key": key.decode()}).status == 401
        assert server.request("GET", "/agent/pull", headers=agent_headers(key=key.decode())).status == 401


def test_refused_callers_are_audited_and_a_flood_of_them_leaves_few_rows(server: ServerProcess) -> None:
    before = len(server.get("/api/audit?event_type=auth_failed&limit=500", **OPERATOR).json["events"])

    for _ in range(200):
        server.request("GET", "/agent/pull", headers=agent_headers("pc-001", "flood"))

    events = server.get("/api/audit?event_type=auth_failed&limit=500", **OPERATOR).json["events"]
    assert len(events) - before <= 3
    assert any(event["payload"]["claim"] == "pc-001" for event in events)
