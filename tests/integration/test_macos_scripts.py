"""The macOS scripts, run for real on Linux: files, owners, modes and the agent are real, launchd is played."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fake_launchd import words_said
from mac_root import REPOSITORY, MacRoot, need_mount_namespaces

EXPECTED = json.loads((REPOSITORY / "tests/data/macos_install.json").read_text(encoding="utf-8"))
# Nobody listens there: the agent goes on trying, and runs.
WORDS = ("devkey", "http://127.0.0.1:9", "pc-001")


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[MacRoot]:
    need_mount_namespaces()
    mac = MacRoot(tmp_path)
    yield mac
    mac.stop_all()


def row(mac: MacRoot) -> list[str]:
    """What `launchctl list | grep reco3` shows."""
    listed = mac.run("sh", "-c", "launchctl list | grep reco3").stdout
    return listed.strip().split("\t")


def test_installed_killed_stopped_started_and_removed(mac: MacRoot) -> None:
    before = mac.files()

    done = mac.script("install_launchd.sh", "-", *WORDS[1:], stdin="devkey\n")
    assert done.returncode == 0, done.stdout + done.stderr
    there = {name: text for name, text in mac.files().items() if name not in before}
    expected = {name: text for name, text in EXPECTED["files"].items() if name.count("/") > 0 and name not in before}
    assert {name: text for name, text in there.items() if name in expected} == expected
    assert sorted(name for name in there.keys() - expected if not name.startswith("opt/reco3-agent/state/")) == [
        "var/log/reco3-agent/agent.log",
        "var/log/reco3-agent/launchd.log",
    ]
    assert there["var/log/reco3-agent/agent.log"] == "0640 root"
    state = json.loads((mac.launchd / "state.json").read_text())
    launchctl = [call.removeprefix("launchctl ") for call in EXPECTED["calls"] if call.startswith("launchctl ")]
    assert words_said(state["calls"]) == launchctl
    assert mac.lines("chgrp") == ["-R admin /var/log/reco3-agent"]

    first, _, label = row(mac)
    assert label == "com.reco3.agent"
    assert mac.processes() == [int(first)]
    os.kill(int(first), signal.SIGKILL)
    assert wait_for(lambda: row(mac)[0] not in {first, "-"})
    # One that is told to stop before it has begun to listen ends by the signal, and is started again.
    assert wait_for(lambda: starts(mac) == 2)

    assert mac.run("launchctl", "stop", "com.reco3.agent").returncode == 0
    assert row(mac)[:2] == ["-", "0"]
    assert mac.processes() == []
    assert mac.run("launchctl", "start", "com.reco3.agent").returncode == 0
    assert mac.processes() == [int(row(mac)[0])]
    assert wait_for(lambda: starts(mac) == 3)

    done = mac.script("uninstall_launchd.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mac.files() == before
    assert mac.processes() == []
    assert row(mac) == [""]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_rehearsal_changes_nothing(mac: MacRoot, shell: str) -> None:
    before = mac.files()

    done = mac.script("install_launchd.sh", *WORDS, "--dry-run", shell=shell)

    assert done.returncode == 0, done.stderr
    assert mac.files() == before
    assert "would run launchctl bootstrap system /Library/LaunchDaemons/com.reco3.agent.plist" in done.stdout
    assert "devkey" not in done.stdout + done.stderr


@pytest.mark.parametrize("script", ["install_launchd.sh", "uninstall_launchd.sh"])
@pytest.mark.parametrize(
    ("program", "line", "words"),
    [
        ("id", "echo 501", "Run the same with sudo in front"),
        ("sw_vers", None, "This is for macOS"),
        ("python3.14", "exit 1", "https://www.python.org/downloads/macos/"),
    ],
)
def test_what_it_cannot_work_without_is_told(
    mac: MacRoot, script: str, program: str, line: str | None, words: str
) -> None:
    before = mac.files()
    if line is None:
        (mac.root.parent / "bin" / program).unlink()
    else:
        mac.play(program, line)
    if program == "python3.14":
        hide_other_pythons(mac)

    done = mac.script(script, *WORDS)

    assert done.returncode == 2
    assert words in done.stderr
    assert ("launchctl bootout" in done.stderr) == (program == "python3.14" and script.startswith("un"))
    assert mac.files() == before


def test_help_needs_neither_root_nor_words(mac: MacRoot) -> None:
    mac.play("id", "echo 501")
    mac.python = ""

    done = mac.script("install_launchd.sh", "--help")

    assert done.returncode == 0, done.stderr
    assert "--token-file" in done.stdout
    assert "--user" in done.stdout


def test_a_python_that_is_named_is_taken_or_refused_and_no_other(mac: MacRoot) -> None:
    mac.play("old", "exit 1")
    mac.python = str(mac.root.parent / "bin/old")

    done = mac.script("install_launchd.sh", *WORDS)

    assert done.returncode == 2
    assert f"got {mac.python}" in done.stderr


def test_it_builds_no_single_file_elsewhere_than_on_a_mac(mac: MacRoot) -> None:
    done = mac.script("build_app.sh", "python3.14")

    assert done.returncode == 2
    assert "agent/linux/build_binary.sh" in done.stderr


def starts(mac: MacRoot) -> int:
    """How often the agent has started, by its log."""
    mac.run("true")
    return (mac.root / "var/log/reco3-agent/agent.log").read_text().count("agent_started")


def hide_other_pythons(mac: MacRoot) -> None:
    """This machine has Pythons of its own, which a Mac has not."""
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        mac.play(name, "exit 1")
    mac.python, mac.hidden = "", "usr/local/bin"


def wait_for(is_so: Callable[[], bool], tries: int = 100) -> bool:
    """Ask until it is so; each question starts a program, which takes its time."""
    return any(is_so() for _ in range(tries))
