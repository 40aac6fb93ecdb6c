"""Played within the container: a real agent, a server that tells it what to do, and real units. Prints JSON.

Each scene leaves one line with what the agent reported and what systemd and the service itself say.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from agent_process import AgentProcess, make_order
from scripted_server import ScriptedServer

WEB = """\
import pathlib, signal, sys
with pathlib.Path("/srv/starts").open("a") as starts:
    starts.write("x")
if pathlib.Path("/srv/broken").exists():
    sys.exit("broken release")
signal.pause()
"""
UNIT = "[Service]\nExecStart=/usr/bin/python3 /srv/reco3-web\n"


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()


def starts() -> int:
    return len(Path("/srv/starts").read_text()) if Path("/srv/starts").exists() else 0


def tell(scene: str, report: dict[str, Any]) -> None:
    main_pid, state = systemctl("show", "-P", "MainPID", "reco3-web"), systemctl("is-active", "reco3-web")
    facts = {"scene": scene, "report": report, "state": state, "main_pid": int(main_pid), "starts": starts()}
    print(json.dumps(facts), flush=True)


def make_unit(extra: str = "") -> None:
    Path("/etc/systemd/system/reco3-web.service").write_text(UNIT + extra)
    systemctl("daemon-reload")


def main() -> None:
    Path("/srv/reco3-web").write_text(WEB)
    make_unit()
    systemctl("start", "reco3-web")
    server = ScriptedServer()
    agent = AgentProcess(Path(tempfile.mkdtemp()), server.url)
    fix = ["/bin/sh", "-c", "rm /srv/broken; systemctl reset-failed reco3-web; systemctl restart reco3-web"]
    program = {
        "name": "reco3-web",
        "service": "reco3-web.service",
        "allow_restart": True,
        "verify": [{"up_s": 1}],
        "verify_timeout_s": 5,
        "on_failure": "rollback",
        "rollback": fix,
    }
    missing = {"name": "gone", "service": "reco3-gone.service", "allow_restart": True}
    agent.configure(watch={"processes": [program, missing]}, control={"limits": {"cooldown_s": 0}})
    agent.start()
    server.wait_until(starts)
    tell("start", {})
    play(server, agent)
    agent.kill()
    server.go_down()


def play(server: ScriptedServer, agent: AgentProcess) -> None:
    ask(server, "restart", "RESTART_PROCESS")
    Path("/srv/broken").touch()
    ask(server, "broken", "RESTART_PROCESS")
    ask(server, "missing", "RESTART_PROCESS", process="gone")
    ask(server, "stop", "STOP_PROCESS")
    systemctl("start", "reco3-web")
    make_unit("ExecStop=/bin/sleep 4\n")
    kill_in_the_middle(server, agent)


def ask(server: ScriptedServer, scene: str, type_: str, *, process: str = "reco3-web") -> None:
    server.deliver(make_order(scene, type_, {"process": process}))
    tell(scene, server.wait_for_report(scene))


def kill_in_the_middle(server: ScriptedServer, agent: AgentProcess) -> None:
    """The agent dies while systemd is stopping the unit, and starts again before systemd has started it."""
    tell("before the kill", {})
    server.deliver(make_order("killed", "RESTART_PROCESS", {"process": "reco3-web"}))
    deadline = time.monotonic() + 20
    while systemctl("is-active", "reco3-web") != "deactivating":
        assert time.monotonic() < deadline, "systemd never began to stop the unit"
    agent.kill()
    agent.start()
    tell("killed", server.wait_for_report("killed"))


if __name__ == "__main__":
    main()
