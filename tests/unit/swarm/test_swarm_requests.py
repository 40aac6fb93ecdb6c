"""Every request of a simulated PC is a well-formed one of the protocol, whatever numbers are patched in."""

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from swarm_builders import EPOCH, TARGET, book

from reco3.protocol.messages import Heartbeat, LogBatch, Metrics, WatchedProcess
from reco3.swarm.requests import BeatBook, agent_key, log_message, plain_request

KEY = b"k" * 32


def parsed(request: bytes) -> tuple[list[str], dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers.get("Content-Length", "0")) == len(body)
    return first.split(" "), headers, body


@pytest.mark.parametrize("number", [0, 7, 123_456, 999_999])
@pytest.mark.parametrize("beat", [0, 1, 8_640, 10**7])
@pytest.mark.parametrize("mode", ["NORMAL", "SAFE", "LOCKED"])
def test_a_heartbeat_is_whole_and_of_the_protocol(number: int, beat: int, mode: str) -> None:
    request = book().heartbeat(number, KEY, beat=beat, mode=json.dumps(mode).encode())

    (method, path, version), headers, body = parsed(request)
    heartbeat = msgspec.json.decode(body, type=Heartbeat)
    assert (method, path, version) == ("POST", "/agent/heartbeat", "HTTP/1.1")
    assert headers["X-AGENT-ID"] == f"sim-{number:06d}"
    assert headers["X-API-Key"] == KEY.decode()
    assert (heartbeat.metrics.mode, heartbeat.platform) == (mode, "linux")
    assert 0 <= (heartbeat.metrics.cpu_percent or 0) <= 100
    assert [process.name for process in heartbeat.metrics.processes] == ["nginx", "postgres"]
    assert len(heartbeat.metrics.interfaces) == 2
    assert 700 <= len(body) <= 900


def test_a_heartbeat_has_no_field_that_the_protocol_does_not_know() -> None:
    metrics = json.loads(parsed(book().heartbeat(3, KEY, beat=1))[2])["metrics"]

    assert set(metrics) <= {field.name for field in fields(Metrics)} | {"agent_started_ms"}
    assert set(metrics["processes"][0]) <= {field.name for field in fields(WatchedProcess)}


def test_a_pcs_numbers_vary_but_its_processes_stay_the_same() -> None:
    beats = [json.loads(parsed(book().heartbeat(3, KEY, beat=beat))[2])["metrics"] for beat in range(50)]

    assert len({beat["cpu_percent"] for beat in beats}) > 20
    assert len({process["pid"] for beat in beats for process in beat["processes"]}) == 2
    sent_bytes = [beat["net_bytes_sent"] for beat in beats]
    assert sent_bytes == sorted(set(sent_bytes))


def test_log_lines_are_numbered_and_name_their_run() -> None:
    request = book().logs(3, KEY, sequence=range(18, 22), at=datetime(2030, 1, 15, tzinfo=UTC))

    (_, path, _), _, body = parsed(request)
    batch = msgspec.json.decode(body, type=LogBatch)
    assert path == "/agent/logs"
    assert (batch.stream, batch.epoch, batch.first_seq) == ("swarm", EPOCH, 18)
    assert [line.msg for line in batch.logs] == [log_message(3, epoch=EPOCH, sequence=place) for place in range(18, 22)]
    assert [line.level for line in batch.logs] == ["WARN", "WARN", "ERROR", "WARN"]
    assert batch.logs[0].ts == "2030-01-15T00:00:00.000Z"


def test_a_report_says_completed_and_names_the_journal() -> None:
    (_, path, _), _, body = parsed(book().report(3, KEY, command_id="c-1"))

    report: dict[str, Any] = json.loads(body)
    assert path == "/agent/report"
    assert (report["command_id"], report["status"], report["result"]["success"]) == ("c-1", "completed", True)
    assert report["journal"] == f"swarm-{EPOCH}-000003"


@pytest.mark.parametrize(
    ("wait_s", "path"),
    [(25, "/agent/pull?wait=25&journal=swarm-e1-000003"), (0, "/agent/pull?journal=swarm-e1-000003")],
)
def test_a_pull_waits_as_long_as_it_is_told(wait_s: int, path: str) -> None:
    (method, asked, _), _, body = parsed(book(pull_wait_s=wait_s).pull(3, KEY))

    assert (method, asked, body) == ("GET", path, b"")


def test_any_path_can_be_loaded() -> None:
    beats = BeatBook(TARGET, "/nothing?a=%20b", epoch=EPOCH, started_ms=1)

    assert parsed(beats.heartbeat(1, KEY, 5))[0][1] == "/nothing?a=%20b"
    assert parsed(plain_request(TARGET, "GET", "/health?a=%20b")(1, KEY))[0] == ["GET", "/health?a=%20b", "HTTP/1.1"]


def test_another_seed_gives_other_keys() -> None:
    assert agent_key("1", 5) != agent_key("2", 5)
