"""A PC that is set up as it should be, for a test to break in one place."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import yaml

from approvers import key_file
from reco3.agent.doctor.findings import Finding, Level
from reco3.agent.doctor.verb import examine
from reco3.agent.journal import Journal, StateDirLock
from reco3.agent.pin_lines import item_text
from servers import free_port

SERVICES = {
    "reco3-agent.service": "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=55\nNRestarts=0\nJob=\n",
    "web.service": "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=56\nNRestarts=0\nJob=\n",
}
UNKNOWN_UNIT = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nJob=\n"
# In the words of a real one, which does not run in every place that tests run in.
SYSTEMCTL = """#!/bin/sh
for name; do :; done
if [ -f "{folder}/$name" ]; then cat "{folder}/$name"; else printf '{unknown}'; fi
"""


class HealthyPc:
    """Its folder, config, state, watched program and port, log, service manager; the lock is held as by an agent."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.config_path = folder / "config.yaml"
        self.state = folder / "state"
        self.journal = self.state / "agent.db"
        self.log = folder / "app.log"
        self.bin = folder / "bin"
        self.units = folder / "units"
        self.restart = self.bin / "restart-web"
        self.port = free_port()
        self.name = f"web{self.port}"
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._make_files()
        self._processes = [self._run(name) for name in (self.name, f"s{self.name}")]
        self.lock = StateDirLock(self.state)
        self.config = self._config(base_url)
        self.write()
        os.utime(self.config_path, (1_700_000_000, 1_700_000_000))
        assert self.lock.acquire()

    def _run(self, name: str) -> "subprocess.Popen[bytes]":
        program = self.bin / name
        shutil.copy("/bin/sleep", program)
        return subprocess.Popen([str(program), "600"])

    def _make_files(self) -> None:
        for folder in (self.state, self.bin, self.units):
            folder.mkdir(mode=0o700)
        self.log.touch()
        self.restart.write_text("#!/bin/sh\ntouch was-started\n")
        systemctl = self.bin / "systemctl"
        systemctl.write_text(SYSTEMCTL.format(folder=self.units, unknown=UNKNOWN_UNIT.replace("\n", "\\n")))
        for program in (self.restart, systemctl):
            program.chmod(0o755)
        for name, state in SERVICES.items():
            (self.units / name).write_text(state)
        journal = Journal(self.journal)
        journal.note_clock()
        journal.close()

    def _config(self, base_url: str) -> dict[str, Any]:
        return {
            "base_url": base_url,
            "agent_id": "pc-001",
            "api_key": "devkey",
            "control": {
                "apply_enabled": True,
                "approvals_required": 2,
                "approvers": [pinned("alice"), pinned("bob")],
            },
            "watch": {
                "processes": [
                    {
                        "name": self.name,
                        "restart_cmd": [str(self.restart)],
                        "allow_restart": True,
                        "verify": [{"tcp_port": self.port}],
                    },
                    {"name": f"s{self.name}", "service": "web.service", "allow_restart": True},
                ],
                "log_files": [str(self.log)],
            },
            "logging": {"file": str(self.folder / "agent.log")},
        }

    def rule(self, **values: Any) -> None:
        """Change the rule of the watched program."""
        self.config["watch"]["processes"][0] |= values

    def control(self, **values: Any) -> None:
        self.config["control"] |= values

    def write(self) -> None:
        """Write the config, as old as it was."""
        self.config_path.touch(mode=0o600)
        self.config_path.write_text(yaml.safe_dump(self.config), encoding="utf-8")
        os.utime(self.config_path, (1_700_000_000, 1_700_000_000))

    def examine(self, *, is_offline: bool = True) -> list[Finding]:
        return examine(self.config_path, is_offline=is_offline)

    def give_to(self, uid: int, *paths: Path) -> None:
        for path in paths:
            os.chown(path, uid, uid)

    def close(self) -> None:
        self.lock.release()
        self._listener.close()
        for process in self._processes:
            process.kill()
            process.wait()


def pinned(name: str) -> dict[str, str]:
    """An entry of `control.approvers`."""
    entry: dict[str, str] = yaml.safe_load(item_text(key_file(name).pin))
    return entry


def levels(findings: list[Finding], code: str) -> set[Level]:
    return {one.level for one in findings if one.code == code}


def the(findings: list[Finding], code: str) -> Finding:
    """The worst finding of a code."""
    return next(one for one in findings if one.code == code)
