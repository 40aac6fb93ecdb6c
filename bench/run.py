"""Measures RECO3 beside the tools one would pick instead, in one run: `make bench`.

Usage: `python bench/run.py [--only SECTION]... [--quick] [--output FILE]`. A full run writes `bench/RESULTS.md`; one of
chosen sections, or a quick one, prints its results and leaves that file alone: what stands in it was measured together.
A peer or a script that is not to be had is named with its reason and the run goes on; no figure is ever carried over.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents_beside import footprint
from approvals import approve
from ground import Ground
from ingest import ingest
from machine import busy_warning, machine_facts
from peers import (
    DEBIAN_PEERS,
    GLANCES_REQUIREMENT,
    SALT_REQUIREMENT,
    PeerMissing,
    install_debian,
    install_pypi,
    peer_versions,
)
from processes import ROOT, PartDied, ScriptFailed
from results import Report, Section
from scripts import SCRIPTS, script_section

TIME_BOX_S = 15 * 60.0
BENCH_FOLDER = ROOT / ".bench"
RESULTS = ROOT / "bench/RESULTS.md"

SECTIONS: Mapping[str, Callable[[Ground], Section]] = {
    "ingest": ingest,
    "approve": approve,
    "footprint": footprint,
    **{script.name: script_section(script) for script in SCRIPTS},
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for; `output` is None where nothing is to be written."""

    names: tuple[str, ...]
    is_quick: bool
    output: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections, print the results, and write them down when the run is whole."""
    options = read_options(argv)
    began_s = time.monotonic()
    BENCH_FOLDER.mkdir(exist_ok=True)
    # The facts come first: the load before the run is one of them.
    warning = busy_warning(os.getloadavg()[0], os.cpu_count() or 1)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=BENCH_FOLDER))
    try:
        facts = machine_facts(folder)
        unavailable = _install(BENCH_FOLDER, options.names)
        ground = Ground(BENCH_FOLDER, folder, options.is_quick)
        sections = tuple(_run_section(name, ground, ends_s=began_s + TIME_BOX_S) for name in options.names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = ("the run took", f"{time.monotonic() - began_s:.0f} s, installing included")
    report = Report((*facts, *peer_versions(BENCH_FOLDER), *unavailable, took), sections, (warning,) if warning else ())
    text = portable(report.markdown(), folder)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
        print(f"Written to {options.output}", file=sys.stderr)
    return 0


def read_options(argv: Sequence[str] | None) -> Options:
    """Read the command line; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", action="append", choices=tuple(SECTIONS), help="this section (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="try everything out; the figures mean nothing")
    parser.add_argument("--output", type=Path, help="where to write the results")
    words = parser.parse_args(argv)
    is_whole = not words.only and not words.quick
    return Options(tuple(words.only or SECTIONS), words.quick, words.output or (RESULTS if is_whole else None))


def portable(text: str, folder: Path) -> str:
    """Name places as a reader has them: relative to the repository, this run's own folder as `.bench/run`."""
    return text.replace(f"{ROOT}/", "").replace(f".bench/{folder.name}", ".bench/run")


def _install(bench_folder: Path, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Install what the sections need, before anything is measured; returns what could not be."""
    if not {"ingest", "approve", "footprint"} & set(names):
        return ()
    _say("installing the peers, where they are missing")
    missing = [("not installed", reason) for reason in install_debian(DEBIAN_PEERS)]
    wanted = {"salt": (SALT_REQUIREMENT, {"approve", "footprint"}), "glances": (GLANCES_REQUIREMENT, {"footprint"})}
    for name, (requirement, needed_by) in wanted.items():
        try:
            if needed_by & set(names):
                install_pypi(bench_folder, name, requirement)
        except PeerMissing as err:
            missing.append(("not installed", f"{name}: {err}"))
    return tuple(missing)


def _run_section(name: str, ground: Ground, *, ends_s: float) -> Section:
    began_s = time.monotonic()
    if began_s > ends_s:
        return Section(name, name, missing=(f"the time box of {TIME_BOX_S / 60:.0f} minutes was over",))
    _say(f"measuring: {name}")
    try:
        section = SECTIONS[name](ground)
    except (*_FAILED, *_UNREADABLE) as err:
        section = Section(name, name, missing=(f"{type(err).__name__}: {err}",))
    return replace(section, seconds=time.monotonic() - began_s)


_FAILED = (ScriptFailed, PartDied, PeerMissing, OSError)
# A script that prints other figures than expected costs its section, not the quarter of an hour of the others.
_UNREADABLE = (KeyError, TypeError, ValueError)


def _say(text: str) -> None:
    print(f"bench: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
