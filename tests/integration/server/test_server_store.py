"""The store itself: every noun goes in and comes out alike on both databases."""

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from builders import PC, agent, approval, command, entry
from fakes import START
from reco3.protocol.commands import CommandType
from reco3.server.domain.agent_keys import AgentKey
from reco3.server.domain.audit import AuditEvent, Stream
from reco3.server.domain.commands import CommandStatus
from reco3.server.domain.incidents import Incident, IncidentStatus, Sighting, opened
from reco3.server.domain.logs import LogStream, line_of
from reco3.server.domain.operators import Account, Role, Session
from reco3.server.store.database import Database
from reco3.server.store.tables import metadata

pytestmark = pytest.mark.anyio

LATER = START + timedelta(seconds=1, milliseconds=7)

# As in CONTRACT.md, "Tables": what administrators and scripts type.
CONTRACT_QUERIES = [
    "SELECT agent_id, last_seen FROM agent_status;",
    "SELECT id, type, status FROM agent_commands ORDER BY ts DESC LIMIT 10;",
    "SELECT * FROM approvals;",
    "SELECT ts, actor, event_type FROM audit_log WHERE event_type LIKE 'agent%' ORDER BY ts DESC LIMIT 20;",
    (
        "SELECT ts, actor, event_type, ref_id, payload_json FROM audit_log "
        "WHERE event_type IN ('agent_pull','agent_report') ORDER BY ts DESC LIMIT 50;"
    ),
    "SELECT ts, level, msg FROM agent_logs ORDER BY ts DESC LIMIT 20;",
    "SELECT * FROM incidents WHERE title LIKE '%Agent%' ORDER BY ts_open DESC LIMIT 1;",
]
CONTRACT_COLUMNS = {
    "agent_status": "agent_id, last_seen, platform, version, payload_json, org_id, created_at, updated_at",
    "agent_logs": "id, agent_id, ts, level, code, msg, meta_json, org_id, created_at",
    "agent_commands": "id, agent_id, ts, type, payload_json, status, result_json, org_id, created_at",
    "incidents": "id, ts_open, ts_close, severity, title, summary, status",
    "approvals": "id, command_id, approved_by, approved_at, org_id",
}


def incident(incident_id: str = "incident-1", *, code: str = "DISK", seconds: int = 0) -> Incident:
    at = START + timedelta(seconds=seconds)
    return opened(Sighting(PC, code, "ERROR", "disk failure", at), incident_id)


async def fill(store: Database) -> None:
    """One row in every table that the contract names."""
    line = line_of(PC, entry(code="DISK"), START)
    pulled = AuditEvent(START, f"agent:{PC}", "agent_pull", "cmd-1", PC, {"command_ids": ["cmd-1"]})
    await store.write(lambda tx: tx.agents.put([agent()]))
    await store.write(lambda tx: tx.logs.add([line]))
    await store.write(lambda tx: tx.commands.add(command(CommandType.RESTART_PROCESS)))
    await store.write(lambda tx: tx.commands.add_approval(approval()))
    await store.write(lambda tx: tx.incidents.add(incident()))
    await store.write(lambda tx: tx.audit.add([pulled]))


async def test_an_agent_comes_out_as_it_went_in(store: Database) -> None:
    known = agent(last_seen=LATER, apply_enabled=None, rollup_from=None, mode=None)

    await store.write(lambda tx: tx.agents.put([known]))

    assert await store.read(lambda tx: tx.agents.named([PC, "pc-404"])) == {PC: known}


async def test_putting_an_agent_again_replaces_it(store: Database) -> None:
    await store.write(lambda tx: tx.agents.put([agent()]))
    changed = agent(last_seen=LATER, mode="SAFE", apply_enabled=True, rollup_count=3)

    await store.write(lambda tx: tx.agents.put([changed]))

    assert await store.read(lambda tx: tx.agents.page(after="", limit=10)) == [changed]


async def test_agents_page_in_the_order_of_their_ids(store: Database) -> None:
    names = ["a", "b", "c", "d"]
    await store.write(lambda tx: tx.agents.put([agent(name) for name in reversed(names)]))

    first = await store.read(lambda tx: tx.agents.page(after="", limit=3))
    rest = await store.read(lambda tx: tx.agents.page(after=first[-1].agent_id, limit=3))

    assert [found.agent_id for found in first + rest] == names
    assert await store.read(lambda tx: tx.agents.count()) == len(names)


async def test_silence_is_measured_to_the_millisecond(store: Database) -> None:
    early, late = agent("early", last_seen=START), agent("late", last_seen=START + timedelta(milliseconds=1))
    announced = agent("announced", last_seen=START, is_online=False)
    await store.write(lambda tx: tx.agents.put([early, late, announced]))

    assert await store.read(lambda tx: tx.agents.count_seen_after(START)) == 1
    assert await store.read(lambda tx: tx.agents.online()) == {
        "early": START,
        "late": START + timedelta(milliseconds=1),
    }


async def test_pruning_deletes_only_what_is_too_old_and_no_more_than_asked(store: Database) -> None:
    lines = [line_of(PC, entry(str(n)), START + timedelta(seconds=n)) for n in range(5)]
    await store.write(lambda tx: tx.logs.add(lines))
    cutoff = START + timedelta(seconds=3)

    assert await store.write(lambda tx: tx.logs.prune(cutoff, limit=2)) == 2
    assert await store.write(lambda tx: tx.logs.prune(cutoff, limit=2)) == 1
    assert await store.write(lambda tx: tx.logs.prune(cutoff, limit=2)) == 0
    assert [line.msg for line in await store.read(lambda tx: tx.logs.newest(PC, before_id=None, limit=9))] == ["4", "3"]


async def test_log_lines_come_out_newest_first_and_page_by_their_number(store: Database) -> None:
    sent = [line_of(PC, entry(f"line {n}", meta={"n": n, "text": "ä\u2028"}), LATER) for n in range(3)]
    await store.write(lambda tx: tx.logs.add(sent))

    first = await store.read(lambda tx: tx.logs.newest(PC, before_id=None, limit=2))
    rest = await store.read(lambda tx: tx.logs.newest(PC, before_id=first[-1].id, limit=2))

    assert [line.msg for line in first + rest] == ["line 2", "line 1", "line 0"]
    assert rest[0].meta == {"n": 0, "text": "ä\u2028"}
    assert rest[0].created_at == LATER


async def test_only_recent_errors_are_tallied_and_the_last_one_is_named(store: Database) -> None:
    lines = [
        line_of(PC, entry("long ago"), START - timedelta(hours=2)),
        line_of(PC, entry("first"), START),
        line_of(PC, entry("a warning", level="WARN"), START),
        line_of(PC, entry("last", level="CRITICAL"), LATER),
    ]
    await store.write(lambda tx: tx.logs.add(lines))

    tallies = await store.read(lambda tx: tx.logs.error_tallies([PC, "pc-002"], since=START))

    assert set(tallies) == {PC}
    assert (tallies[PC].count, tallies[PC].last_msg, tallies[PC].last_at) == (2, "last", LATER)


async def test_the_position_of_a_stream_only_knows_its_own_epoch(store: Database) -> None:
    first, second = LogStream(PC, "app", "1"), LogStream("pc-002", "app", "1")
    await store.write(lambda tx: tx.logs.advance({first: 5, second: 7}))
    await store.write(lambda tx: tx.logs.advance({first: 9}))

    asked = {first, second, LogStream(PC, "app", "2"), LogStream("pc-003", "app", "1")}

    assert await store.read(lambda tx: tx.logs.acked_seqs(asked)) == {first: 9, second: 7}
    assert await store.read(lambda tx: tx.logs.acked_seqs(set())) == {}


async def test_a_command_comes_out_with_its_approval(store: Database) -> None:
    asked = command(CommandType.RESTART_PROCESS, payload_json='{"process": "nginx"}')
    await store.write(lambda tx: tx.commands.add(asked))
    await store.write(lambda tx: tx.commands.add_approval(approval()))

    found = await store.read(lambda tx: tx.commands.get("cmd-1"))

    assert found == command(CommandType.RESTART_PROCESS, payload_json='{"process": "nginx"}', approvals=(approval(),))
    assert await store.read(lambda tx: tx.commands.get("cmd-404")) is None


async def test_a_changed_command_keeps_every_change(store: Database) -> None:
    await store.write(lambda tx: tx.commands.add(command()))
    changed = command(
        status=CommandStatus.FAILED,
        result_json='{"success": false}',
        delivered_at=LATER,
        started_at=LATER,
        finished_at=LATER,
    )

    await store.write(lambda tx: tx.commands.put(changed))

    assert await store.read(lambda tx: tx.commands.get("cmd-1")) == replace(changed, version=1)


async def test_only_commands_that_have_not_ended_are_in_flight_oldest_first(store: Database) -> None:
    statuses = list(CommandStatus)
    commands = [
        command(id=status.value, status=status, ts=START - timedelta(seconds=n)) for n, status in enumerate(statuses)
    ]
    other = command(id="other", agent_id="pc-002")
    await store.write(lambda tx: [tx.commands.add(one) for one in [*commands, other]])

    found = await store.read(lambda tx: tx.commands.in_flight(PC))

    assert [one.status for one in found] == [CommandStatus.RUNNING, CommandStatus.DELIVERED, CommandStatus.PENDING]


async def test_commands_of_one_moment_page_without_gap_or_repeat(store: Database) -> None:
    commands = [command(id=f"cmd-{n}") for n in range(5)]
    await store.write(lambda tx: [tx.commands.add(one) for one in commands])

    first = await store.read(lambda tx: tx.commands.newest(agent_id=None, statuses=(), before=None, limit=2))
    cursor = (first[-1].ts, first[-1].id)
    rest = await store.read(lambda tx: tx.commands.newest(agent_id=PC, statuses=(), before=cursor, limit=9))

    assert [one.id for one in first + rest] == ["cmd-4", "cmd-3", "cmd-2", "cmd-1", "cmd-0"]
    assert await store.read(lambda tx: tx.commands.newest(agent_id="pc-002", statuses=(), before=None, limit=9)) == []


async def test_an_incident_comes_out_as_it_went_in(store: Database) -> None:
    known = incident()

    await store.write(lambda tx: tx.incidents.add(known))

    assert await store.read(lambda tx: tx.incidents.get("incident-1")) == known
    assert await store.read(lambda tx: tx.incidents.open_of(PC, "DISK")) == known
    assert await store.read(lambda tx: tx.incidents.open_of(PC, "OTHER")) is None


async def test_incidents_page_newest_first_by_status(store: Database) -> None:
    incidents = [incident(f"incident-{n}", code=str(n), seconds=n) for n in range(3)]
    await store.write(lambda tx: [tx.incidents.add(one) for one in incidents])

    first = await store.read(lambda tx: tx.incidents.newest(status=IncidentStatus.OPEN, before=None, limit=2))
    cursor = (first[-1].ts_open, first[-1].id)
    rest = await store.read(lambda tx: tx.incidents.newest(status=None, before=cursor, limit=2))

    assert [one.code for one in first + rest] == ["2", "1", "0"]
    assert await store.read(lambda tx: tx.incidents.newest(status=IncidentStatus.CLOSED, before=None, limit=2)) == []


async def test_the_database_itself_refuses_a_second_open_incident_of_a_code(store: Database) -> None:
    await store.write(lambda tx: tx.incidents.add(incident("first")))

    with pytest.raises(Exception, match="cannot write"):
        await store.write(lambda tx: tx.incidents.add(incident("second")))

    assert await store.read(lambda tx: tx.incidents.get("second")) is None


async def test_the_database_itself_refuses_a_second_approval_of_a_command(store: Database) -> None:
    await store.write(lambda tx: tx.commands.add(command(CommandType.ROLLBACK)))
    await store.write(lambda tx: tx.commands.add_approval(approval()))

    with pytest.raises(Exception, match="cannot write"):
        await store.write(lambda tx: tx.commands.add_approval(approval()))


async def test_audit_rows_come_out_newest_first_and_can_be_chosen(store: Database) -> None:
    events = [
        AuditEvent(START, "user:admin", "command_created", "cmd-1", PC, {"n": [1, None, "ä"]}),
        AuditEvent(LATER, f"agent:{PC}", "agent_heartbeat", PC, PC, {}, Stream.TELEMETRY),
        AuditEvent(LATER, "user:admin", "command_approved"),
    ]
    await store.write(lambda tx: tx.audit.add(events))

    found = await store.read(lambda tx: tx.audit.newest(event_type=None, actor=None, before_id=None, limit=9))
    by_admin = await store.read(
        lambda tx: tx.audit.newest(event_type=None, actor="user:admin", before_id=None, limit=9)
    )
    older = await store.read(
        lambda tx: tx.audit.newest(event_type="command_created", actor=None, before_id=found[0].id, limit=9)
    )

    assert [recorded.event for recorded in found] == events[::-1]
    assert [recorded.event.event_type for recorded in by_admin] == ["command_approved", "command_created"]
    assert [recorded.event for recorded in older] == events[:1]


async def test_agent_keys_are_stored_and_replaced(store: Database) -> None:
    first, second, third = AgentKey(PC, "hash-1", START), AgentKey("pc-002", "hash-2", START), AgentKey(PC, "3", START)
    await store.write(lambda tx: tx.keys.put([first, second]))
    await store.write(lambda tx: tx.keys.put([third]))

    assert await store.read(lambda tx: tx.keys.all()) == {PC: third, "pc-002": second}


async def test_an_operator_is_found_by_the_hash_of_his_key(store: Database) -> None:
    assert not await store.read(lambda tx: tx.operators.has_any())

    ann = Account("ann", Role.APPROVER, START)
    await store.write(lambda tx: tx.operators.add(ann, api_key_hash="hash"))

    assert await store.read(lambda tx: tx.operators.has_any())
    assert await store.read(lambda tx: tx.operators.by_key_hash("hash")) == ann
    assert await store.read(lambda tx: tx.operators.by_key_hash("HASH")) is None


async def test_sessions_end_by_themselves_or_by_log_out(store: Database) -> None:
    sessions = [Session(name, name, Role.VIEWER, START, START + timedelta(hours=n)) for n, name in enumerate("abc")]
    await store.write(lambda tx: [tx.sessions.add(session) for session in sessions])

    await store.write(lambda tx: tx.sessions.prune(START))
    await store.write(lambda tx: tx.sessions.end("b"))

    found = [await store.read(lambda tx, name=name: tx.sessions.get(name)) for name in "abc"]
    assert found == [None, None, sessions[2]]


async def test_text_of_any_script_survives(store: Database) -> None:
    hostile = "'; DROP TABLE agent_logs; -- \u202e\u200f<script>\n\t\x1b[31m \U0001f4a9 \x00 end"
    await store.write(lambda tx: tx.logs.add([line_of(PC, entry(hostile, meta={"raw": hostile}), START)]))

    found = await store.read(lambda tx: tx.logs.newest(PC, before_id=None, limit=1))

    assert found[0].msg == hostile.replace("\0", "\u2400")
    assert found[0].meta["raw"] == hostile


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_the_contracts_statements_run_verbatim(store: Database, store_url: URL) -> None:
    await fill(store)

    with sqlite3.connect(str(store_url.database)) as connection:
        found = [connection.execute(query).fetchall() for query in CONTRACT_QUERIES]

    assert [len(rows) for rows in found] == [1] * len(CONTRACT_QUERIES)
    connection.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_the_contracts_columns_are_there(store: Database, store_url: URL) -> None:
    await fill(store)

    with sqlite3.connect(str(store_url.database)) as connection:
        for table, columns in CONTRACT_COLUMNS.items():
            assert len(connection.execute(f"SELECT {columns} FROM {table}").fetchall()) == 1
    connection.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_every_time_in_sqlite_is_iso_text_of_one_width_ending_in_z(store: Database, store_url: URL) -> None:
    await fill(store)
    times = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if type(column.type).__name__ == "UtcTime"
    }

    with sqlite3.connect(str(store_url.database)) as connection:
        found = [row[0] for table, name in times for row in connection.execute(f"SELECT {name} FROM {table}")]
    connection.close()

    texts = [text for text in found if text is not None]
    assert len(texts) > 10
    assert {
        text for text in texts if not (len(text) == len("2030-01-15T12:00:00.000Z") and text.endswith("Z"))
    } == set()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_the_database_file_is_readable_by_its_owner_alone(store: Database, store_url: URL) -> None:
    await fill(store)

    mode = Path(str(store_url.database)).stat().st_mode  # noqa: ASYNC240 - a stat of a local file blocks nobody here
    assert mode & 0o077 == 0
