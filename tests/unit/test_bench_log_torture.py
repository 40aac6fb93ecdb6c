"""The verdict of the log torture: what it calls lost, repeated and admitted."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from log_torture import FileVerdict, Verdict, judge, render

Row = tuple[str, str | None, str]


def line(name: str, number: int) -> Row:
    return f"2026-11-23T10:00:00.000Z ERROR torture {name} {number:09d} order refused", None, "{}"


def marker(name: str) -> Row:
    return "was truncated", "LOG_GAP", json.dumps({"file": f"/logs/{name}.log", "reason": "truncated"})


def truncated(rows: list[Row], *, written: int, risks: list[tuple[int, int]]) -> FileVerdict:
    return judge(rows, {"truncated": written}, risks)["truncated"]


def a_verdict(rotations: int = 3, **files: FileVerdict) -> Verdict:
    good = FileVerdict(written=9, lost=0, repeated=0, unadmitted=0, rotations=3, gap_markers=0)
    return Verdict(
        files={"renamed": good, "recreated": good, "truncated": good}
        | {name: replace(file, rotations=rotations) for name, file in files.items()},
        seconds=1.0,
        drain_s=0.5,
        kills=3,
        reused_inodes=1,
        dropped_markers=0,
        agent_cpu_cores=0.1,
        agent_peak_rss_mib=30.0,
        server_cpu_cores=0.1,
        database_mib=1.0,
    )


def test_every_line_once_is_a_good_run() -> None:
    rows = [line("renamed", n) for n in (0, 1, 2)]

    verdict = judge(rows, {"renamed": 3}, [])["renamed"]

    assert (verdict.lost, verdict.repeated) == (0, 0)
    assert a_verdict(renamed=verdict).faults == []


def test_a_lost_line_and_a_repeated_one_are_found() -> None:
    rows = [line("renamed", n) for n in (0, 2, 2, 2)]

    verdict = judge(rows, {"renamed": 3}, [])["renamed"]

    assert (verdict.lost, verdict.repeated) == (1, 2)
    assert a_verdict(renamed=verdict).faults == ["renamed: 1 lost, 2 repeated"]


def test_lines_lost_by_a_truncation_are_admitted_by_a_marker_before_the_hole() -> None:
    rows = [line("truncated", 0), marker("truncated"), line("truncated", 1), line("truncated", 4)]

    verdict = truncated(rows, written=5, risks=[(1, 4)])

    assert (verdict.lost, verdict.unadmitted, verdict.gap_markers) == (2, 0, 1)
    assert a_verdict(truncated=verdict).faults == []


def test_a_hole_without_a_marker_is_a_fault() -> None:
    verdict = truncated([line("truncated", 0), line("truncated", 2)], written=3, risks=[(0, 3)])

    assert verdict.unadmitted == 1
    assert a_verdict(truncated=verdict).faults == ["truncated: 1 lost lines that no marker admits"]


def test_a_marker_admits_nothing_that_was_not_written_during_a_copytruncate() -> None:
    rows = [line("truncated", 0), marker("truncated"), line("truncated", 2)]

    assert truncated(rows, written=3, risks=[(2, 3)]).unadmitted == 1


def test_one_marker_admits_one_hole() -> None:
    rows = [line("truncated", 0), marker("truncated"), line("truncated", 2), line("truncated", 4)]

    assert truncated(rows, written=5, risks=[(0, 5)]).unadmitted == 1


def test_lines_lost_at_the_very_end_need_a_marker_too() -> None:
    rows = [line("truncated", 0)]

    assert truncated(rows, written=2, risks=[(0, 2)]).unadmitted == 1
    assert truncated([*rows, marker("truncated")], written=2, risks=[(0, 2)]).unadmitted == 0


def test_a_run_without_kills_is_no_torture() -> None:
    idle = FileVerdict(written=9, lost=0, repeated=0, unadmitted=0, rotations=0, gap_markers=0)

    assert "this was no torture" in a_verdict(rotations=0, renamed=idle).faults[0]


def test_the_table_tells_the_verdict_and_its_faults() -> None:
    lost = FileVerdict(written=1_000, lost=2, repeated=0, unadmitted=2, rotations=3, gap_markers=0)

    text = render(a_verdict(renamed=lost))

    assert "| renamed | 1,000 | 2 | 0 | 2 | 3 | 0 |" in text
    assert "FAULT: renamed: 2 lost, 0 repeated" in text
