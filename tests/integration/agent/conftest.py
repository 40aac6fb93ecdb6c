import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_process import AgentProcess
from doctor_pc import HealthyPc
from scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.go_down()


@pytest.fixture
def pc(tmp_path: Path, server: ScriptedServer) -> Iterator[AgentProcess]:
    pc = AgentProcess(tmp_path, server.url)
    yield pc
    pc.kill()


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HealthyPc]:
    """A PC without a fault, as far as it can be told without its server."""
    healthy = HealthyPc(tmp_path, "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", f"{healthy.bin}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    yield healthy
    healthy.close()
