"""The measurements start real servers: what they are said to leave out they do leave out, and a run yields results."""

import json
import subprocess
from pathlib import Path

import pytest

from ground import our_server, write_keys
from machine import machine_facts
from processes import BIN, ROOT, fetch, run_script

HEARTBEAT = json.dumps({"metrics": {"cpu_percent": 12.5}}).encode()


@pytest.mark.parametrize(("script", "stored"), [("bench/bare_server.py", 0), ("app.py", 1)])
def test_the_bare_server_answers_a_heartbeat_and_stores_nothing_where_the_server_stores_it(
    tmp_path: Path, script: str, stored: int
) -> None:
    keys = tmp_path / "keys.txt"
    write_keys(keys, 1)
    agent_id, _, key = keys.read_text().strip().partition("=")
    headers = {"X-AGENT-ID": agent_id, "X-API-Key": key, "Content-Type": "application/json"}

    with our_server(tmp_path / "server", script, keys_file=keys) as server:
        answer = json.loads(fetch(f"{server.base_url}/agent/heartbeat", headers=headers, body=HEARTBEAT))
        count = server.agent_count()

    assert answer["status"] == "ok"
    assert count == stored


def test_the_bare_server_still_refuses_a_wrong_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    write_keys(keys, 1)
    headers = {"X-AGENT-ID": "sim-000000", "X-API-Key": "wrong", "Content-Type": "application/json"}

    with (
        our_server(tmp_path / "server", "bench/bare_server.py", keys_file=keys) as server,
        pytest.raises(OSError, match="401"),
    ):
        fetch(f"{server.base_url}/agent/heartbeat", headers=headers, body=HEARTBEAT)


def test_a_section_of_its_own_is_measured_and_written_where_it_was_asked_for(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    argv = [str(BIN / "python"), str(ROOT / "bench/run.py"), "--quick", "--only", "history", "--output", str(results)]

    run_script(argv, limit_s=200)

    text = results.read_text()
    assert "## Bytes that a PC's history takes" in text
    assert "bench/history_size.py" in text
    assert "Not measured" not in text


def test_a_measured_process_and_all_it_started_end_with_the_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    run_script(["/bin/sh", "-c", f"tail -f /dev/null & echo $! > {pid_file}"], limit_s=30)

    pid = pid_file.read_text().strip()
    seen = subprocess.run(["ps", "-p", pid, "-o", "stat="], capture_output=True, text=True, check=False)
    assert seen.stdout.strip()[:1] in ("", "Z")


def test_the_facts_of_the_machine_say_what_a_synced_write_costs(tmp_path: Path) -> None:
    facts = dict(machine_facts(tmp_path))

    assert "fdatasync: p50" in facts["disk"]
    assert list(tmp_path.iterdir()) == []
