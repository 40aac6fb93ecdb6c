"""`reco3 demo`: a server, an agent and a small real service on this machine, until Ctrl-C.

Everything it shows is real; everything it makes stays in the folder `instance`.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from reco3.demo import service

AGENT_ID = "pc-001"
AGENT_KEY = "devkey"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.1


class DemoFailed(Exception):
    """A part of the demo did not start or stopped by itself; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays."""

    folder: Path
    url: str
    environment: Mapping[str, str]
    apply_enabled: bool

    @property
    def config_path(self) -> Path:
        """The demo agent's config."""
        return self.folder / "agent.yaml"

    def service_argv(self, action: str) -> list[str]:
        """How the demo service is told to start, stop, restart or fail."""
        return service.command(action, str(self.folder))


def main(argv: Sequence[str] | None = None) -> int:
    """Play the demo until Ctrl-C; returns its exit code."""
    parser = argparse.ArgumentParser(prog="reco3 demo", description=__doc__)
    parser.add_argument("--locked", action="store_true", help="set control.apply_enabled to false on the demo's PC")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _play(_stage(os.environ, apply_enabled=not options.locked))
    except KeyboardInterrupt:
        return 0
    except DemoFailed as err:
        print(f"reco3 demo: {err}", file=sys.stderr)
        return 1
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stage(environment: Mapping[str, str], *, apply_enabled: bool) -> Stage:
    defaults = {
        "RECO3_TEST_MODE": "1",
        "RECO3_REQUIRE_APPROVAL": "1",
        "RECO3_AGENT_KEYS": f"{AGENT_ID}={AGENT_KEY}",
        "RECO3_HOST": "127.0.0.1",
        "PORT": "5001",
    }
    combined = {**defaults, **environment}
    url = f"http://{combined['RECO3_HOST']}:{combined['PORT']}"
    folder = Path("instance/demo").resolve()
    return Stage(folder, url, combined, apply_enabled)


def _play(stage: Stage) -> None:
    stage.folder.mkdir(parents=True, exist_ok=True)
    stage.config_path.write_text(_agent_config(stage), encoding="utf-8")
    with contextlib.ExitStack() as running:
        server = running.enter_context(_child("server", [sys.executable, "-m", "reco3.cli", "server"], stage))
        _wait_for(lambda: _answers(stage.url + "/health"), server, "the server")
        running.enter_context(_demo_service(stage))
        agent_argv = [sys.executable, "-m", "reco3.cli", "agent", str(stage.config_path)]
        agent = running.enter_context(_child("agent", agent_argv, stage))
        _wait_for(lambda: _is_online(stage.url), agent, "the agent")
        print(_welcome(stage), flush=True)
        _watch({"server": server, "agent": agent})


@contextlib.contextmanager
def _child(name: str, argv: Sequence[str], stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    log_path = stage.folder / f"{name}.out"
    with log_path.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops its parts in order.
        child = subprocess.Popen(
            argv,
            env=dict(stage.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        _stop(child)


@contextlib.contextmanager
def _demo_service(stage: Stage) -> Iterator[None]:
    _run_service(stage, "start")
    try:
        yield
    finally:
        _run_service(stage, "stop")


def _run_service(stage: Stage, verb: str) -> None:
    done = subprocess.run(
        stage.service_argv(verb), capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise DemoFailed(f"the demo service did not {verb}: {(done.stdout + done.stderr).strip()}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_for(is_ready: Callable[[], bool], child: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if child.poll() is not None or time.monotonic() > deadline:
            log_path = Path("instance/demo") / f"{name.removeprefix('the ')}.out"
            last = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise DemoFailed(f"{name} did not start. {' '.join(last)} (all of it: {log_path})")
        time.sleep(LOOK_EVERY_S)


def _watch(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    while True:
        for name, child in children.items():
            if child.poll() is not None:
                raise DemoFailed(f"the {name} stopped by itself; see instance/demo/{name}.out")
        time.sleep(LOOK_EVERY_S * 5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback server
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP OK
    except (OSError, urllib.error.URLError):
        return False


def _is_online(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/api/r3/agents", timeout=2) as answer:  # noqa: S310 - our own loopback server
            agents = json.load(answer)["agents"]
    except urllib.error.HTTPError:
        # With API_KEY and no loopback the demo may not look; the agent process itself is alive.
        return True
    except (OSError, ValueError):
        return False
    return any(agent["agent_id"] == AGENT_ID and agent["status"] == "ONLINE" for agent in agents)


def _agent_config(stage: Stage) -> str:
    def argv(verb: str) -> str:
        return json.dumps(stage.service_argv(verb))

    return f"""\
# Written by `reco3 demo` at each start. A real PC's config starts from agent/common/config.example.yaml,
# where apply_enabled is false.
base_url: {json.dumps(stage.url)}
agent_id: "{AGENT_ID}"
api_key: "{AGENT_KEY}"
version: "1.0"
control:
  apply_enabled: {"true" if stage.apply_enabled else "false"}
  safe_modes: ["NORMAL", "SAFE"]
  limits: {{strong_per_hour: 1000, cooldown_s: 0}}   # so that one can try as often as one likes
  rate_limit: {{driver: "file", path: {json.dumps(str(stage.folder / "rate-limit.json"))}}}
watch:
  processes:
    - name: {json.dumps(service.NAME)}
      start_cmd: {argv("start")}
      stop_cmd: {argv("stop")}
      restart_cmd: {argv("restart")}
      allow_restart: true
  log_files: [{json.dumps(str(stage.folder / "reco3-demo.log"))}]
"""


def _welcome(stage: Stage) -> str:
    shown = subprocess.list2cmdline(stage.service_argv("fail"))
    lock = "true" if stage.apply_enabled else "false: strong commands will be refused by the PC"
    return f"""
RECO3 is watching this machine:  {stage.url}/r3

Three things to try:
  1. Press "SAFE Mode" under Test Controls: the command completes and the mode changes.
  2. Press "RESTART (approval required)": it waits. Press Approve: reco3-demo gets a new pid.
  3. Make the demo service fail, and see the log line and the incident appear:
     {shown}

(control.apply_enabled is {lock}; config: {stage.config_path})
Ctrl-C stops everything.
"""


if __name__ == "__main__":
    sys.exit(main())
