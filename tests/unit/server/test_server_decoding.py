"""The quick decoder: it reads what the protocol's own dataclass reads, and refuses the rest in the same words."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reco3.protocol.messages import Heartbeat
from reco3.server.web.decoding import quick_decoder

ordinary = msgspec.json.Decoder(Heartbeat).decode
quick = quick_decoder(Heartbeat)

texts = st.text(max_size=5)
values = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | texts | st.lists(st.none(), max_size=1)
processes = st.lists(
    st.dictionaries(st.sampled_from(["name", "running", "pid", "pids", "count", "more"]), values, max_size=5),
    max_size=2,
)
metric_names = st.sampled_from(["cpu_percent", "mode", "apply_enabled", "net_bytes_sent", "agent_started_ms", "more"])
metrics = st.dictionaries(metric_names, values, max_size=4)
heartbeats = st.builds(
    lambda numbers, watched, version: {"metrics": {**numbers, "processes": watched}, "version": version},
    metrics,
    processes,
    values,
)


def outcome(decode: Any, body: bytes) -> tuple[str, bytes | str]:
    try:
        return "read", msgspec.json.encode(decode(body))
    except msgspec.MsgspecError as err:
        return "refused", str(err)


@settings(deadline=None, max_examples=500)
@given(heartbeats)
def test_it_reads_and_refuses_as_the_ordinary_decoder_does(heartbeat: dict[str, object]) -> None:
    body = json.dumps(heartbeat).encode()

    assert outcome(quick, body) == outcome(ordinary, body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"metrics":{}}', b'{"metrics":{"processes":[{"name":"a"}]}}'])
def test_it_says_the_same_of_what_is_short_of_something(body: bytes) -> None:
    assert outcome(quick, body) == outcome(ordinary, body)


def test_the_comparison_sees_a_difference() -> None:
    assert outcome(quick, b'{"metrics":{"cpu_percent":1}}') != outcome(ordinary, b'{"metrics":{"cpu_percent":2}}')
