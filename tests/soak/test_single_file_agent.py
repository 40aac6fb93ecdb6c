"""The agent as a single file for Linux, built here by its own script, against a real server.

RECO3_SOAK=1 runs it, and needs an index for the build's libraries; RECO3_AGENT_BINARY names one that is built already.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from test_newcomer import Newcomer, shown_commands
from world import World, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
    pytest.mark.skipif(sys.platform != "linux", reason="built and run for Linux here"),
]
ROOT = Path(__file__).parents[2]


@dataclass
class SingleFileWorld(World):
    """A world whose agent is the single file, with a folder of its own to unpack itself into."""

    binary: Path = Path()
    unpacked_in: Path = field(default_factory=Path)

    def _start(self, name: str, argv: list[str], environment: Mapping[str, str]) -> None:
        if name == "agent":
            argv, environment = [str(self.binary), *argv[4:]], {"TMPDIR": str(self.unpacked_in)}
        super()._start(name, argv, environment)

    def unpacked(self) -> list[Path]:
        return sorted(self.unpacked_in.glob("_MEI*"))

    def agent_pids(self) -> list[int]:
        """What unpacked it, and the agent itself."""
        root = psutil.Process(self.parts["agent"].pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True))]


class SingleFileNewcomer(Newcomer):
    """Types `reco3-agent` where the document says `reco3 agent`."""

    def program(self, words: list[str]) -> list[str]:
        assert isinstance(self.world, SingleFileWorld)
        return [str(self.world.binary), *words[1:]] if words[0] == "agent" else super().program(words)


@pytest.fixture(scope="module")
def binary() -> Path:
    given = os.environ.get("RECO3_AGENT_BINARY")
    if given:
        return Path(given)
    script = ROOT / "agent" / "linux" / "build_binary.sh"
    subprocess.run(["sh", script, sys.executable], check=True, timeout=1500)
    return ROOT / "dist" / "reco3-agent"


@pytest.fixture
def world(tmp_path: Path, binary: Path) -> Iterator[SingleFileWorld]:
    (tmp_path / "unpacked").mkdir()
    world = SingleFileWorld(tmp_path, binary=binary, unpacked_in=tmp_path / "unpacked")
    try:
        world.start_service()
        world.start_server()
        world.start_agent()
        world.wait_online()
        yield world
    finally:
        world.tear_down()


def do(binary: Path, *words: str, told: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/nonexistent"}  # No Python is in sight.
    return subprocess.run(
        [binary, *words], env=environment, input=told, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_stops_when_told_and_leaves_nothing_unpacked(world: SingleFileWorld) -> None:
    assert len(world.unpacked()) == 1

    world.stop("agent")

    assert world.unpacked() == []


def test_a_signature_restarts_the_service(world: SingleFileWorld) -> None:
    newcomer = SingleFileNewcomer(world, {"CONFIG": str(world.folder / "config.yaml"), "NAME": world.service_name})
    pid = world.service_pid()

    for shown in shown_commands():
        newcomer.do(shown)

    command = world.command(newcomer.words["ID"])
    assert command["status"] == "completed", command
    assert world.service_pid() != pid


@pytest.mark.parametrize("which", [0, 1], ids=["what unpacked it is killed", "the agent itself is killed"])
def test_killed_it_leaves_no_process_and_starts_again(world: SingleFileWorld, which: int) -> None:
    pids = world.agent_pids()
    assert len(pids) == 2, pids

    os.kill(pids[which], signal.SIGKILL)
    world.parts.pop("agent").wait(10)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), timeout_s=5, what="both processes are gone")
    world.start_again()

    wait_until(lambda: len(world.agent_pids()) == 2, timeout_s=10, what="it runs again")
    wait_until(lambda: world.output_of("agent").count("agent_started") == 2, timeout_s=10, what="it said so")
    world.wait_online()
    assert len(world.unpacked()) == 1
    command_id = world.request("SET_MODE", {"mode": "NORMAL"})
    assert world.wait_ended(command_id)["status"] == "completed"


def test_what_it_starts_gets_no_library_of_its_own(world: SingleFileWorld) -> None:
    path = world.folder / "config.yaml"
    seen = world.folder / "environment.json"
    code = f"import json, os; open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))"
    argv = json.dumps([sys.executable, "-c", code])
    path.write_text(re.sub(r"restart_cmd: .*", lambda _: f"restart_cmd: {argv}", path.read_text()), encoding="utf-8")
    world.restart_agent()
    world.wait_online()

    command_id = world.request("RESTART_PROCESS", {"process": world.service_name})
    world.approve(command_id)
    wait_until(seen.exists, timeout_s=15, what="the command ran")
    world.wait_ended(command_id, timeout_s=40)

    environment = json.loads(seen.read_text())
    assert "PATH" in environment
    assert [name for name in environment if name.startswith(("LD_", "_PYI", "_MEI"))] == []
    assert [value for value in environment.values() if "_MEI" in value] == []


def verbs() -> list[str]:
    """The agent's verbs, from the table in its source."""
    table = (ROOT / "src/reco3/agent/agent.py").read_text(encoding="utf-8").partition("verbs = {")[2].partition("}")[0]
    found = re.findall(r'"([a-z-]+)":', table)
    assert {"enrol", "trust", "break-glass"} <= set(found), table
    return found


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in verbs())], ids=" ".join)
def test_every_verb_is_in_it(binary: Path, words: list[str]) -> None:
    done = do(binary, *words)

    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


def test_it_enrols_with_the_template_that_is_in_it(world: SingleFileWorld, binary: Path) -> None:
    answer = world.post("/api/enrolment-tokens", {"agent_id": "pc-077"})
    assert answer.status_code == 200, answer.text
    config = world.folder / "new.yaml"

    done = do(binary, "enrol", str(config), "--server", world.url, "--token-file", "-", told=answer.json()["token"])

    assert done.returncode == 0, done.stderr
    assert do(binary, "--check", str(config)).stdout == f"{config}: OK\n"
    assert "apply_enabled: false" in config.read_text()
    assert do(binary, "trust", "show", str(config)).returncode == 0
