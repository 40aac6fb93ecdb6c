"""The agent as a service manager runs it that calls instead of sending signals: on a thread of its own."""

import json
import threading
import time
from pathlib import Path

import pytest

from reco3.agent import agent
from reco3.agent.config import ConfigError
from reco3.agent.local_state import StartError


class Stop:
    """What a service hands to the agent to wait with."""

    def __init__(self) -> None:
        self.waited_for = threading.Event()
        self.asked = threading.Event()
        self.threads: set[str] = set()

    def wait(self) -> str:
        self.threads = {thread.name for thread in threading.enumerate()}
        self.waited_for.set()
        assert self.asked.wait(20)
        return "SERVICE_CONTROL_STOP"


def write_config(folder: Path, **changes: object) -> Path:
    config = {
        "base_url": "http://127.0.0.1:1",
        "agent_id": "pc-001",
        "api_key": "devkey",
        "logging": {"file": str(folder / "agent.log")},
    } | changes
    path = folder / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def run_in_thread(path: Path, stop: Stop) -> threading.Thread:
    thread = threading.Thread(target=agent.run_service, args=(path, stop.wait), daemon=True)
    thread.start()
    return thread


def test_the_agent_runs_on_any_thread_until_it_is_told_to_stop(tmp_path: Path) -> None:
    stop = Stop()
    service = run_in_thread(write_config(tmp_path), stop)
    assert stop.waited_for.wait(20)
    assert {"control", "telemetry"} <= stop.threads
    asked_at = time.monotonic()

    stop.asked.set()
    service.join(20)

    assert time.monotonic() - asked_at < agent.STOP_WITHIN_S + 1
    log = (tmp_path / "agent.log").read_text(encoding="utf-8")
    assert "agent_stopping signal=SERVICE_CONTROL_STOP" in log
    assert log.splitlines()[-1].endswith("agent_stopped")


def test_a_stopped_agent_lets_another_one_have_its_state(tmp_path: Path) -> None:
    for _ in range(2):
        stop = Stop()
        stop.asked.set()
        service = run_in_thread(write_config(tmp_path), stop)
        service.join(20)
        assert not service.is_alive()

    assert (tmp_path / "agent.log").read_text(encoding="utf-8").count(" agent_started ") == 2


def test_a_bad_config_is_refused_before_anything_runs(tmp_path: Path) -> None:
    stop = Stop()

    with pytest.raises(ConfigError, match="agent_id"):
        agent.run_service(write_config(tmp_path, agent_id="no such name"), stop.wait)

    assert not stop.waited_for.is_set()


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path) -> None:
    first, second = Stop(), Stop()
    service = run_in_thread(write_config(tmp_path), first)
    assert first.waited_for.wait(20)

    with pytest.raises(StartError, match="another agent"):
        agent.run_service(tmp_path / "config.yaml", second.wait)

    first.asked.set()
    service.join(20)
    assert not second.waited_for.is_set()
