"""Samples what a whole process tree costs: PSS, RSS, CPU seconds, threads and context switches, straight from /proc.

Beside one another stand whole trees, because a peer may spread its work over several processes (zabbix-agent has six,
salt-minion three). Memory is the median of the samples in the window, CPU is the ticks used in it divided by its wall
time. It starts and stops nothing, and it never guesses: a tree that died in the window is an error, not a zero.

    trees = {"agent": agent.pid, "node_exporter": exporter.pid}
    footprints = watch(trees, seconds=120)          # blocks; all trees share one window
    print(footprint_table(footprints, baseline="node_exporter"))
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STAT_PARENT, _STAT_USER, _STAT_SYSTEM, _STAT_CHILD_USER, _STAT_CHILD_SYSTEM = 1, 11, 12, 13, 14


class TreeDied(Exception):
    """The root process of a watched tree is gone."""


@dataclass(frozen=True, slots=True)
class TreeSample:
    """A process tree at one moment: memory now, ticks and switches since its processes were born."""

    processes: int
    threads: int
    pss_kb: int
    rss_kb: int
    cpu_ticks: int
    voluntary_switches: int
    involuntary_switches: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """A process tree over one window; memory are medians, `cpu_pct` is in per cent of one core."""

    processes: int
    threads: int
    pss_mb: float
    rss_mb: float
    pss_max_mb: float
    cpu_pct: float
    switches_per_min: float
    window_s: float


def watch(
    trees: Mapping[str, int],
    seconds: float,
    *,
    every_s: float = 5.0,
    proc: Path = PROC,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Footprint]:
    """Watch all trees, given as name -> root pid, through one common window, and return a footprint for each.

    Raises:
        TreeDied: a root process ended before the window did.
    """
    began_s = clock()
    samples = {name: [sample_tree(pid, proc=proc)] for name, pid in trees.items()}
    while (left_s := began_s + seconds - clock()) > 0:
        wait(min(every_s, left_s))
        for name, pid in trees.items():
            samples[name].append(sample_tree(pid, proc=proc))
    window_s = clock() - began_s
    return {name: footprint_of(taken, window_s) for name, taken in samples.items()}


def sample_tree(root_pid: int, *, proc: Path = PROC) -> TreeSample:
    """Add up a process and all its living descendants.

    Raises:
        TreeDied: the root process is gone.
    """
    parts = [part for pid in tree_pids(root_pid, proc=proc) if (part := _sample_process(proc / str(pid))) is not None]
    if not parts:
        raise TreeDied(f"process {root_pid} is gone")
    return TreeSample(
        processes=len(parts),
        threads=sum(part.threads for part in parts),
        pss_kb=sum(part.pss_kb for part in parts),
        rss_kb=sum(part.rss_kb for part in parts),
        cpu_ticks=sum(part.cpu_ticks for part in parts),
        voluntary_switches=sum(part.voluntary_switches for part in parts),
        involuntary_switches=sum(part.involuntary_switches for part in parts),
    )


def footprint_of(samples: Sequence[TreeSample], window_s: float) -> Footprint:
    """Turn the samples of one window into medians and rates."""
    first, last = samples[0], samples[-1]
    switches = (last.voluntary_switches + last.involuntary_switches) - (
        first.voluntary_switches + first.involuntary_switches
    )
    return Footprint(
        processes=round(statistics.median(sample.processes for sample in samples)),
        threads=round(statistics.median(sample.threads for sample in samples)),
        pss_mb=statistics.median(sample.pss_kb for sample in samples) / 1024,
        rss_mb=statistics.median(sample.rss_kb for sample in samples) / 1024,
        pss_max_mb=max(sample.pss_kb for sample in samples) / 1024,
        cpu_pct=max(0, last.cpu_ticks - first.cpu_ticks) / _TICKS_PER_S / window_s * 100,
        switches_per_min=max(0, switches) / window_s * 60,
        window_s=window_s,
    )


def tree_pids(root_pid: int, *, proc: Path = PROC) -> tuple[int, ...]:
    """Return the root and every living descendant of it, parents first."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit() and (stat := _stat_fields(folder)) is not None:
            children.setdefault(int(stat[_STAT_PARENT]), []).append(int(folder.name))
    pids = [root_pid]
    for pid in pids:  # It grows while we walk it: that is the walk.
        pids.extend(sorted(children.get(pid, ())))
    return tuple(pids)


def footprint_table(footprints: Mapping[str, Footprint], *, baseline: str) -> str:
    """Render footprints as a markdown table with ratios to the baseline; a baseline of 0 gives no ratio."""
    base = footprints[baseline]
    head = ["agent", "processes", "threads", "RSS MB", "PSS MB", f"PSS / {baseline}"]
    head += ["CPU % of a core", f"CPU / {baseline}", "wake-ups/min"]
    rows = [
        (
            name,
            str(each.processes),
            str(each.threads),
            f"{each.rss_mb:.1f}",
            f"{each.pss_mb:.1f}",
            ratio_text(each.pss_mb, base.pss_mb),
            f"{each.cpu_pct:.3f}",
            ratio_text(each.cpu_pct, base.cpu_pct),
            f"{each.switches_per_min:.0f}",
        )
        for name, each in footprints.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def ratio_text(value: float, base: float) -> str:
    """Render `value / base`, or a dash where there is nothing to divide by."""
    return f"{value / base:.2f}x" if base > 0 else "-"


def _sample_process(folder: Path) -> TreeSample | None:
    """Return one process, or None when it ended while we looked."""
    stat = _stat_fields(folder)
    if stat is None:
        return None
    try:
        memory = _numbers(folder / "smaps_rollup")
        threads = _threads(folder)
    except OSError:
        return None
    ticks = (_STAT_USER, _STAT_SYSTEM, _STAT_CHILD_USER, _STAT_CHILD_SYSTEM)
    return TreeSample(
        processes=1,
        threads=len(threads),
        pss_kb=memory.get("Pss", 0),
        rss_kb=memory.get("Rss", 0),
        # Children that were waited for count too: what an agent spends in short-lived commands is its cost.
        cpu_ticks=sum(int(stat[position]) for position in ticks),
        voluntary_switches=sum(thread.get("voluntary_ctxt_switches", 0) for thread in threads),
        involuntary_switches=sum(thread.get("nonvoluntary_ctxt_switches", 0) for thread in threads),
    )


def _threads(folder: Path) -> list[dict[str, int]]:
    """Return the status of each thread: what the process's own says of switches is the main thread's alone."""
    threads = []
    for thread in (folder / "task").iterdir():
        # A thread may end while we look; the process is still there.
        with contextlib.suppress(OSError):
            threads.append(_numbers(thread / "status"))
    return threads


def _stat_fields(folder: Path) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name, which may itself hold spaces and brackets."""
    try:
        return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.split()[:2] for line in path.read_text().splitlines() if ":" in line)
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - name and value
