"""The `agent_status` table."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, true, update

from reco3.server.domain.agents import Agent, Beat, Pulse
from reco3.server.domain.history import Closed
from reco3.server.store.bulk import BulkInsert
from reco3.server.store.open_points import Fold, OpenPointsChanges
from reco3.server.store.pulses import PulseChanges
from reco3.server.store.tables import agent_status

_names = tuple(Agent.__dataclass_fields__)
_columns = [agent_status.c[name] for name in _names]
_pulse_names = Pulse._fields[:-1]
_pulse_columns = [
    *(agent_status.c[name] for name in ("agent_id", *_pulse_names)),
    func.length(agent_status.c.open_points),
]
_replaced = ", ".join(
    f"{name} = excluded.{name}" for name in _names if name not in ("agent_id", "created_at", "org_id")
)
_PUT = BulkInsert(agent_status, _names, f"ON CONFLICT (agent_id) DO UPDATE SET {_replaced}")

# The columns that a heartbeat writes, in the order of `_beat_row`. Of a known PC the first contact's time stays.
_beat_names = (
    *("agent_id", "last_seen", "updated_at", "created_at", "platform", "version", "payload_json"),
    *("mode", "apply_enabled", "is_online", "rollup_count", "rollup_from", "points_due_at", "agent_started_ms"),
)
_beaten = ", ".join(
    f"{name} = excluded.{name}" for name in _beat_names if name not in ("agent_id", "created_at", "rollup_from")
)
_beaten += ", rollup_from = coalesce(excluded.rollup_from, agent_status.rollup_from)"
_BEAT = BulkInsert(agent_status, _beat_names, f"ON CONFLICT (agent_id) DO UPDATE SET {_beaten}")
_BEAT_WITH_POINTS = BulkInsert(
    agent_status,
    (*_beat_names, "open_points"),
    f"ON CONFLICT (agent_id) DO UPDATE SET {_beaten}, open_points = agent_status.open_points || excluded.open_points",
)

# SQLite answers a row at a time, and each costs two hand-overs of the interpreter lock; one text costs two in all.
_as_json = {
    # SQLite keeps a truth as 0 or 1, which JSON must spell.
    "is_online": "json(CASE WHEN is_online THEN 'true' ELSE 'false' END)",
    "apply_enabled": "json(CASE apply_enabled WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)",
}
_pulse_as_json = ", ".join([*(_as_json.get(name, name) for name in _pulse_names), "0"])
_PULSES_AS_ONE_TEXT = (
    f"SELECT json_group_array(json_array(agent_id, json_array({_pulse_as_json}))) FROM agent_status "  # noqa: S608 - constant names only
    "WHERE agent_id IN (SELECT value FROM json_each(?))"
)
_decode_pulses = msgspec.json.Decoder(list[tuple[str, Pulse]]).decode
_ONLINE_AS_ONE_TEXT = "SELECT json_group_array(json_array(agent_id, last_seen)) FROM agent_status WHERE is_online"
_decode_online = msgspec.json.Decoder(list[tuple[str, datetime]]).decode


class Remembered(NamedTuple):
    """What the only writer of a SQLite database knows because he wrote it himself."""

    pulses: PulseChanges
    points: OpenPointsChanges


class AgentTable:
    """Reads and writes agents inside one transaction."""

    def __init__(self, connection: Connection, remembered: Remembered | None = None) -> None:
        self._connection = connection
        self._remembered = remembered

    def named(self, agent_ids: Sequence[str]) -> dict[str, Agent]:
        """The agents of these ids, as far as they are known."""
        query = select(*_columns).where(agent_status.c.agent_id.in_(agent_ids))
        return {row.agent_id: _agent(row) for row in self._connection.execute(query)}

    def pulses(self, agent_ids: Sequence[str]) -> dict[str, Pulse]:
        """What the last heartbeats of these agents left, as far as they are known."""
        if self._remembered is None:
            return _read_pulses(self._connection, agent_ids)
        pulses, points = self._remembered
        found = {agent_id: pulse for agent_id in agent_ids if (pulse := pulses.get(agent_id)) is not None}
        if len(found) < len(agent_ids):
            unknown = [agent_id for agent_id in agent_ids if agent_id not in found]
            for agent_id, pulse in _read_pulses_as_one_text(self._connection, unknown).items():
                found[agent_id] = pulse._replace(open_chars=len(points.get(agent_id).text))
        return found

    def beat(self, beats: Mapping[str, Beat]) -> None:
        """Insert or replace agents that sent heartbeats, and append to their open points."""
        if self._remembered is None:
            rows = [(*_beat_row(beat, None), beat.points) for beat in beats.values()]
            _BEAT_WITH_POINTS.run(self._connection, rows)
            return
        pulses, points = self._remembered
        earlier = pulses.get
        _BEAT.run(self._connection, [_beat_row(beat, earlier(agent_id)) for agent_id, beat in beats.items()])
        points.append({agent_id: beat.points for agent_id, beat in beats.items() if beat.points})
        points.prune()
        pulses.put({agent_id: beat.pulse for agent_id, beat in beats.items()})

    def open_points(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """The texts of the open windows of these agents."""
        if self._remembered is not None:
            return {agent_id: self._remembered.points.get(agent_id).text for agent_id in agent_ids}
        query = select(agent_status.c.agent_id, agent_status.c.open_points).where(
            agent_status.c.agent_id.in_(agent_ids)
        )
        return {row.agent_id: row.open_points for row in self._connection.execute(query)}

    def reopen(self, closed: Mapping[str, Closed]) -> None:
        """Replace open points by what closing left of them."""
        if self._remembered is not None:
            self._reopen_remembered(closed, *self._remembered)
            return
        change = (
            update(agent_status)
            .where(agent_status.c.agent_id == bindparam("name"))
            .values(open_points=bindparam("points"), points_due_at=bindparam("due_at"))
        )
        rows = [{"name": name, "points": one.open_points, "due_at": one.due_at} for name, one in closed.items()]
        self._connection.execute(change, rows)

    def _reopen_remembered(self, closed: Mapping[str, Closed], pulses: PulseChanges, points: OpenPointsChanges) -> None:
        points.fold([Fold(name, one.open_points, one.due_at) for name, one in closed.items()])
        for name, one in closed.items():
            pulse = pulses.get(name)
            if pulse is not None:
                pulses.put({name: pulse._replace(points_due_at=one.due_at, open_chars=len(one.open_points))})

    def put(self, agents: Sequence[Agent]) -> None:
        """Insert or replace agents."""
        if agents:
            _PUT.run(self._connection, [_agent_values(agent) for agent in agents])
            if self._remembered is not None:
                self._remembered.pulses.forget([agent.agent_id for agent in agents])

    def page(self, *, after: str, limit: int) -> list[Agent]:
        """The agents after an id, in the order of their ids."""
        query = select(*_columns).where(agent_status.c.agent_id > after).order_by(agent_status.c.agent_id).limit(limit)
        return [_agent(row) for row in self._connection.execute(query)]

    def online(self) -> dict[str, datetime]:
        """The agents that were announced online, and when each was last heard of."""
        if self._connection.dialect.name == "sqlite":
            return dict(_decode_online(self._connection.exec_driver_sql(_ONLINE_AS_ONE_TEXT).scalar_one()))
        query = select(agent_status.c.agent_id, agent_status.c.last_seen).where(agent_status.c.is_online == true())
        return {row.agent_id: row.last_seen for row in self._connection.execute(query)}

    def count(self) -> int:
        """How many agents there are."""
        return self._connection.execute(select(func.count()).select_from(agent_status)).scalar_one()

    def count_seen_after(self, cutoff: datetime) -> int:
        """How many agents were heard of after the cutoff."""
        query = (
            select(func.count())
            .select_from(agent_status)
            .where(agent_status.c.is_online == true(), agent_status.c.last_seen > cutoff)
        )
        return self._connection.execute(query).scalar_one()


def _read_pulses(connection: Connection, agent_ids: Sequence[str]) -> dict[str, Pulse]:
    rows = connection.execute(select(*_pulse_columns).where(agent_status.c.agent_id.in_(agent_ids)))
    return {row[0]: Pulse(*row[1:]) for row in rows}


def _read_pulses_as_one_text(connection: Connection, agent_ids: Sequence[str]) -> dict[str, Pulse]:
    """The same on SQLite, without the length of the open points."""
    if not agent_ids:
        return {}
    query = (msgspec.json.encode(agent_ids).decode(),)
    text: str = connection.exec_driver_sql(_PULSES_AS_ONE_TEXT, query).scalar_one()
    return dict(_decode_pulses(text))


def _agent(row: Row[Any]) -> Agent:
    return Agent(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping


_agent_values = attrgetter(*_names)


def _beat_row(beat: Beat, earlier: Pulse | None) -> tuple[object, ...]:
    (agent_id, at, payload_json, platform, _, _, _, _, _), pulse, _ = beat
    version, mode, apply_enabled, is_online, rollup_count, rollup_from, due_at, started_ms, _ = pulse
    if earlier is not None and earlier.rollup_from is rollup_from:
        rollup_from = None  # It stays as it is; writing a time as text costs as much as all else here.
    return (
        *(agent_id, at, at, at, platform, version, payload_json),
        *(mode, apply_enabled, is_online, rollup_count, rollup_from, due_at, started_ms),
    )
