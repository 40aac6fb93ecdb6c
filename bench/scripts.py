"""Sections *fleet*, *history* and *storm*: the short forms of the long measurements, each run as its own script.

What such a script prints goes into the results as it stands; nothing is read into it here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ground import Ground
from processes import BIN, ROOT, ScriptFailed, run_script
from results import Section, printed_markdown

BASE_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Script:
    """A measuring script with the arguments of its full (in `make bench`) and its quick form."""

    name: str
    title: str
    path: str
    full: tuple[str, ...]
    quick: tuple[str, ...]
    limit_s: float
    note: str


SCRIPTS = (
    Script(
        name="fleet",
        title="Whole fleets: heartbeats, held pulls, cost of the server",
        path="bench/fleet.py",
        full=("--pcs", "1000,10000", "--seconds", "40"),
        quick=("--pcs", "100", "--seconds", "12"),
        limit_s=300,
        note="The short form; FLEETS.md beside this file has a long one, and says how it was measured.",
    ),
    Script(
        name="history",
        title="Bytes that a PC's history takes",
        path="bench/history_size.py",
        full=("--pcs", "20", "--prune-rows", "200000"),
        quick=("--pcs", "2", "--hours", "4", "--prune-rows", "0"),
        limit_s=180,
        note="The short form, fewer PCs and rows than the script's defaults.",
    ),
    Script(
        name="storm",
        title="Server restarted, then killed, under a fleet",
        path="bench/restart_storm.py",
        full=("--pcs", "2000"),
        quick=("--pcs", "50"),
        limit_s=240,
        note="The short form; `python bench/restart_storm.py` takes 20,000 PCs.",
    ),
)


def script_section(script: Script) -> Callable[[Ground], Section]:
    """Make the section that runs a script."""

    def run(ground: Ground) -> Section:
        arguments = script.quick if ground.is_quick else script.full
        argv = [str(BIN / "python"), str(ROOT / script.path), *arguments]
        try:
            ran = run_script(argv, limit_s=script.limit_s)
        except ScriptFailed as err:
            return Section(script.name, script.title, missing=(str(err),))
        printed = printed_markdown(ran.output)
        return Section(script.name, script.title, printed=printed, notes=(script.note,), commands=(ran.command,))

    return run
