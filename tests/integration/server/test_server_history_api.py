"""`GET /api/r3/agent/<id>/metrics`: two shapes, one route."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from servers import ServerProcess

HEARTBEAT = {"metrics": {"cpu_percent": 12.5, "mem_percent": 40.1, "net_bytes_sent": 1_000, "net_bytes_recv": 7}}
PATH = "/api/r3/agent/pc-001/metrics"


@pytest.fixture(scope="module")
def pc(server: ServerProcess) -> ServerProcess:
    for n in range(3):
        heartbeat = {"metrics": HEARTBEAT["metrics"] | {"cpu_percent": 10.0 + n, "net_bytes_sent": 1_000 * n}}
        assert server.say("/agent/heartbeat", heartbeat).status == 200
    return server


def moment(**ago: float) -> str:
    return quote((datetime.now(UTC) - timedelta(**ago)).isoformat())


def test_the_history_has_its_shape(pc: ServerProcess) -> None:
    answer = pc.get(f"{PATH}?points=300").json

    assert set(answer) == {"agent_id", "from", "to", "resolution_s", "points", "count", "now"}
    assert (answer["agent_id"], answer["resolution_s"]) == ("pc-001", 300)
    assert answer["count"] == len(answer["points"]) >= 1
    assert sum(point["count"] for point in answer["points"]) == 3
    point = answer["points"][0]
    assert set(point) == {
        "ts",
        "count",
        "expected",
        "cpu_percent",
        "mem_percent",
        "disk_percent",
        "sent_bytes_per_s",
        "recv_bytes_per_s",
        "restarts",
    }
    assert set(point["cpu_percent"]) == {"mean", "min", "max"}
    assert set(point["recv_bytes_per_s"]) == {"mean", "max"}
    assert point["disk_percent"] is None


def test_the_last_seconds_are_in_the_history(pc: ServerProcess) -> None:
    answer = pc.get(f"{PATH}?from={moment(minutes=5)}").json

    assert answer["resolution_s"] == 10
    assert [point["cpu_percent"]["mean"] for point in answer["points"]] == [10.0, 11.0, 12.0]


def test_a_year_is_answered_in_as_many_points_as_asked(pc: ServerProcess) -> None:
    answer = pc.get(f"{PATH}?from={moment(days=365)}&to={moment(seconds=-1)}&points=50").json

    assert answer["resolution_s"] == 8 * 86_400
    assert sum(point["count"] for point in answer["points"]) == 3


def test_unix_seconds_are_taken_too(pc: ServerProcess) -> None:
    start = int((datetime.now(UTC) - timedelta(minutes=5)).timestamp())

    assert pc.get(f"{PATH}?from={start}").json["count"] == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=2030-01-15T12:00:00", "from"),
        ("points=9", "points"),
        ("points=2001", "points"),
        ("to=2020-01-01T00:00:00Z&from=2020-01-02T00:00:00Z", "to"),
        ("to=9999-01-01T00:00:00Z", "to"),
        ("from=0001-01-01T00:00:00Z", "from"),
        ("to=0001-01-01T00:00:00Z", "to"),
        ("from=2001-01-01T00:00:00Z", "from"),
    ],
)
def test_a_stretch_that_makes_no_sense_is_refused_by_name(pc: ServerProcess, query: str, field: str) -> None:
    answer = pc.get(f"{PATH}?{query}")

    assert answer.status == 400
    assert answer.json["message"].startswith(f"{field}:")


def test_the_history_of_an_unknown_pc_is_not_found(pc: ServerProcess) -> None:
    assert pc.get("/api/r3/agent/pc-404/metrics?points=100").json["error"] == "agent_not_found"
