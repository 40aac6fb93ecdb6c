"""A PC makes its key, comes in and changes it: real processes against the real server, cut short at every step."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_process import START
from scripted_server import LOST, Answer, Request, ScriptedServer, answer

from builders import cases
from reco3.agent.config import load_config
from reco3.agent.key_verbs import enrol_verb
from servers import ROOT, ServerProcess, agent_headers

OPERATOR = {"X-API-Key": "the-operators-key"}
FAILPOINTS = ROOT / "tests" / "failpoints"
UNTIL_S = 20.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server with an operator's key."""
    process = ServerProcess(tmp_path_factory.mktemp("hub"), API_KEY=OPERATOR["X-API-Key"]).start()
    yield process
    process.stop()


class Pc:
    """One PC: its folder, its config, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "config.yaml"
        self.token_path = folder / "token"

    def hand_over(self, hub: ServerProcess, **wanted: Any) -> None:
        token = hub.post("/api/enrolment-tokens", wanted, **OPERATOR).json["token"]
        self.token_path.write_text(token + "\n", encoding="ascii")
        self.token_path.chmod(0o600)

    def run(self, *words: str, at: str = "", given: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the agent's command line; `at` names the moment at which it is killed."""
        killer = {"PYTHONPATH": str(FAILPOINTS), "RECO3_FAILPOINT": at} if at else {}
        return subprocess.run(
            [sys.executable, str(START), *words],
            env={**os.environ, **killer},
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def enrol(self, url: str, *words: str, at: str = "") -> "subprocess.CompletedProcess[str]":
        command = ["enrol", str(self.config_path), "--server", url, "--token-file", str(self.token_path), *words]
        return self.run(*command, at=at)

    def rotate(self, *, at: str = "") -> "subprocess.CompletedProcess[str]":
        return self.run("rotate-key", str(self.config_path), at=at)

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, str(START), str(self.config_path)], stderr=subprocess.PIPE, text=True)

    @property
    def key(self) -> str:
        return load_config(self.config_path).api_key

    def files(self) -> list[str]:
        return sorted(entry.name for entry in self.folder.iterdir() if entry.name.startswith("config"))


@pytest.fixture
def pc(tmp_path: Path) -> Pc:
    return Pc(tmp_path)


def opens(hub: ServerProcess, agent_id: str, key: str) -> bool:
    """Whether the server takes this key, as a request that changes nothing tells."""
    headers, report = agent_headers(agent_id, key), {"command_id": "none", "status": "completed"}
    return hub.request("POST", "/agent/report", body=report, headers=headers).status == 404


def status_of(hub: ServerProcess, agent_id: str) -> str | None:
    agents = hub.get("/api/r3/agents", **OPERATOR).json["agents"]
    return next((agent["status"] for agent in agents if agent["agent_id"] == agent_id), None)


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + UNTIL_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_from_a_token_to_online(hub: ServerProcess, pc: Pc) -> None:
    pc.hand_over(hub, agent_id="pc-new")

    done = pc.enrol(hub.base_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert "pc-new is enrolled at http://127.0.0.1" in done.stdout
    assert f"reco3 agent {pc.config_path}" in done.stdout
    assert pc.key not in done.stdout
    assert pc.files() == ["config.yaml"]
    assert pc.config_path.stat().st_mode & 0o777 == 0o600
    config = load_config(pc.config_path)
    assert (config.agent_id, config.control.apply_enabled, config.platform) == ("pc-new", False, "linux")
    assert "# default: strong commands are blocked" in pc.config_path.read_text(encoding="utf-8")
    agent = pc.start()
    try:
        wait_for(lambda: status_of(hub, "pc-new") == "ONLINE")
    finally:
        agent.terminate()
        agent.communicate(timeout=20)


def test_a_config_that_is_there_keeps_all_but_three_values(hub: ServerProcess, pc: Pc) -> None:
    before = (
        "# ours\nbase_url: http://127.0.0.1:9   # the old one\nagent_id: pc-kept\napi_key: old  # secret\n"
        "control: {apply_enabled: true, safe_modes: [NORMAL]}\nwatch: {processes: [{name: web}]}\n"
    )
    pc.config_path.write_text(before, encoding="utf-8")
    pc.hand_over(hub)

    assert pc.enrol(hub.base_url).returncode == 0

    after = pc.config_path.read_text(encoding="utf-8")
    same = [line for line in before.splitlines() if line in after.splitlines()]
    assert len(same) == 3
    assert "# the old one" in after
    assert "# secret" in after
    values = yaml.safe_load(after)
    assert values["agent_id"] == "pc-kept"
    assert values["control"]["apply_enabled"] is True
    assert opens(hub, "pc-kept", values["api_key"])
    assert pc.config_path.stat().st_mode & 0o777 == 0o600


def test_a_token_is_taken_from_standard_input(hub: ServerProcess, pc: Pc) -> None:
    pc.hand_over(hub)
    words = ["enrol", str(pc.config_path), "--server", hub.base_url, "--agent-id", "pc-piped", "--token-file", "-"]

    done = pc.run(*words, given=pc.token_path.read_text(encoding="ascii"))

    assert (done.returncode, done.stderr) == (0, "")
    assert opens(hub, "pc-piped", pc.key)


@pytest.mark.parametrize("moment", ["enrol_key_written", "enrol_answered", "key_in_place"])
def test_an_enrolment_that_was_killed_is_finished_by_the_next_run(hub: ServerProcess, pc: Pc, moment: str) -> None:
    agent_id = f"pc-{moment.replace('_', '-')}"
    pc.hand_over(hub)

    killed = pc.enrol(hub.base_url, "--agent-id", agent_id, at=moment)

    assert killed.returncode == -9
    if moment == "key_in_place":
        assert opens(hub, agent_id, pc.key)
        return
    kept = load_config(pc.config_path.with_name("config.yaml.enrolling")).api_key
    assert not pc.config_path.exists()
    assert pc.config_path.with_name("config.yaml.enrolling").stat().st_mode & 0o777 == 0o600
    done = pc.enrol(hub.base_url, "--agent-id", agent_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert pc.key == kept
    assert opens(hub, agent_id, kept)
    assert pc.files() == ["config.yaml"]


def test_a_run_that_was_killed_after_the_servers_yes_is_finished_by_name(hub: ServerProcess, pc: Pc) -> None:
    pc.hand_over(hub, agent_id="pc-named-by-token")
    assert pc.enrol(hub.base_url, at="enrol_answered").returncode == -9

    without = pc.enrol(hub.base_url)
    by_name = pc.enrol(hub.base_url, "--agent-id", "pc-named-by-token")

    assert without.returncode == 1
    assert "--agent-id with this PC's name finishes it" in without.stderr
    assert (by_name.returncode, by_name.stderr) == (0, "")
    assert opens(hub, "pc-named-by-token", pc.key)


def test_an_answer_that_was_lost_loses_no_key(server: ScriptedServer, pc: Pc) -> None:
    pc.token_path.write_text("a-token", encoding="ascii")
    pc.token_path.chmod(0o600)
    hashes: list[str] = []

    def lose(request: Request) -> Answer:
        hashes.append(request.body["key_hash"])
        return LOST

    server.rules["/agent/enrol"] = lose
    server.rules["/agent/key"] = lambda _: answer(200, {"agent_id": "pc-001", "rotating": False})

    first = pc.enrol(server.url, "--agent-id", "pc-001")
    second = pc.enrol(server.url, "--agent-id", "pc-001")

    assert first.returncode == 1
    assert "run the same again, which finishes it" in first.stderr
    assert second.returncode == 0
    assert hashes == [hashlib.sha256(pc.key.encode()).hexdigest()]


def test_the_key_never_leaves_the_pc_before_it_is_used(server: ScriptedServer, pc: Pc) -> None:
    pc.token_path.write_text("a-token", encoding="ascii")
    server.rules["/agent/enrol"] = lambda _: answer(200, {"agent_id": "pc-001", "fleet_id": "f" * 22})

    done = pc.enrol(server.url, "--agent-id", "pc-001")

    assert done.returncode == 0
    assert "others can read the token" in done.stderr
    sent = json.dumps([(request.headers, request.body) for request in server.requests])
    assert pc.key not in sent
    assert hashlib.sha256(pc.key.encode()).hexdigest() in sent


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"error": "unauthorized", "message": "no"}, "it was used, it is older than 15 minutes"),
        (
            409,
            {"error": "already_enrolled", "message": "make another \x1b[31mtoken"},
            "409 already_enrolled: make another ?",
        ),
        (404, {"error": "not_found", "message": "no"}, "does not know enrolment"),
        (200, {"agent_id": "pc-other", "fleet_id": "f"}, "expected the name that was asked for"),
        (200, {"agent_id": "../x", "fleet_id": "f"}, "expected `agent_id`"),
        (200, {"agent_id": "pc-001", "fleet_id": "\x1b[31m"}, "a fleet's id"),
    ],
)
def test_a_servers_no_leaves_no_config_and_says_why(
    server: ScriptedServer, pc: Pc, status: int, body: dict[str, str], says: str
) -> None:
    pc.token_path.write_text("a-token", encoding="ascii")
    pc.token_path.chmod(0o600)
    server.rules["/agent/enrol"] = lambda _: answer(status, body)

    done = pc.enrol(server.url, "--agent-id", "pc-001")

    assert done.returncode == 1
    assert says in done.stderr
    assert "\x1b" not in done.stderr
    assert not pc.config_path.exists()
    assert pc.files() == ([] if status >= 400 else ["config.yaml.enrolling"])


@pytest.mark.parametrize("case", cases("agent_enrol_bad_usage"), ids=lambda case: case["name"])
def test_bad_usage_is_refused_and_repeats_no_token(
    case: dict[str, Any], pc: Pc, capsys: pytest.CaptureFixture[str]
) -> None:
    pc.token_path.write_text("a-token", encoding="ascii")
    pc.token_path.chmod(0o600)
    text = pc.folder / "text"
    text.write_text("several words\nand lines", encoding="ascii")
    names = {"CONFIG": str(pc.config_path), "TOKEN": str(pc.token_path), "TEXT": str(text)}

    code = enrol_verb([names.get(word, word) for word in case["argv"]])

    printed = capsys.readouterr()
    assert code == 2
    assert case["says"] in printed.err
    assert "sekrit" not in printed.err + printed.out
    assert pc.files() == []


def test_a_config_that_nobody_understands_is_refused_before_the_token_is_spent(hub: ServerProcess, pc: Pc) -> None:
    pc.config_path.write_text("agent_id: pc-odd\nno_such_key: 1\n", encoding="utf-8")
    pc.hand_over(hub)

    refused = pc.enrol(hub.base_url)

    assert refused.returncode == 2
    assert "no_such_key" in refused.stderr
    assert pc.files() == ["config.yaml"]
    pc.config_path.unlink()
    assert pc.enrol(hub.base_url, "--agent-id", "pc-odd").returncode == 0


def test_plain_http_to_another_machine_needs_the_administrators_word(pc: Pc) -> None:
    pc.token_path.write_text("a-token", encoding="ascii")
    pc.token_path.chmod(0o600)
    url = "http://192.0.2.1:9"

    refused = pc.enrol(url, "--agent-id", "pc-001")
    pc.config_path.write_text("agent_id: pc-001\n", encoding="utf-8")
    hidden = pc.enrol(url, "--allow-insecure-http")

    assert [refused.returncode, hidden.returncode] == [2, 2]
    assert "allow_insecure_http: true accepts that" in refused.stderr
    assert "say allow_insecure_http: true in this one" in hidden.stderr


def enrolled(hub: ServerProcess, pc: Pc, agent_id: str) -> str:
    pc.hand_over(hub)
    assert pc.enrol(hub.base_url, "--agent-id", agent_id).returncode == 0
    return pc.key


def test_a_rotation_leaves_both_keys_until_the_agent_has_restarted(hub: ServerProcess, pc: Pc) -> None:
    old = enrolled(hub, pc, "pc-rotating")

    done = pc.rotate()

    assert (done.returncode, done.stderr) == (0, "")
    assert "Restart the agent now" in done.stdout
    assert pc.key != old
    assert opens(hub, "pc-rotating", old)
    agent = pc.start()
    try:
        wait_for(lambda: status_of(hub, "pc-rotating") == "ONLINE")
    finally:
        agent.terminate()
        agent.communicate(timeout=20)
    assert not opens(hub, "pc-rotating", old)
    assert opens(hub, "pc-rotating", pc.key)
    assert pc.config_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("moment", ["rotation_key_written", "rotation_announced", "key_in_place"])
def test_a_rotation_that_was_killed_leaves_a_good_key_and_is_finished_by_the_next_run(
    hub: ServerProcess, pc: Pc, moment: str
) -> None:
    agent_id = f"pc-{moment.replace('_', '-')}-r"
    old = enrolled(hub, pc, agent_id)

    assert pc.rotate(at=moment).returncode == -9

    assert opens(hub, agent_id, old)  # Whatever the agent was started with goes on.
    if moment == "key_in_place":
        assert pc.key != old
    else:
        assert pc.key == old
        assert pc.rotate().returncode == 0
    assert pc.files() == ["config.yaml"]
    assert opens(hub, agent_id, pc.key)
    assert not opens(hub, agent_id, old)


def test_a_next_key_that_is_the_only_one_already_is_put_in_place(hub: ServerProcess, pc: Pc) -> None:
    old = enrolled(hub, pc, "pc-restored")
    assert pc.rotate(at="rotation_announced").returncode == -9
    following = load_config(pc.config_path.with_name("config.yaml.rotating")).api_key
    assert opens(hub, "pc-restored", following)
    assert not opens(hub, "pc-restored", old)

    done = pc.rotate()

    assert (done.returncode, done.stderr) == (0, "")
    assert pc.key == following


def test_a_revoked_pc_cannot_rotate_and_hears_what_to_do(hub: ServerProcess, pc: Pc) -> None:
    old = enrolled(hub, pc, "pc-revoked")
    hub.post("/api/r3/agent/pc-revoked/revoke-key", {"reason": "stolen"}, **OPERATOR)

    done = pc.rotate()

    assert done.returncode == 1
    assert "it was revoked or replaced" in done.stderr
    assert "reco3 agent enrol" in done.stderr
    assert pc.key == old
    assert pc.files() == ["config.yaml"]


def test_an_agent_whose_key_is_revoked_says_what_happened_and_what_to_do(hub: ServerProcess, pc: Pc) -> None:
    enrolled(hub, pc, "pc-watched")
    log = pc.folder / "agent.log"
    text = pc.config_path.read_text(encoding="utf-8").replace('file: ""', f'file: "{log}"')
    pc.config_path.write_text(text.replace("heartbeat_sec: 10", "heartbeat_sec: 0.3"), encoding="utf-8")
    agent = pc.start()
    try:
        wait_for(lambda: status_of(hub, "pc-watched") == "ONLINE")
        hub.post("/api/r3/agent/pc-watched/revoke-key", {"reason": "stolen"}, **OPERATOR)
        wait_for(lambda: "key_refused" in log.read_text(encoding="utf-8"))
    finally:
        agent.terminate()
        agent.communicate(timeout=20)

    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "key_refused" in line]
    assert len(lines) == 1
    assert "this key was good until now: an operator revoked or replaced it" in lines[0]
    assert "reco3 agent enrol CONFIG --server URL --token-file FILE" in lines[0]


def asked(hub: ServerProcess, agent_id: str, command_type: str, payload: dict[str, str]) -> str:
    body = {"agent_id": agent_id, "type": command_type, "payload": payload}
    command_id: str = hub.post("/api/agent-commands", body, **OPERATOR).json["id"]
    return command_id


def command_status(hub: ServerProcess, command_id: str) -> str:
    status: str = hub.get(f"/api/agent-commands/{command_id}", **OPERATOR).json["status"]
    return status


def stir(hub: ServerProcess, agent_id: str) -> None:
    """Have one of the agents carry out something harmless, after which it pulls again."""
    command_id = asked(hub, agent_id, "SET_MODE", {"mode": "NORMAL"})
    wait_for(lambda: command_status(hub, command_id) == "completed")


def is_suspected(hub: ServerProcess, agent_id: str) -> bool:
    return bool(hub.get(f"/api/r3/agent/{agent_id}/key", **OPERATOR).json["key"]["clone_suspected"])


def test_two_agents_with_one_key_are_noticed_and_get_nothing_strong(hub: ServerProcess, pc: Pc) -> None:
    enrolled(hub, pc, "pc-cloned")
    copy = Pc(pc.folder / "copy")
    copy.folder.mkdir()
    copy.config_path.write_bytes(pc.config_path.read_bytes())
    agents = [pc.start(), copy.start()]
    try:
        wait_for(lambda: status_of(hub, "pc-cloned") == "ONLINE")
        wait_for(lambda: stir(hub, "pc-cloned") or is_suspected(hub, "pc-cloned"))
        strong = asked(hub, "pc-cloned", "RESTART_PROCESS", {"process": "nginx"})
        hub.post(f"/api/agent-commands/{strong}/approve", {}, **OPERATOR)
        for _ in range(3):
            stir(hub, "pc-cloned")
        assert command_status(hub, strong) == "pending"
        copied = agents.pop()
        copied.terminate()
        copied.communicate(timeout=20)
        hub.post("/api/r3/agent/pc-cloned/clear-clone", {"reason": "the copy is gone"}, **OPERATOR)
        wait_for(lambda: command_status(hub, strong) == "failed")  # The PC refuses: it allows no restart.
    finally:
        for agent in agents:
            agent.terminate()
            agent.communicate(timeout=20)
    incidents = hub.get("/api/incidents", **OPERATOR).json["incidents"]
    assert [one["code"] for one in incidents if one["agent_id"] == "pc-cloned"] == ["CLONE_SUSPECTED"]


def test_an_agent_that_begins_a_new_journal_is_no_clone(hub: ServerProcess, pc: Pc) -> None:
    enrolled(hub, pc, "pc-reinstalled")
    for state in ("state", "another-state"):
        text = pc.config_path.read_text(encoding="utf-8")
        pc.config_path.write_text(f"state_dir: {state}\n" + text.replace("state_dir: state\n", ""), encoding="utf-8")
        agent = pc.start()
        try:
            wait_for(lambda: status_of(hub, "pc-reinstalled") == "ONLINE")
            for _ in range(3):
                stir(hub, "pc-reinstalled")
        finally:
            agent.terminate()
            agent.communicate(timeout=20)

    assert not is_suspected(hub, "pc-reinstalled")
