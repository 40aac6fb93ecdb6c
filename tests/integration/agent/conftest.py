from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_process import AgentProcess
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
