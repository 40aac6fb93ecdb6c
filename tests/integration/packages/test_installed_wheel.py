"""The wheel in a new environment, with no source tree in sight: the page, a PC that becomes ONLINE, the demo.

Its libraries are those of the running environment, by a path in a .pth file: no index is asked.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from assets import TYPES, page_assets
from built import ROOT, Packages, agent_libraries, environment_with, everything_but_us

from servers import ServerProcess, free_port

# Every command, with words that make it say how it is used.
COMMANDS = [
    *(["agent", "--help"], ["agent", "enrol", "--help"], ["agent", "trust", "--help"], ["agent", "mode", "--help"]),
    *(["commands", "--help"], ["approve", "--help"], ["keys", "--help"], ["enrol", "--help"], ["swarm", "--help"]),
    *(["deny", "--help"], ["dev-signer", "--help"], ["version"], ["--help"]),
]
READY_S = 30


class InstalledServer(ServerProcess):
    """`reco3 server` of an environment, started in a folder of its own, with the migrations that it brought along."""

    is_first_start = True

    def __init__(self, folder: Path, python: Path, **environment: str) -> None:
        super().__init__(folder, **environment)
        self.argv = [str(python), "-m", "reco3", "server"]


@pytest.fixture(scope="module")
def whole(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with everything."""
    folder = tmp_path_factory.mktemp("whole")
    return environment_with(folder / "venv", packages.wheel, everything_but_us())


@pytest.fixture(scope="module")
def alone(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that `pip install reco3` makes: the agent's libraries and no others."""
    folder = tmp_path_factory.mktemp("alone")
    return environment_with(folder / "venv", packages.wheel, [str(agent_libraries(folder / "libraries"))])


@pytest.fixture
def server(whole: Path, tmp_path: Path) -> Iterator[InstalledServer]:
    server = InstalledServer(tmp_path / "server", whole, RECO3_TEST_MODE="1")
    server.start()
    yield server
    server.stop()


def run(python: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [str(python), "-m", "reco3", *words]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", ["whole", "alone"])
def test_no_source_tree_is_in_sight(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    python: Path = request.getfixturevalue(name)
    code = "import sys, reco3; print(reco3.__file__); print(*sys.path, sep='\\n')"

    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    where, *path = done.stdout.splitlines()
    assert Path(where).is_relative_to(python.parents[1])
    assert str(ROOT / "src") not in path


def test_every_file_that_the_page_names_is_served_with_its_type(server: InstalledServer) -> None:
    found = page_assets(server)

    names = {path.rpartition("/")[2] for path in found}
    assert {"r3", "sw.js", "manifest.webmanifest", "agent-ui.js", "agent-ui.css", "dashboard.js"} <= names
    assert {"preact-htm-signals.js", "reco3-maskable-512.png", "reco3.svg"} <= names
    wrong = {
        path: (answer.status, answer.headers.get("content-type"))
        for path, answer in found.items()
        if answer.status != 200 or not answer.headers["content-type"].startswith(TYPES[Path(path).suffix])
    }
    assert wrong == {}


def test_a_file_that_is_missing_would_be_noticed(server: InstalledServer) -> None:
    assert server.get("/static/ui/gone.js").status == 404


def test_the_containers_health_check_tells_a_server_from_none(server: InstalledServer, whole: Path) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    check = json.loads(re.findall(r"^ +CMD (\[.+\])$", text, flags=re.MULTILINE)[0])

    def code_at(port: int) -> int:
        return subprocess.run([whole, *check[1:]], env={"PORT": str(port)}, capture_output=True, check=False).returncode

    assert code_at(server.port) == 0
    assert code_at(free_port()) == 1


def test_an_agent_of_the_same_environment_becomes_online(server: InstalledServer, whole: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f'base_url: "{server.base_url}"\nagent_id: "pc-001"\napi_key: "devkey"\n', encoding="utf-8")
    agent = subprocess.Popen([whole, "-m", "reco3", "agent", config], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: statuses(server) == ["ONLINE"])
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(15) == 0


def test_the_demo_plays(whole: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PORT": str(free_port()), "HOME": str(tmp_path)}
    argv = [whole, "-m", "reco3", "demo"]
    demo = subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        first = next(line for line in demo.stdout if line.strip())
        assert "RECO3" in first
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=30)
    assert demo.returncode == 0
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.iterdir()}
    assert made == {"instance"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_without_the_servers_part_a_command_that_needs_none_of_it_works(
    alone: Path, tmp_path: Path, words: list[str]
) -> None:
    done = run(alone, tmp_path, *words)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("command", ["server", "demo"])
def test_without_the_servers_part_its_commands_say_what_to_install(alone: Path, tmp_path: Path, command: str) -> None:
    done = run(alone, tmp_path, command)

    assert (done.returncode, done.stdout) == (2, "")
    said = re.fullmatch(rf"reco3 {command} needs (\w+), which is not installed\. Try: (.+)\n", done.stderr)
    assert said is not None, done.stderr
    assert said[2] == 'python -m pip install "reco3[server]"'
    assert list(tmp_path.iterdir()) == []


def test_without_the_servers_part_the_agent_finds_its_template(alone: Path, tmp_path: Path) -> None:
    code = "from reco3.agent.config_texts import template_text; print(template_text())"

    done = subprocess.run([alone, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == (ROOT / "agent/common/config.example.yaml").read_text(encoding="utf-8").strip()


def statuses(server: InstalledServer) -> list[str]:
    return [agent["status"] for agent in json.loads(server.get("/api/r3/agents").body)["agents"]]


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not look():
        assert time.monotonic() < deadline, f"not within {READY_S} s"
        time.sleep(0.05)
