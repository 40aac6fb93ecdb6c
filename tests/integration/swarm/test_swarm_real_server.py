"""The swarm against a real server: its PCs are online, its commands arrive, and its books agree with the database."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reco3.swarm.requests import agent_id, agent_key
from servers import ROOT, ServerProcess, free_port

PCS = 50
KEYS = json.dumps({agent_id(number): agent_key("1", number) for number in range(PCS)})
OPERATOR_KEY = "an-operators-key"
# The spread and the period are short, so that a few seconds hold many rounds.
QUICK = ("--heartbeat-s", "1", "--start-spread-s", "1", "--logs-per-minute", "240")
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A swarm that has ended."""

    code: int
    out: str
    err: str
    report: dict[str, Any]


def swarm(*argv: str, report: Path | None = None) -> Ran:
    """Run `reco3 swarm` to its end."""
    words = [sys.executable, "-m", "reco3.cli", "swarm", *argv, *(["--json", str(report)] if report else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    found = json.loads(report.read_text()) if report and report.exists() else {}
    return Ran(done.returncode, done.stdout, done.stderr, found)


def run_swarm(server: ServerProcess, *more: str, pcs: int = PCS, seconds: int = 6) -> Ran:
    """Let the fleet run against a server, and verify it against its database."""
    where = ["--base-url", server.base_url, "--database", str(server.db_path)]
    size = ["--pcs", str(pcs), "--seconds", str(seconds)]
    books = ["--ledger", str(server.folder / "ledger.json")]
    return swarm("run", *where, *size, *books, *QUICK, *more, report=server.folder / "report.json")


def started(folder: Path) -> ServerProcess:
    """A server that knows the fleet's keys."""
    process = ServerProcess(folder, RECO3_AGENT_KEYS=KEYS, API_KEY=OPERATOR_KEY).start()
    (process.folder / "key").write_text(OPERATOR_KEY)
    return process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all: every run has books of its own."""
    process = started(tmp_path_factory.mktemp("server"))
    yield process
    process.stop()


def as_operator(server: ServerProcess) -> Sequence[str]:
    return ["--operator-key-file", str(server.folder / "key")]


@contextmanager
def echo_server() -> Iterator[str]:
    """The bare server that answers 200 to everything."""
    port = free_port()
    words = [sys.executable, str(ROOT / "bench" / "echo_server.py"), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def test_fifty_pcs_are_online_and_every_command_arrives_once(server: ServerProcess) -> None:
    ran = run_swarm(server, "--commands", "20", *as_operator(server), seconds=8)

    agents = server.get("/api/r3/agents", **{"X-API-Key": OPERATOR_KEY}).json
    assert ran.code == 0, ran.out + ran.err
    assert (agents["total"], agents["online"]) == (PCS, PCS)
    commands, books = ran.report["commands"], ran.report["ledger"]
    assert (commands["asked"], commands["arrived"], commands["reported"]) == (20, 20, 20)
    assert books["is_clean"]
    assert books["lines_acked"] > PCS
    assert books["heartbeats_checked"] == PCS
    assert ran.report["errors"] == {}
    assert "ledger: clean" in ran.out


@pytest.mark.parametrize("lines", ["own", "shared:5"])
def test_requests_that_are_cut_off_lose_nothing_and_repeat_nothing(server: ServerProcess, lines: str) -> None:
    ran = run_swarm(
        server, "--failure-probability", "0.2", "--connections", lines, "--commands", "10", *as_operator(server)
    )

    books = ran.report["ledger"]
    assert ran.code == 0, ran.out + ran.err
    assert ran.report["errors"]["logs cut"] + ran.report["errors"]["heartbeat cut"] > 10
    assert (books["lines_lost"], books["lines_duplicated"], books["reports_lost"]) == (0, 0, 0)
    assert books["lines_acked"] > 0
    assert set(ran.report["errors"]) <= {f"{kind} cut" for kind in ("heartbeat", "logs", "pull", "report")}


def test_a_line_that_the_server_dropped_after_acknowledging_it_is_found(tmp_path: Path) -> None:
    server = started(tmp_path / "server")
    assert run_swarm(server).code == 0
    server.stop()
    books = ["verify", "--ledger", str(server.folder / "ledger.json"), "--database", str(server.db_path)]
    assert swarm(*books).code == 0

    with closing(sqlite3.connect(server.db_path)) as connection, connection:
        dropped = "SELECT min(id) FROM agent_logs WHERE agent_id = 'sim-000007'"
        assert connection.execute(f"DELETE FROM agent_logs WHERE id = ({dropped})").rowcount == 1

    ran = swarm(*books)
    assert ran.code == 1
    assert "1 lost" in ran.out
    assert "line 1 of sim-000007 is lost" in ran.out
    assert "ledger: NOT CLEAN" in ran.out


def test_a_run_verifies_through_the_operator_api_as_well(server: ServerProcess) -> None:
    where = ["--base-url", server.base_url, "--pcs", "8", "--seconds", "5"]

    ran = swarm("run", *where, *QUICK, *as_operator(server), report=server.folder / "report.json")

    assert ran.code == 0, ran.out + ran.err
    assert ran.report["ledger"]["is_clean"]
    assert ran.report["ledger"]["heartbeats_checked"] == 8


def test_two_workers_keep_one_set_of_books(server: ServerProcess) -> None:
    ran = run_swarm(server, "--workers", "2")

    assert ran.code == 0, ran.out + ran.err
    assert ran.report["workers"] == 2
    assert ran.report["ledger"]["heartbeats_checked"] == PCS


def test_pcs_whose_keys_the_server_does_not_know_are_told_apart(server: ServerProcess) -> None:
    ran = run_swarm(server, "--seed", "another", pcs=5, seconds=3)

    assert ran.code == 1
    assert ran.report["errors"]["heartbeat 401"] >= 5
    assert ran.report["rates_per_s"]["heartbeat"] == 0


def test_a_load_counts_answers_and_the_time_since_each_was_due(tmp_path: Path) -> None:
    with echo_server() as url:
        load = ["load", "--base-url", url, "--pcs", "20", "--connections", "4", "--seconds", "2", "--warm-up-s", "0.5"]
        closed = swarm(*load, "--closed", report=tmp_path / "closed.json")
        at_rate = swarm(*load, "--rate", "200", report=tmp_path / "open.json")

    assert (closed.code, at_rate.code) == (0, 0), closed.err + at_rate.err
    assert closed.report["answered_per_s"] > at_rate.report["answered_per_s"] > 50
    assert closed.report["errors"] == at_rate.report["errors"] == {}
    assert at_rate.report["latency_ms"]["p50"] > 0


def test_a_load_that_is_refused_has_not_succeeded(server: ServerProcess) -> None:
    load = ["load", "--base-url", server.base_url, "--pcs", "5", "--connections", "2", "--closed"]

    ran = swarm(*load, "--seed", "another", "--seconds", "2", "--warm-up-s", "0.5", report=server.folder / "r.json")

    assert ran.code == 1
    assert ran.report["errors"]["401"] > 0


def test_a_server_that_is_not_there_is_one_plain_line() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"

    ran = swarm("load", "--base-url", nobody, "--pcs", "5", "--closed", "--seconds", "4")

    assert ran.code == 1
    assert ran.err.startswith("reco3 swarm: nobody answers at 127.0.0.1:")
    assert len(ran.err.splitlines()) == 1


def test_a_load_beyond_what_the_server_answers_shows_in_the_latency(server: ServerProcess) -> None:
    load = ["load", "--base-url", server.base_url, "--pcs", str(PCS), "--connections", "1", "--rate", "20000"]

    ran = swarm(*load, "--seconds", "3", "--warm-up-s", "0.5", report=server.folder / "overload.json")

    assert ran.report["unsent_at_the_end"] > 10_000
    assert ran.report["latency_ms"]["max"] > 1_500
    assert ran.report["latency_ms"]["p50"] > 500
