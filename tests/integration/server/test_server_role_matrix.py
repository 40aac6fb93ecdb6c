"""The role matrix: every route that the server serves, with every kind of caller, against a committed table.

A cell says what the caller meets: Y let in, - unknown (401), x the role is missing, p a fresh proof is needed,
t an API token may not. A new route without a line, and any cell that differs, fails.
"""

import json
from collections.abc import Iterator, Mapping

import pytest

from builders import DATA
from people import API_KEY, Browser, join, let_proofs_grow_old, log_in, make_token
from reco3.server.domain.operators import Role
from reco3.server.web.audiences import Kind
from route_table import Way, every_way
from servers import ServerProcess, agent_headers

TABLE = json.loads((DATA / "role_matrix.json").read_text(encoding="utf-8"))
REFUSALS = {"forbidden": "x", "proof_needed": "p", "person_needed": "t"}
LOG_OUT = "DELETE /api/session"
Headers = Mapping[str, str]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> list[Way]:
    """Every way into the server; logging out comes last, because it ends the session that tries it."""
    found = [way for way in every_way(tmp_path_factory.mktemp("ways")) if way.method != "HEAD"]
    return sorted(found, key=lambda way: (_name(way) == LOG_OUT, _name(way)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server outside test mode."""
    process = ServerProcess(tmp_path_factory.mktemp("matrix"), API_KEY=API_KEY).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def test_mode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in test mode."""
    process = ServerProcess(tmp_path_factory.mktemp("test-mode"), RECO3_TEST_MODE="1").start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def callers(server: ServerProcess) -> dict[str, Headers]:
    """Everybody who may knock at a server outside test mode, by the names of the table."""
    unproved = {role: join(server, f"{role}.unproved", role) for role in Role}
    let_proofs_grow_old(server)
    browsers: dict[Role, Browser] = {role: join(server, f"{role}.person", role) for role in Role}
    again = {role: log_in(server, f"{role}.person") for role in Role}
    tokens = {role: make_token(again[role], role) for role in Role}
    return {
        "anonymous": {},
        "agent": agent_headers(),
        "agent key alone": {"X-API-Key": agent_headers()["X-API-Key"]},
        "API key": {"X-API-Key": API_KEY},
        **{f"session {role}": browsers[role].headers for role in Role},
        **{f"unproved session {role}": unproved[role].headers for role in Role},
        **{f"token {role}": {"Authorization": f"Bearer {tokens[role]}"} for role in Role},
    }


def _name(way: Way) -> str:
    return f"{way.method} {way.path}"


def outcome(server: ServerProcess, way: Way, headers: Headers) -> str:
    """What a caller meets there, as a letter of the table."""
    if way.path == "/api/live":
        # An endless answer: its status is all there is to wait for.
        connection = server.connection()
        connection.request(way.method, way.url, headers=dict(headers))
        status, code = connection.getresponse().status, ""
        connection.close()
    else:
        answer = server.request(way.method, way.url, body=way.body, headers=headers)
        status = answer.status
        code = answer.json["error"] if status in (401, 403) else ""
    if status >= 500:
        return f"!{status}"
    return "-" if status == 401 else REFUSALS[code] if status == 403 else "Y"


def differences(observed: Mapping[str, str], table: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Rows that are not as the table says: what was observed, and what the table has."""
    rows = sorted({*observed, *table})
    return {row: (observed.get(row), table.get(row)) for row in rows if observed.get(row) != table.get(row)}


def test_every_caller_meets_at_every_route_what_the_table_says(
    server: ServerProcess, test_mode: ServerProcess, ways: list[Way], callers: dict[str, Headers]
) -> None:
    assert [*callers, "test mode"] == TABLE["callers"]

    observed = {
        _name(way): "".join(
            [*(outcome(server, way, headers) for headers in callers.values()), outcome(test_mode, way, {})]
        )
        for way in ways
    }

    different = differences(observed, TABLE["routes"])
    lines = ",\n".join(f"    {json.dumps(row)}: {json.dumps(observed.get(row))}" for row in different)
    assert not different, f"differs from tests/data/role_matrix.json; when this is what you want, it says:\n{lines}"


def test_a_new_route_a_route_that_is_gone_and_another_outcome_are_noticed() -> None:
    table = {"GET /a": "-Y", "GET /b": "xx"}

    assert differences(table, table) == {}
    assert set(differences({**table, "GET /new": "YY"}, table)) == {"GET /new"}
    assert set(differences({"GET /a": "-Y"}, table)) == {"GET /b"}
    assert set(differences({**table, "GET /a": "YY"}, table)) == {"GET /a"}


def test_the_table_opens_no_operators_route_to_a_stranger_or_an_agent(ways: list[Way]) -> None:
    columns = {name: place for place, name in enumerate(TABLE["callers"])}
    for way in ways:
        row = TABLE["routes"][_name(way)]
        strangers = {row[columns[name]] for name in ("anonymous", "agent", "agent key alone")}
        if way.audience.kind is Kind.OPERATOR:
            assert strangers == {"-"}, way
        if way.audience.kind is Kind.AGENT:
            opened = [name for name, place in columns.items() if row[place] == "Y"]
            assert opened == ["agent"], way


def test_the_table_knows_routes_that_need_a_proof_and_routes_that_need_a_person() -> None:
    letters = {letter: [row for row, cells in TABLE["routes"].items() if letter in cells] for letter in "pt"}

    assert {"POST /api/operators", "POST /api/tokens", "POST /api/me/keys"} <= set(letters["p"])
    assert {"POST /api/tokens", "POST /api/me/keys", "POST /api/me/password"} <= set(letters["t"])
