"""Heartbeats as bytes: what is kept as it came is what would have been kept anyway."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import PC, START
from reco3.protocol.limits import MAX_PROCESSES
from reco3.protocol.messages import Heartbeat
from reco3.server.domain.agents import TakenHeartbeat, read_heartbeat
from reco3.server.domain.errors import Reco3Error
from reco3.server.domain.metrics import MAX_INTEGER, MAX_TEXT_CHARS, NUMBERS, TEXTS
from reco3.server.web.heartbeats import MAX_KEPT_AS_IT_CAME, heartbeat_of, kept_heartbeat

ordinary = msgspec.json.Decoder(Heartbeat).decode
EDGES = (-1, -0.0, 0, 0.5, 100, MAX_INTEGER - 1024, MAX_INTEGER, MAX_INTEGER + 1, 2.0**62, 2.0**63, 1e300, "x", True)


def plainly(body: bytes) -> TakenHeartbeat:
    """The same, decoded by the protocol's own dataclass and checked field by field."""
    heartbeat = ordinary(body)
    return read_heartbeat(PC, heartbeat, msgspec.json.encode(heartbeat).decode(), START)


def outcome(read: Any, body: bytes) -> tuple[object, ...]:
    """What was read, with its body as operators would be shown it; or what kind of refusal it was."""
    try:
        taken: TakenHeartbeat = read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, Reco3Error) as err:
        return type(err), str(err)
    return taken._replace(payload_json=""), kept_heartbeat(taken.payload_json)


def both(body: bytes) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return outcome(lambda one: heartbeat_of(PC, one, START), body), outcome(plainly, body)


def heartbeat(**metrics: object) -> bytes:
    return json.dumps({"metrics": metrics, "platform": "linux", "version": "1.0"}).encode()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", EDGES)
def test_every_number_has_the_same_bounds_either_way(name: str, value: object) -> None:
    quick, plain = both(heartbeat(**{name: value}))

    assert quick == plain


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", ["", "a" * MAX_TEXT_CHARS, "\N{SNOWMAN}" * MAX_TEXT_CHARS, "a" * (MAX_TEXT_CHARS + 1)])
def test_every_text_has_the_same_bounds_either_way(name: str, text: str) -> None:
    quick, plain = both(heartbeat(**{name: text}))

    assert quick == plain


@pytest.mark.parametrize("count", [MAX_PROCESSES, MAX_PROCESSES + 1])
def test_there_may_be_as_many_processes_either_way(count: int) -> None:
    quick, plain = both(heartbeat(processes=[{"name": "a", "running": True}] * count))

    assert quick == plain


values = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=5)
names = st.sampled_from([*NUMBERS[:4], *TEXTS[:2], "apply_enabled", "processes", "more"])
watched = st.lists(st.dictionaries(st.sampled_from(["name", "running", "pid", "more"]), values, max_size=4), max_size=2)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(names, values | watched, max_size=5), st.dictionaries(st.sampled_from(["version", "x"]), values))
def test_whatever_comes_is_read_or_refused_alike(metrics: dict[str, object], around: dict[str, object]) -> None:
    quick, plain = both(json.dumps({"metrics": metrics, **around}).encode())

    assert quick == plain


@pytest.mark.parametrize(
    "body",
    [
        b'{"metrics":{"cpu_percent":1,"cpu_percent":2}}',
        b'{"metrics":{"cpu_percent":1},"metrics":{}}',
        b'{"metrics":{"cpu_percent":1e400}}',
        b'{"metrics":{"hostname":"\\ud800"}, "version": "1.0"}',
        b'{"metrics":{"hostname":"\xff"}}',
        b'{"metrics":{"hostname":"\\u0000"}}',
        b'{"metrics":{"processes":null}}',
        b"[]",
        b"{}",
        b"",
    ],
)
def test_odd_bodies_are_read_or_refused_alike(body: bytes) -> None:
    quick, plain = both(body)

    assert quick == plain


def test_what_the_protocol_names_is_kept_as_it_came() -> None:
    body = heartbeat(cpu_percent=12.5, processes=[{"name": "nginx", "running": True}])

    assert heartbeat_of(PC, body, START).payload_json == body.decode()


@pytest.mark.parametrize("more", [{"secret": "x"}, {"processes": [{"name": "a", "running": True, "secret": "x"}]}])
def test_what_the_protocol_does_not_name_is_not_kept(more: dict[str, object]) -> None:
    taken = heartbeat_of(PC, heartbeat(cpu_percent=12.5, **more), START)

    assert "secret" not in taken.payload_json
    assert json.loads(taken.payload_json)["metrics"]["cpu_percent"] == 12.5


def test_blanks_are_not_kept() -> None:
    taken = heartbeat_of(PC, heartbeat(cpu_percent=12.5) + b" " * MAX_KEPT_AS_IT_CAME, START)

    assert len(taken.payload_json) < 1_000


def test_operators_are_shown_every_field_whatever_was_sent() -> None:
    payload_json, metrics = kept_heartbeat('{"metrics":{"processes":[{"name":"a","running":true}]}}')

    assert json.loads(payload_json)["metrics"] == metrics
    assert metrics["mem_percent"] is None
    assert metrics["processes"][0]["restarts"] == 0  # type: ignore[index]
