"""Section *approve*: from an approval until the command runs on the PC, beside salt's `test.ping`.

Salt is asked through its in-process client, which is several times quicker than its command line; it answers when the
minion has returned, ours is measured until the approved command has begun. Neither waits for a person.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ground import Ground
from peers import SALT_TUNED, PeerMissing, salt_pair
from processes import BIN, ROOT, PartDied, ScriptFailed, last_json, run_script
from results import Headline, Section, Table, faster, percentile, printed_markdown

PCS = 10_000
CALLS = 50
LIMIT_S = 240.0
APPROVE = "bench/approve_to_run.py"


@dataclass(frozen=True, slots=True)
class Pinged:
    """What salt took for its calls."""

    what: str
    spans_ms: tuple[float, ...]
    commands: tuple[str, ...]


def approve(ground: Ground) -> Section:
    """Measure both, one after the other: each has the machine for itself."""
    missing: list[str] = []
    ours: Any = None
    commands: tuple[str, ...] = ()
    printed = ""
    try:
        pcs = 100 if ground.is_quick else PCS
        ran = run_script([str(BIN / "python"), str(ROOT / APPROVE), "--pcs", str(pcs)], limit_s=LIMIT_S)
        ours, commands, printed = approve_figures(ran.output), (ran.command,), printed_markdown(ran.output)
    except ScriptFailed as err:
        missing.append(f"approve to running: {err}")
    pinged = []
    for is_tuned in (False, True):
        try:
            pinged.append(_ping_salt(ground, is_tuned=is_tuned))
        except (PeerMissing, PartDied, ScriptFailed) as err:
            missing.append(f"salt{' with ' + SALT_TUNED if is_tuned else ''}: {err}")
    return Section(
        name="approve",
        title="Approved, then running on the PC",
        headlines=_headlines(ours, pinged),
        tables=_salt_tables(pinged),
        printed=printed,
        notes=(
            "Ours: one real agent, the other PCs simulated on the same machine.",
            "Ours is timed from the approval's request to the first statement of the approved command.",
            "Salt: a master with one minion and no others, timed from the call to its answer.",
            "Salt runs as delivered, and again with its minion told to use threads rather than a process per job.",
        ),
        commands=(*commands, *(line for each in pinged for line in each.commands)),
        missing=tuple(missing),
    )


def approve_figures(output: str) -> tuple[float, float]:
    """Return p50 and p99 in ms from the script's output: the first pair in its JSON, wherever it stands.

    Raises:
        ScriptFailed: they are not there.
    """
    found = _find_spans(last_json(output))
    if found is None:
        raise ScriptFailed(f"{APPROVE} printed no p50_ms and p99_ms in its JSON")
    return found


def _find_spans(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, dict):
        return None
    for middle, tail in (("p50_ms", "p99_ms"), ("p50", "p99")):
        if middle in value and tail in value:
            return float(value[middle]), float(value[tail])
    return next((found for each in value.values() if (found := _find_spans(each)) is not None), None)


def _ping_salt(ground: Ground, *, is_tuned: bool) -> Pinged:
    folder = ground.folder / ("salt-tuned" if is_tuned else "salt")
    with salt_pair(ground.bench_folder, folder, tuned=is_tuned) as pair:
        calls = 5 if ground.is_quick else CALLS
        argv = [str(pair.python), str(ROOT / "bench/salt_ping.py"), str(pair.master_config), str(calls)]
        ran = run_script(argv, limit_s=LIMIT_S)
    spans_ms = tuple(last_json(ran.output)["spans_ms"])
    if is_tuned:
        again = f"# the same with `{SALT_TUNED}` in the minion's file"
        return Pinged(f"salt test.ping ({SALT_TUNED})", spans_ms, (again, ran.command))
    return Pinged("salt test.ping", spans_ms, (*pair.commands, ran.command))


def _headlines(ours: tuple[float, float] | None, pinged: Sequence[Pinged]) -> tuple[Headline, ...]:
    if ours is None:
        return ()
    lines = []
    for each in pinged:
        theirs = statistics.median(each.spans_ms), percentile(each.spans_ms, 0.99)
        for name, our_ms, their_ms in zip(("p50", "p99"), ours, theirs, strict=True):
            figures = f"{our_ms:.1f} ms", each.what, f"{their_ms:.1f} ms"
            lines.append(Headline(f"approve to running, {name}", *figures, faster(our_ms, their_ms)))
    return tuple(lines)


def _salt_tables(pinged: Sequence[Pinged]) -> tuple[Table, ...]:
    rows = tuple(
        (
            each.what,
            str(len(each.spans_ms)),
            f"{min(each.spans_ms):.1f}",
            f"{statistics.median(each.spans_ms):.1f}",
            f"{percentile(each.spans_ms, 0.99):.1f}",
        )
        for each in pinged
    )
    head = ("salt.client.LocalClient, one minion, loopback", "calls", "min ms", "p50 ms", "p99 ms")
    return (Table("Salt, warm", head, rows),) if rows else ()
