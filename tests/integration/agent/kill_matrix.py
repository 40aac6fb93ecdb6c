"""One cell of the kill matrix: a real agent, killed at one failpoint and, started again, at another."""

import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from agent_process import AgentProcess, make_order
from scripted_server import ScriptedServer

FAILPOINTS_FOLDER = Path(__file__).parents[2] / "failpoints"
DEADLINE_S = 40.0

# In the order in which a command without a countdown meets them.
POINTS = (
    *("after_receive", "before_start", "after_start", "during_act", "after_act", "before_finish", "after_finish"),
    *("before_report", "after_report", "after_acknowledge"),
)
COUNTDOWN_POINTS = ("before_accept", "after_accept")
PROBE_POINTS = ("after_probe", "after_probe_recorded")
SECOND_POINTS = ("", *POINTS, *PROBE_POINTS)


class Target:
    """A process that counts, in a file of its own, how often it was started and stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"r3t{abs(hash(folder)) % 10**9}"
        self.effects_path = folder / "effects"
        self._pid_path = folder / "target.pid"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", folder / self.name)
        self._write(
            "start.sh",
            f"(echo started >> effects; exec ./{self.name} 600) </dev/null >/dev/null 2>&1 &\necho $! > target.pid",
        )
        self._write("stop.sh", "kill $(cat target.pid) && echo stopped >> effects")
        self._write("restart.sh", "kill $(cat target.pid)\n. ./start.sh")
        self.effects_path.touch()
        subprocess.run(["/bin/sh", str(folder / "start.sh")], check=True, timeout=10)
        deadline = time.monotonic() + DEADLINE_S
        while not self.count("started") and time.monotonic() < deadline:  # It starts in the background.
            time.sleep(0.005)
        self.effects_path.write_text("", encoding="utf-8")

    def argv(self, script: str) -> list[str]:
        return ["/bin/sh", str(self.folder / script)]

    def count(self, word: str) -> int:
        return self.effects_path.read_text(encoding="utf-8").split().count(word)

    def end(self) -> None:
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == self.name:
                process.send_signal(signal.SIGKILL)

    def _write(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"cd '{self.folder}' || exit 9\n{script}\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Variant:
    """A strong command, how the PC is configured for it, and how the world tells how often it took effect."""

    name: str
    type: str
    program: Callable[[Target], dict[str, Any]]
    payload: Callable[[Target], dict[str, Any]]
    effects: Callable[[Target, Path], int]
    before: tuple[dict[str, Any], ...] = ()


def _watched(target: Target, **keys: Any) -> dict[str, Any]:
    return {"name": target.name, "allow_restart": True, **keys}


def _by_process(target: Target) -> dict[str, Any]:
    return {"process": target.name}


def _limits_left(folder: Path) -> int:
    path = folder / "limits.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["limits"]) if path.exists() else 0


VARIANTS = (
    Variant(
        "restart by restart_cmd",
        "RESTART_PROCESS",
        lambda target: _watched(target, restart_cmd=target.argv("restart.sh")),
        _by_process,
        lambda target, _: target.count("started"),
    ),
    Variant(
        "restart by stop_cmd + start_cmd",
        "RESTART_PROCESS",
        lambda target: _watched(target, stop_cmd=target.argv("stop.sh"), start_cmd=target.argv("start.sh")),
        _by_process,
        lambda target, _: target.count("started"),
    ),
    Variant(
        "stop by stop_cmd",
        "STOP_PROCESS",
        lambda target: _watched(target, stop_cmd=target.argv("stop.sh")),
        _by_process,
        lambda target, _: target.count("stopped"),
    ),
    Variant(
        "rollback of a rate limit",
        "ROLLBACK",
        _watched,
        lambda _: {},
        # A rollback that ran twice would undo the older limit too.
        lambda _, folder: 2 - _limits_left(folder),
        before=({"endpoint": "/a", "limit_rps": 1}, {"endpoint": "/b", "limit_rps": 2}),
    ),
)


@dataclass(frozen=True, slots=True)
class CellResult:
    """What became of the command: its last reported status and code, its effects, and whether both kills happened."""

    variant: str
    first: str
    second: str
    kills: int
    effects: int
    status: str
    code: str

    @property
    def is_wrong(self) -> bool:
        """Whether the report contradicts the world."""
        expected = {"completed": 1, "failed": 0}.get(self.status, self.effects)
        return self.status not in {"completed", "failed", "unknown"} or self.effects != expected


def run_cell(folder: Path, variant: Variant, first: str, second: str, *, is_late: bool = False) -> CellResult:
    """Play one cell in `folder`; `is_late` is the negative control."""
    server = ScriptedServer()
    target = Target(folder)
    pc = AgentProcess(folder, server.url)
    try:
        return _Cell(server, target, pc, variant).play(first, second, is_late=is_late)
    finally:
        pc.kill()
        server.go_down()
        target.end()


class _Cell:
    def __init__(self, server: ScriptedServer, target: Target, pc: AgentProcess, variant: Variant) -> None:
        self.server, self.target, self.pc, self.variant = server, target, pc, variant
        self.armed = pc.folder / "armed"
        self.deliveries = 0
        expires_at = datetime.now(UTC) + timedelta(minutes=15)
        self.order = make_order(
            "c-1", variant.type, variant.payload(target), expires_at=expires_at.isoformat().replace("+00:00", "Z")
        )

    def play(self, first: str, second: str, *, is_late: bool) -> CellResult:
        veto_s = 1 if {first, second} & set(COUNTDOWN_POINTS) else 0
        limits = {"cooldown_s": 0, "strong_per_hour": 1000}
        self.pc.configure(
            control={"veto_s": veto_s, "limits": limits, "command_timeout_s": 10},
            watch={"processes": [self.variant.program(self.target)], "log_files": []},
        )
        self.pc.environment = {"PYTHONPATH": str(FAILPOINTS_FOLDER), "RECO3_FAILPOINT_ARMED": str(self.armed)}
        if is_late:
            self.pc.environment["RECO3_TEST_RECORD_LATE"] = "1"
        kills = self._run(first, before=self.variant.before)
        kills += self._run(second)
        if self.pc.has_died():
            self.pc.kill()
            self._run("")
        self._ask_once_more()
        report = self._final_reports()[-1]
        effects = self.variant.effects(self.target, self.pc.folder)
        return CellResult(
            self.variant.name, first, second, kills, effects, report["status"], report["result"].get("code", "")
        )

    def _run(self, failpoint: str, *, before: tuple[dict[str, Any], ...] = ()) -> int:
        """Start the agent, deliver, and stay until it was killed or everything is settled; returns the kills."""
        self.pc.kill()
        self.pc.environment["RECO3_FAILPOINT"] = failpoint
        self.pc.start()
        for number, payload in enumerate(before):
            self.server.deliver(make_order(f"before-{number}", "SET_RATE_LIMIT", payload))
            self.server.wait_for_report(f"before-{number}", "completed")
        if before:  # Waiting for more: it is acknowledged, and no failpoint of it is still ahead.
            self._wait(self.server.is_idle)
        self.armed.touch()
        self._deliver()
        # Settled and waiting for more: whatever it might have died of is behind it.
        self._wait(lambda: self.pc.has_died() or (self.server.is_idle() and self._is_settled()))
        return 1 if self.pc.has_died() else 0

    def _deliver(self) -> None:
        self.deliveries += 1
        self.server.deliver(self.order | {"delivery": self.deliveries})

    def _ask_once_more(self) -> None:
        """A redelivery at the very end is a question: it is answered, and nothing runs."""
        told = len(self._final_reports())
        self._deliver()
        self._wait(lambda: len(self._final_reports()) > told and self._is_settled())

    def _is_settled(self) -> bool:
        if not self._final_reports():
            return False
        with sqlite3.connect(f"file:{self.pc.folder}/state/agent.db?mode=ro", uri=True) as db:
            (unsettled,) = db.execute(
                "SELECT count(*) FROM commands WHERE delivery = 'OWED' AND command_id = 'c-1'"
            ).fetchone()
        db.close()
        return not unsettled

    def _final_reports(self) -> list[dict[str, Any]]:
        bodies = [request.body for request in self.server.sent("/agent/report")]
        return [b for b in bodies if b["command_id"] == "c-1" and b["status"] not in {"accepted", "running"}]

    def _wait(self, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_over():
            assert time.monotonic() < deadline, self.pc.log()[-3000:]
            self.server.wait_until(lambda: True)
            time.sleep(0.02)


def table(results: list[CellResult]) -> str:
    """The matrix as text: one line a variant and first failpoint."""
    columns = f"{'cells':>6}{'2 kills':>8}{'completed':>10}{'failed':>7}{'unknown':>8}{'wrong':>6}{'max effect':>11}"
    lines = [f"{'variant':34}{'first kill at':16}{columns}"]
    keys = sorted({(one.variant, one.first) for one in results}, key=lambda key: (key[0], _place(key[1])))
    for variant, first in keys:
        lines.append(_line(f"{variant:34}{first:16}", [r for r in results if (r.variant, r.first) == (variant, first)]))
    lines.append(_line(f"{'all':50}", results))
    return "\n".join(lines)


def _place(point: str) -> int:
    points = (*POINTS, *COUNTDOWN_POINTS)
    return points.index(point)


def _line(head: str, cells: list[CellResult]) -> str:
    counts = [sum(cell.status == status for cell in cells) for status in ("completed", "failed", "unknown")]
    return (
        f"{head}{len(cells):6}{sum(cell.kills == 2 for cell in cells):8}{counts[0]:10}{counts[1]:7}{counts[2]:8}"
        f"{sum(cell.is_wrong for cell in cells):6}{max(cell.effects for cell in cells):11}"
    )
