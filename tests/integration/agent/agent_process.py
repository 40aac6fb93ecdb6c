"""A real agent in a process of its own, with a config made for one test."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[3]
START = ROOT / "agent" / "common" / "reco_agent.py"
API_KEY = "devkey-of-the-test"


class AgentProcess:
    """One PC: its folder, its config, the program it watches (which counts its restarts), and its agent."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.config_path = folder / "config.yaml"
        self.app_log = folder / "app.log"
        self.log_path = folder / "agent.log"
        self.restarts_path = folder / "restarts"
        self.app_log.touch()
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._wrapper: tuple[str, ...] = ()
        self._config: dict[str, Any] = {
            "base_url": base_url,
            "agent_id": "pc-001",
            "api_key": API_KEY,
            "control": {
                "apply_enabled": True,
                "rate_limit": {"path": "limits.json"},
                "limits": {"cooldown_s": 0, "strong_per_hour": 1000},
            },
            "watch": {"processes": [self.program()], "log_files": [str(self.app_log)]},
            "intervals": {"heartbeat_sec": 0.3, "pull_sec": 0.3, "logs_sec": 0.3},
            "logging": {"level": "DEBUG", "file": str(self.log_path)},
        }

    def program(self, *, then: str = "true") -> dict[str, Any]:
        """A watched process whose restart leaves one more line in a file, and then does something."""
        script = f"echo restarted >> '{self.restarts_path}'; echo output; {then}"
        return {"name": "web", "restart_cmd": ["/bin/sh", "-c", script], "allow_restart": True, "verify": []}

    def configure(self, **sections: Any) -> None:
        for key, value in sections.items():
            is_section = isinstance(value, dict) and isinstance(self._config.get(key), dict)
            self._config[key] = self._config[key] | value if is_section else value

    def wrap(self, *argv: str) -> None:
        """Run the agent by another program, such as strace; a signal then goes to that program's child."""
        self._wrapper = argv

    def start(self) -> None:
        self.config_path.write_text(yaml.safe_dump(self._config), encoding="utf-8")
        self.config_path.chmod(0o600)
        self._process = subprocess.Popen(
            [*self._wrapper, sys.executable, str(START), str(self.config_path)],
            env={**os.environ, **self.environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(START), *words], capture_output=True, text=True, timeout=20, check=False
        )

    def stop(self) -> tuple[int, float]:
        """Ask it to stop; returns its exit code and how long it took."""
        process = self._running()
        began_at = time.monotonic()
        agent = psutil.Process(process.pid).children()[0] if self._wrapper else process
        agent.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert errors == ""
        self._process = None
        return process.returncode, time.monotonic() - began_at

    def has_died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            for child in psutil.Process(self._process.pid).children() if self._wrapper else []:
                child.kill()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restarts(self) -> int:
        """How often the watched program was restarted in truth."""
        return len(self.restarts_path.read_text(encoding="utf-8").splitlines()) if self.restarts_path.exists() else 0

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8") if self.log_path.exists() else ""

    def _running(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process


def make_order(command_id: str, type_: str, payload: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    is_strong = type_ in {"RESTART_PROCESS", "STOP_PROCESS", "ROLLBACK"}
    return {
        "id": command_id,
        "agent_id": "pc-001",
        "ts": "2026-01-01T00:00:00.000Z",
        "type": type_,
        "payload_json": json.dumps({} if payload is None else payload),
        "status": "delivered",
        "approved": is_strong,
        "approval": {"id": "a-1", "approved_by": "admin"} if is_strong else None,
    } | fields


def restart_order(command_id: str, **fields: Any) -> dict[str, Any]:
    return make_order(command_id, "RESTART_PROCESS", {"process": "web"}, **fields)
