"""The log torture in full, and a storm of a million lines: RECO3_SOAK=1 runs them (about ten minutes)."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import log_torture as torture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
]

STORM_LINES = 1_000_000
DEADLINE_S = 900.0


def test_no_line_is_lost_or_repeated_but_those_that_a_marker_admits(tmp_path: Path) -> None:
    verdict = torture.run(torture.Plan(seconds=180.0, lines_per_s=10_000, kill_every_s=2.0), tmp_path)

    print(f"\n{torture.render(verdict)}")
    assert verdict.faults == []
    assert verdict.kills >= 30


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[tuple[torture.Server, torture.Agent, Path]]:
    server = torture.start_server(tmp_path)
    agent = torture.Agent(tmp_path / "state", torture.write_config(tmp_path, server.port))
    agent.folder.mkdir()
    yield server, agent, tmp_path / "logs" / "renamed.log"
    server.stop()


def test_a_million_lines_at_once_fit_in_80_mib_and_all_arrive_or_are_counted_as_dropped(
    storm: tuple[torture.Server, torture.Agent, Path],
) -> None:
    server, agent, log = storm
    log.touch()
    agent.start()
    _wait(lambda: agent.is_following(log))

    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"2026-11-23T10:00:00Z ERROR torture renamed {n:09d} the storm\n" for n in range(STORM_LINES))
    size, identity = log.stat().st_size, (log.stat().st_dev, log.stat().st_ino)
    _wait(lambda: agent.has_read(log, identity, size) and agent.has_sent_everything())
    agent.stop()

    rows = torture.stored_rows(server.db_path)
    kept = [msg for msg, code, _ in rows if code is None]
    dropped = [int(found[1]) for msg, code, _ in rows if code == "LOG_DROPPED" if (found := re.match(r"(\d+)", msg))]
    spool_mib = sum(file.stat().st_size for file in agent.folder.glob("spool.db*")) / 2**20
    print(f"\nagent: {agent.peak_rss_mib:.1f} MiB, {agent.cpu_s:.1f} s CPU, spool {spool_mib:.0f} MiB, {dropped=}")
    assert len(kept) == len(set(kept))
    assert len(kept) + sum(dropped) == STORM_LINES
    assert agent.peak_rss_mib < 80
    assert spool_mib < 2 * 256


def _wait(is_so: object) -> None:
    assert callable(is_so)
    give_up_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
