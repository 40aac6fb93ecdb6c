"""Section *footprint*: what our agent costs an idle PC, beside the agents and exporters one would run instead.

All run and are watched at the same time, each polled every ten seconds as its own server would do. Python peers get a
copy of the interpreter's library each, and so does our agent: where it is the only Python program it shares no pages.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from footprints import Footprint, TreeDied, TreeSample, footprint_of, footprint_table, sample_tree
from ground import Ground
from peers import PeerMissing, glances_web, own_interpreter, salt_pair, zabbix_agent2
from polling import Polls, poll_url, poll_zabbix, polling
from processes import BIN, ROOT, PartDied, ScriptFailed, last_json, run_script_while, shown
from results import Headline, Section, times

SCRIPT = "bench/agent_footprint.py"
OURS, BASELINE = "reco3 agent", "node_exporter"
SAMPLE_EVERY_S = 5.0
LIMIT_S = 420.0


@dataclass(slots=True)
class Beside:
    """The peers that run beside ours; grows while they start."""

    pids: dict[str, int]
    polls: dict[str, Any]
    commands: list[str]
    missing: list[str]


class Taken(NamedTuple):
    """A tree's sample and when it was taken."""

    at_s: float
    sample: TreeSample


def footprint(ground: Ground) -> Section:
    """Watch all in one window."""
    beside = Beside({}, {}, [], [])
    samples: dict[str, list[Taken]] = {}
    seconds, settle_s = ground.seconds(90, 5), ground.seconds(40, 30)
    argv = [str(BIN / "python"), str(ROOT / SCRIPT), "--seconds", f"{seconds:g}", "--settle", f"{settle_s:g}"]
    for name in ("server", "agent"):
        argv += [f"--{name}-python", str(own_interpreter(ground.bench_folder, name))]
    with contextlib.ExitStack() as running:
        _start(beside, ground, running)
        polls = running.enter_context(polling(beside.polls))
        try:
            ran, _ = run_script_while(argv, lambda: _sample(beside, samples), every_s=SAMPLE_EVERY_S, limit_s=LIMIT_S)
        except ScriptFailed as err:
            return Section("footprint", _TITLE, missing=(*beside.missing, str(err)), commands=tuple(beside.commands))
    # Ours is watched after it settled, at the end of the script: the peers' samples of before are left out.
    theirs = {name: last_seconds(taken, seconds) for name, taken in samples.items() if len(taken) > 1}
    return _section(_own_footprints(ran.output), theirs, polls, beside, shown(argv))


_TITLE = "Footprint of the agent on an idle PC"


def _start(beside: Beside, ground: Ground, running: contextlib.ExitStack) -> None:
    def zabbix() -> None:
        agent = running.enter_context(zabbix_agent2(ground.folder / "zabbix"))
        beside.pids["zabbix-agent2"], beside.polls["zabbix-agent2"] = agent.pid, poll_zabbix(agent.port)
        beside.commands.extend(agent.commands)

    def glances() -> None:
        web = running.enter_context(glances_web(ground.bench_folder, ground.folder / "glances"))
        beside.pids["glances -w"] = web.pid
        beside.polls["glances -w"] = poll_url(f"http://127.0.0.1:{web.port}/api/4/all")
        beside.commands.extend(web.commands)

    def salt() -> None:
        pair = running.enter_context(salt_pair(ground.bench_folder, ground.folder / "salt-footprint"))
        beside.pids["salt-minion (idle)"] = pair.minion_pid
        beside.commands.append("# a salt master and minion as in the section on approvals")

    for name, start in (("zabbix-agent2", zabbix), ("glances", glances), ("salt-minion", salt)):
        try:
            start()
        except (PeerMissing, PartDied) as err:
            beside.missing.append(f"{name}: {err}")


def _sample(beside: Beside, samples: dict[str, list[Taken]]) -> None:
    for name, pid in list(beside.pids.items()):
        try:
            samples.setdefault(name, []).append(Taken(time.monotonic(), sample_tree(pid)))
        except TreeDied:
            beside.missing.append(f"{name}: it ended while it was watched")
            del beside.pids[name], samples[name]


def last_seconds(taken: Sequence[Taken], seconds: float) -> Footprint:
    """Return the footprint of the last so many seconds of at least two samples."""
    begins_s = min(taken[-2].at_s, taken[-1].at_s - seconds)
    window = [each for each in taken if each.at_s >= begins_s]
    return footprint_of([each.sample for each in window], window[-1].at_s - window[0].at_s)


def _own_footprints(output: str) -> dict[str, Footprint]:
    known = {each.name for each in fields(Footprint)}
    return {
        name: Footprint(**{key: value for key, value in figures.items() if key in known})
        for name, figures in last_json(output)["footprints"].items()
    }


def _section(
    ours: Mapping[str, Footprint], theirs: Mapping[str, Footprint], polls: Polls, beside: Beside, command: str
) -> Section:
    everything = {**ours, **theirs}
    failed = [f"polling {name} failed: {reason}" for name, reason in polls.failed.items()]
    asked = ", ".join(f"{name} {count} times" for name, count in polls.answered.items())
    return Section(
        name="footprint",
        title=_TITLE,
        headlines=tuple(_headlines(everything)),
        printed=footprint_table(everything, baseline=BASELINE),
        notes=(
            "Whole process trees; memory is the median of the window, CPU the time used in it.",
            "Ours: one watched process, two log files, a heartbeat every 10 s, a held pull.",
            "node_exporter: a scrape every 10 s.",
            "Every Python program has a copy of the interpreter's library to itself, so that PSS is what it is alone.",
            f"Polled every 10 s: {asked}. The salt minion was connected to its master and asked nothing.",
        ),
        commands=(*beside.commands, command),
        missing=(*beside.missing, *failed),
    )


def _headlines(everything: Mapping[str, Footprint]) -> list[Headline]:
    ours = everything[OURS]
    lines = []
    for name, each in everything.items():
        if name == OURS:
            continue
        memory = f"{ours.pss_mb:.1f} MB", name, f"{each.pss_mb:.1f} MB", times(ours.pss_mb, each.pss_mb)
        cpu = f"{ours.cpu_pct:.3f} %", name, f"{each.cpu_pct:.3f} %", times(ours.cpu_pct, each.cpu_pct)
        lines += [Headline("agent, PSS", *memory), Headline("agent, CPU of a core", *cpu)]
    return lines
