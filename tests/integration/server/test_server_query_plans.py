"""SQLite's plans for what happens all day: each step seeks what it wants, however large the tables are.

A plan is the same on an empty database, for SQLite plans without knowing how many rows there are until it is told.
"""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, event

from builders import PC
from fakes import START
from reco3.protocol.messages import Heartbeat, Metrics
from reco3.server.domain.agents import Beat, read_heartbeat, take_heartbeat
from reco3.server.domain.history import MINUTE_S, QUARTER_S, RAW_S, TWO_HOURS_S, close_windows
from reco3.server.domain.logs import LogStream
from reco3.server.services.ports import Transaction
from reco3.server.store.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)]

START_S = int(START.timestamp())
PCS = [PC, "pc-002"]
STREAM = LogStream(PC, "app", "1")

Step = Callable[[Transaction], object]


def beat(tx: Transaction) -> None:
    """Two PCs' heartbeats, and their windows closed."""
    beats = {}
    for name in PCS:
        taken = read_heartbeat(name, Heartbeat(metrics=Metrics(cpu_percent=1.0)), "{}", START)
        pulse, point, _ = take_heartbeat(None, taken, every_audited=False)
        beats[name] = Beat(taken, pulse, point)
    tx.agents.beat(beats)
    tx.agents.reopen({name: close_windows(name, "", START) for name in PCS})


INGEST: dict[str, Step] = {
    "pulses": lambda tx: tx.agents.pulses(PCS),
    "agents": lambda tx: tx.agents.named(PCS),
    "heartbeats": beat,
    "log positions": lambda tx: tx.logs.acked_seqs({STREAM, LogStream("pc-002", "app", "1")}),
    "log positions advanced": lambda tx: tx.logs.advance({STREAM: 5}),
    "incident": lambda tx: tx.incidents.open_of(PC, "E_DISK"),
    "commands in flight": lambda tx: tx.commands.in_flight(PC),
    "PCs with commands in flight": lambda tx: tx.commands.agents_in_flight(),
    "commands whose time is up": lambda tx: tx.commands.open_before(START),
    "command": lambda tx: tx.commands.get("cmd-1"),
    "agent key": lambda tx: tx.keys.get(PC),
}
READING: dict[str, Step] = {
    "log lines": lambda tx: tx.logs.newest(PC, before_id=9, limit=5),
    "error tallies": lambda tx: tx.logs.error_tallies(PCS, since=START),
    "chunks": lambda tx: tx.history.chunks(PC, resolution_s=MINUTE_S, start_s=0, end_s=START_S),
    "rollups": lambda tx: tx.history.rollups(PC, resolution_s=TWO_HOURS_S, start_s=0, end_s=START_S),
    "open points": lambda tx: tx.history.open_points(PC),
    "ids": lambda tx: tx.history.agent_ids(after=PC, limit=10),
}
FORGETTING: dict[str, Step] = {
    "doomed": lambda tx: tx.history.doomed(PCS, resolution_s=RAW_S, before_s=START_S),
    "chunks": lambda tx: tx.history.prune(PCS, resolution_s=RAW_S, before_s=START_S),
    "rollups": lambda tx: tx.history.prune(PCS, resolution_s=QUARTER_S, before_s=START_S),
}


def walks(connection: Connection, statement: str, parameters: tuple[object, ...] = ()) -> list[str]:
    """The parts of a statement's plan that read a whole table or index; lists and subqueries of its own are none."""
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    own = ("VIRTUAL TABLE", "CONSTANT ROW", "SCAN anon_")
    return [row.detail for row in rows if row.detail.startswith("SCAN") and not any(name in row.detail for name in own)]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, id=f"{kind}: {name}")
        for kind, steps in (("ingest", INGEST), ("reading", READING), ("forgetting", FORGETTING))
        for name, step in steps.items()
    ],
)
async def test_no_step_walks_through_a_table(store: Database, step: Step) -> None:
    asked: list[str] = []
    walked: list[str] = []

    def explain(
        connection: Connection, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if not statement.startswith(("EXPLAIN", "PRAGMA", "BEGIN")):
            asked.append(statement)
            walked.extend(walks(connection, statement, parameters))

    event.listen(store._write_engine, "before_cursor_execute", explain)
    await store.write(step)

    assert asked
    assert walked == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM metric_chunks WHERE start_s <= 5",
        "SELECT * FROM log_positions WHERE (agent_id, stream, epoch) IN (VALUES ('a', 'b', 'c'), ('d', 'e', 'f'))",
    ],
)
async def test_a_walk_through_a_table_would_be_noticed(store: Database, statement: str) -> None:
    assert await store.read(lambda tx: walks(tx._connection, statement))  # type: ignore[attr-defined]
