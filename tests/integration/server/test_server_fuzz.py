"""Random JSON to the agents' routes, on both databases: answered 2xx or 4xx, never 5xx."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postgresql import Postgres
from servers import ServerProcess, agent_headers, read_answer

texts = st.text(max_size=30) | st.sampled_from(
    ["", "\0", "pc-001", "ERROR", "completed", "\u202e", "2030-01-15T12:00:00Z"]
)
numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, 2**64, -1, 10**40, 1e308])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def shaped(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """An object with some of its fields right, some wrong and some that nobody knows."""
    known = st.fixed_dictionaries({}, optional={name: field | values for name, field in fields.items()})
    return (
        st.builds(lambda known, extra: {**extra, **known}, known, st.dictionaries(texts, values, max_size=2)) | values
    )


processes = st.lists(
    shaped({"name": texts, "running": st.booleans(), "pid": numbers, "pids": st.lists(numbers)}), max_size=3
)
metrics = shaped(
    {
        "cpu_percent": numbers,
        "cpu_count": numbers,
        "net_bytes_sent": numbers,
        "hostname": texts,
        "mode": texts,
        "apply_enabled": st.booleans(),
        "processes": processes,
    }
)
entries = st.lists(
    shaped({"msg": texts, "ts": texts, "level": texts, "code": texts, "meta": st.dictionaries(texts, values)}),
    max_size=3,
)
BODIES = {
    "/agent/heartbeat": shaped({"metrics": metrics, "platform": texts, "version": texts}),
    "/agent/logs": shaped(
        {"logs": entries, "stream": texts, "epoch": texts, "first_seq": st.integers(1, 50) | numbers}
    ),
    "/agent/report": shaped(
        {"command_id": texts, "status": texts, "result": shaped({"success": st.booleans(), "output": texts})}
    ),
}
quick = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own on each database."""
    environment = {"RECO3_TEST_MODE": "1"}
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        address = postgres.new_database().set(drivername="postgresql")
        environment["RECO3_DATABASE_URL"] = address.render_as_string(hide_password=False)
    server = ServerProcess(tmp_path_factory.mktemp("fuzzed"), **environment).start()
    yield server
    server.stop()


def answered(server: ServerProcess, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with contextlib.closing(server.connection()) as connection:
        connection.request(method, path, body=body, headers=agent_headers())
        answer = read_answer(connection)
    return answer.status, answer.body


@pytest.mark.parametrize("path", list(BODIES))
@given(choices=st.data())
@quick
def test_no_body_makes_the_server_fail(fuzzed: ServerProcess, path: str, choices: st.DataObject) -> None:
    body = json.dumps(choices.draw(BODIES[path])).encode()

    status, text = answered(fuzzed, "POST", path, body)

    assert status in (200, 400, 404), text
    assert b"Traceback" not in text


@given(query=st.text(alphabet=st.characters(codec="utf-8"), max_size=20) | st.integers().map(str))
@quick
def test_no_wait_makes_the_server_fail(fuzzed: ServerProcess, query: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in f"x{query}".encode()[1:])

    status, text = answered(fuzzed, "GET", f"/agent/pull?wait={quoted}&wait=0")

    assert status in (200, 400), text


@given(raw=st.binary(max_size=200))
@quick
def test_no_bytes_make_the_server_fail(fuzzed: ServerProcess, raw: bytes) -> None:
    assert {answered(fuzzed, "POST", path, raw)[0] for path in BODIES} <= {200, 400, 404}


def test_what_was_taken_can_be_read_again(fuzzed: ServerProcess) -> None:
    paths = ["/api/r3/agents", "/api/incidents", "/api/audit?limit=500", "/api/r3/agent/pc-001/logs?limit=500"]
    fuzzed.say("/agent/heartbeat", {"metrics": {}})

    assert [fuzzed.get(path).status for path in paths] == [200] * len(paths)
