"""`service:` against a real systemd: a Debian booted in a container, with a real agent in it.

RECO3_SOAK=1 runs it (some minutes, most of them for making the Debian); it needs root.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from systemd_container import booted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
]

SCENES = "/mnt/reco3/tests/soak/systemd_scenes.py"
PYTHONPATH = "/mnt/reco3/src:/mnt/reco3/tests/integration/agent:/mnt/libraries"
Scenes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    with booted(tmp_path_factory.mktemp("systemd")) as container:
        argv = ["/usr/bin/env", f"PYTHONPATH={PYTHONPATH}", "/usr/bin/python3", SCENES]
        played = container.call(argv, timeout_s=300)
        assert played.returncode == 0, played.stdout + played.stderr
        print(played.stdout)
        yield {scene["scene"]: scene for scene in map(json.loads, played.stdout.splitlines())}


def test_a_unit_is_restarted_once_and_runs_as_another_process(scenes: Scenes) -> None:
    before, after = scenes["start"], scenes["restart"]

    result = after["report"]["result"]
    assert after["report"]["status"] == "completed", result
    assert (after["state"], after["starts"] - before["starts"]) == ("active", 1)
    assert after["main_pid"] != before["main_pid"]
    assert result["argv"] == ["systemctl", "--no-ask-password", "restart", "--", "reco3-web.service"]
    assert result["before"]["service"]["pid"] == before["main_pid"]
    assert result["after"]["service"]["pid"] == after["main_pid"]
    assert [each["check"] for each in result["verification"]] == ["service", "up_s 1"]


def test_a_unit_that_dies_after_systemctl_said_yes_is_rolled_back(scenes: Scenes) -> None:
    result = scenes["broken"]["report"]["result"]

    assert result["exit_code"] == 0
    assert (result["code"], result["rolled_back"]) == ("verification_failed", True)
    assert scenes["broken"]["state"] == "active"


def test_a_unit_that_does_not_exist_fails_with_systemctls_own_words(scenes: Scenes) -> None:
    result = scenes["missing"]["report"]["result"]

    assert (result["code"], result["exit_code"]) == ("command_failed", 5)
    assert "reco3-gone.service not found" in result["error"]


def test_a_unit_is_stopped(scenes: Scenes) -> None:
    assert scenes["stop"]["report"]["status"] == "completed", scenes["stop"]["report"]
    assert scenes["stop"]["state"] in {"inactive", "failed"}


def test_a_restart_whose_agent_is_killed_meanwhile_is_found_done_and_done_once(scenes: Scenes) -> None:
    before, after = scenes["before the kill"], scenes["killed"]

    assert after["starts"] - before["starts"] == 1
    assert after["report"]["status"] == "completed", after["report"]
    assert after["main_pid"] != before["main_pid"]
