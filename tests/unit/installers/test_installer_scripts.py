"""The scripts that users call, run for real: with a folder that stands in for the PC, and recorded programs on PATH."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fake_pc import REPOSITORY

from reco3.installers.verbs import SCRATCH_VARIABLE

INSTALL = REPOSITORY / "agent/linux/install_systemd.sh"
UNINSTALL = REPOSITORY / "agent/linux/uninstall_systemd.sh"
WORDS = ("devkey", "http://127.0.0.1:5001", "pc-001")
RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >> "{record}"\n{rest}\n'
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
pytestmark = needs_posix


class Machine:
    """A PATH of its own, with recorded programs and nothing else but what a script may use."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.record = folder / "record"
        self._programs = folder / "programs"
        self._programs.mkdir()
        (self.root / "run/systemd/system").mkdir(parents=True)
        (self.root / "etc/systemd/system").mkdir(parents=True)
        for name in ("dirname", "sh", "basename"):
            (self._programs / name).symlink_to(str(shutil.which(name)))
        self.program("id", 'echo "${FAKE_ID:-1000}"')

    def program(self, name: str, rest: str = "") -> None:
        path = self._programs / name
        path.write_text(RECORDER.format(record=self.record, rest=rest))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, script: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        variables = {"PATH": str(self._programs), "RECO3_PYTHON": sys.executable, **environment}
        return subprocess.run([script, *words], capture_output=True, text=True, env=variables, check=False)

    def calls(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("script", [INSTALL, UNINSTALL], ids=lambda script: script.name)
def test_who_is_not_root_is_told_so(machine: Machine, script: Path) -> None:
    machine.program("systemctl")

    ended = machine.run(script, *WORDS)

    assert ended.returncode == 2
    assert ended.stderr.startswith("not_root: ")
    assert "sudo" in ended.stderr


def test_a_pc_without_systemctl_is_told_so(machine: Machine) -> None:
    ended = machine.run(INSTALL, *WORDS, FAKE_ID="0")

    assert ended.returncode == 2
    assert ended.stderr.startswith("no_systemd: ")


@pytest.mark.parametrize("script", [INSTALL, UNINSTALL], ids=lambda script: script.name)
def test_a_pc_without_a_new_python_is_told_how_to_get_one(machine: Machine, tmp_path: Path, script: Path) -> None:
    machine.program("systemctl")
    copy, engine = tmp_path / script.name, script.with_name("start_engine.sh")
    copy.write_text(script.read_text())
    copy.chmod(0o755)
    (tmp_path / engine.name).write_text(engine.read_text().replace("/usr/bin/python3", "/nowhere/python3"))
    machine.program("python3", "exit 1")

    ended = machine.run(copy, *WORDS, FAKE_ID="0", RECO3_PYTHON="")

    assert ended.returncode == 2
    assert ended.stderr.startswith("no_python: found no Python 3.11 or newer")
    assert "RECO3_PYTHON=" in ended.stderr


def test_help_needs_no_root(machine: Machine) -> None:
    machine.program("systemctl")

    ended = machine.run(INSTALL, "--help")

    assert ended.returncode == 0
    assert "[KEY] URL [AGENT_ID]" in ended.stdout
    assert "--token-file" in ended.stdout


def test_a_word_in_the_wrong_place_ends_with_2_and_is_not_repeated(machine: Machine) -> None:
    machine.program("systemctl")

    ended = machine.run(INSTALL, "s3cret", FAKE_ID="0")

    assert ended.returncode == 2
    assert ended.stderr.startswith("bad_order: ")
    assert "s3cret" not in ended.stderr + ended.stdout


def test_a_dry_run_into_a_folder_calls_nothing_that_changes_anything(machine: Machine) -> None:
    machine.program("systemctl")
    machine.program("getent", "exit 2")

    ended = machine.run(INSTALL, *WORDS, "--dry-run", **{SCRATCH_VARIABLE: str(machine.root)})

    assert ended.returncode == 0, ended.stderr
    assert "would run systemctl enable reco3-agent.service" in ended.stdout
    assert "devkey" not in ended.stdout
    assert not (machine.root / "opt").exists()
    assert {call.split(" ")[0] for call in machine.calls()} <= {"getent", "systemctl"}
    assert all(call.startswith(("getent", "systemctl show")) for call in machine.calls())


def test_a_space_in_the_path_of_the_source_tree_is_no_trouble(machine: Machine, tmp_path: Path) -> None:
    machine.program("systemctl")
    machine.program("getent", "exit 2")
    tree = tmp_path / "a source tree"
    for name in ("agent", "src"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "server", "swarm"))

    ended = machine.run(
        tree / "agent/linux/install_systemd.sh", *WORDS, "--dry-run", **{SCRATCH_VARIABLE: str(machine.root)}
    )

    assert ended.returncode == 0, ended.stderr
    assert f"would copy {tree}/src/reco3 to /opt/reco3-agent/app.new" in ended.stdout
    assert not list(tree.rglob("__pycache__"))


@pytest.mark.skipif(
    os.environ.get("CI") is None and shutil.which("systemd-analyze") is None, reason="no systemd-analyze"
)
@pytest.mark.parametrize("user", ["reco3-agent", "root"])
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path, user: str) -> None:
    from reco3.installers.layouts import Source  # noqa: PLC0415 - only here
    from reco3.installers.linux import unit_text  # noqa: PLC0415 - likewise

    text = unit_text(Source(REPOSITORY), user).replace("/opt/reco3-agent/app/bin/python", "/bin/true")

    assert _verified(tmp_path, text) == (0, "")
    assert _verified(tmp_path, text.replace("KillMode=process", "KillMode=proces"))[0] == 1
    assert _verified(tmp_path, text.replace("TasksMax", "TaskMax"))[0] == 1


def _verified(folder: Path, text: str) -> tuple[int, str]:
    unit = folder / "reco3-agent.service"
    unit.write_text(text)
    argv = ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
