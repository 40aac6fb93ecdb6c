"""The whole product in one folder: a real server, a real agent, a real demo service, on loopback."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

from databases import put_empty_database
from reco3.demo import service

AGENT_ID = "pc-001"
AGENT_KEY = "devkey"
ResultT = TypeVar("ResultT")
LOOK_EVERY_S = 0.05
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0


def wait_until(look: Callable[[], ResultT], *, timeout_s: float, what: str) -> ResultT:
    """The first truthy answer of `look`."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(LOOK_EVERY_S)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class World:
    """One PC and one server; every part can be stopped, killed and started again."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def service_name(self) -> str:
        """A name of its own: other worlds on this machine watch a service too."""
        return f"demo-{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.service_name}.log"

    @property
    def rate_limit_path(self) -> Path:
        return self.folder / "rate-limit.json"

    def start_server(self) -> None:
        database = self.folder / "instance/reco3.db"
        if not database.exists():
            put_empty_database(database)
        environment = {
            "RECO3_TEST_MODE": "1",
            "RECO3_REQUIRE_APPROVAL": "1",
            "RECO3_AGENT_KEYS": f"{AGENT_ID}={AGENT_KEY}",
            "PORT": str(self.port),
            **self.environment,
        }
        self._start("server", [sys.executable, "-m", "reco3.cli", "server"], environment)
        wait_until(self._server_answers, timeout_s=START_TIMEOUT_S, what="the server answers")

    def start_service(self) -> None:
        self.tell_service("start")

    def fail_service(self) -> None:
        self.tell_service("fail")

    def start_agent(self, *, apply_enabled: bool = True) -> None:
        config = self.folder / "config.yaml"
        config.write_text(self._agent_config(apply_enabled=apply_enabled), encoding="utf-8")
        self._start("agent", [sys.executable, "-m", "reco3.cli", "agent", str(config)], {})

    def restart_agent(self) -> None:
        """Stop the agent and start it with its config as it is by now."""
        self.stop("agent")
        self.start_again()

    def start_again(self) -> None:
        """Start a stopped agent with its config as it is."""
        self._start("agent", [sys.executable, "-m", "reco3.cli", "agent", str(self.folder / "config.yaml")], {})

    def stop(self, name: str) -> None:
        part = self.parts.pop(name)
        part.send_signal(signal.SIGTERM)
        assert part.wait(STOP_TIMEOUT_S) == 0, self.output_of(name)

    def kill(self, name: str) -> None:
        part = self.parts.pop(name)
        part.kill()
        part.wait()

    def tear_down(self) -> None:
        for name in list(self.parts):
            self.kill(name)
        self.tell_service("stop")

    def output_of(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> dict[str, Any]:
        answer = requests.get(self.url + path, timeout=5)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def post(self, path: str, body: object) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=5)

    def agent(self) -> dict[str, Any] | None:
        agents = self.get("/api/r3/agents")["agents"]
        return agents[0] if agents else None

    def is_online(self) -> bool:
        agent = self.agent()
        return agent is not None and agent["status"] == "ONLINE"

    def wait_online(self, timeout_s: float = 10.0) -> None:
        wait_until(self.is_online, timeout_s=timeout_s, what="the PC is ONLINE")

    def mode(self) -> str | None:
        agent = self.agent()
        return agent["mode"] if agent else None

    def service_pid(self) -> int:
        return int((self.folder / f"{self.service_name}.pid").read_text())

    def request(self, command_type: str, payload: object) -> str:
        answer = self.post("/api/agent-commands", {"agent_id": AGENT_ID, "type": command_type, "payload": payload})
        assert answer.status_code == 200, answer.text
        command_id: str = answer.json()["id"]
        return command_id

    def approve(self, command_id: str) -> None:
        answer = self.post(f"/api/agent-commands/{command_id}/approve", {})
        assert answer.status_code == 200, answer.text

    def command(self, command_id: str) -> dict[str, Any]:
        commands = self.get("/api/agent-commands?limit=100")["commands"]
        return next(command for command in commands if command["id"] == command_id)

    def wait_ended(self, command_id: str, timeout_s: float = 10.0) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            command = self.command(command_id)
            return command if command["status"] in ("completed", "failed") else None

        return wait_until(ended, timeout_s=timeout_s, what=f"command {command_id} has ended") or {}

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.folder}/instance/reco3.db?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()

    def forge_approval(self, command_id: str) -> None:
        """Do to the live database what somebody does who has taken the server."""
        row = ("forged", command_id, "mallory", "2026-01-01T00:00:00.000Z")
        with sqlite3.connect(self.folder / "instance/reco3.db", timeout=10) as connection:
            connection.execute(
                "INSERT INTO approvals (id, command_id, approved_by, approved_at) VALUES (?, ?, ?, ?)", row
            )
        connection.close()

    def forget_proofs(self) -> None:
        """Let every session's last proof be long ago."""
        with sqlite3.connect(self.folder / "instance/reco3.db", timeout=10) as connection:
            connection.execute("UPDATE sessions SET proved_at = NULL")

    def audit_of(self, ref_id: str) -> list[str]:
        rows = self.sql(f"SELECT event_type FROM audit_log WHERE ref_id = '{ref_id}' ORDER BY id")
        return [row[0] for row in rows]

    def _start(self, name: str, argv: list[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self.parts[name] = subprocess.Popen(
                argv, cwd=self.folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )

    def _server_answers(self) -> bool:
        assert self.parts["server"].poll() is None, self.output_of("server")
        try:
            return requests.get(self.url + "/health", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def tell_service(self, action: str) -> None:
        subprocess.run(self._service_argv(action), check=True, capture_output=True, timeout=START_TIMEOUT_S)

    def _service_argv(self, action: str) -> list[str]:
        script = self.folder / f"{self.service_name}.py"
        if not script.exists():
            text = Path(service.__file__).read_text(encoding="utf-8")
            script.write_text(text.replace(f'NAME = "{service.NAME}"', f'NAME = "{self.service_name}"'))
        return [sys.executable, "-S", "-E", str(script), action, "--dir", str(self.folder)]

    def _agent_config(self, *, apply_enabled: bool) -> str:
        def argv(action: str) -> str:
            return json.dumps(self._service_argv(action))

        return f"""\
base_url: "{self.url}"
agent_id: "{AGENT_ID}"
api_key: "{AGENT_KEY}"
version: "1.0"
control:
  apply_enabled: {"true" if apply_enabled else "false"}
  limits: {{cooldown_s: 0}}
  rate_limit: {{driver: "file", path: "{self.rate_limit_path}"}}
watch:
  processes:
    - name: "{self.service_name}"
      start_cmd: {argv("start")}
      stop_cmd: {argv("stop")}
      restart_cmd: {argv("restart")}
      allow_restart: true
  log_files: ["{self.log_path}"]
"""
