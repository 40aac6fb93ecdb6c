"""Compares the ledger with what the server really holds: straight from its SQLite file, or through the operator API.

It only reads. What was never acknowledged may be there or not, but not twice.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from reco3.swarm.ledger import Ledger
from reco3.swarm.operators import OperatorApi
from reco3.swarm.requests import agent_id
from reco3.swarm.targets import BadUsage

CLOCK_SLACK_S = 1.0
MAX_EXAMPLES = 5
_WORDS_BEFORE_TEXT = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was acknowledged and is not there, or is there more than once."""

    lines_acked: int
    lines_lost: int
    lines_duplicated: int
    heartbeats_checked: int
    heartbeats_lost: int
    commands_asked: int
    commands_not_arrived: int
    commands_repeated: int
    strong_repeated: int
    reports_acked: int
    reports_lost: int
    examples: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing acknowledged was lost or stored twice; a command that has not arrived yet is not lost."""
        return not (self.lines_lost or self.lines_duplicated or self.heartbeats_lost or self.reports_lost)


class Record(Protocol):
    """What the server holds."""

    def sequences(self, ledger: Ledger) -> Iterator[tuple[int, list[int]]]:
        """The numbers of this run's lines by PC, repetitions included."""

    def last_seen_at(self, ledger: Ledger) -> Mapping[int, float]:
        """When the server heard of each PC last, in Unix time."""

    def command_statuses(self, command_ids: Iterable[str]) -> Mapping[str, str]:
        """What became of these commands."""


class DatabaseRecord:
    """The server's SQLite file, opened read-only."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BadUsage(f"--database: there is no file {path}")
        self._path = path

    def sequences(self, ledger: Ledger) -> Iterator[tuple[int, list[int]]]:
        """From `agent_logs`, in the order of its index, so that no PC's lines need to be remembered longer."""
        query = "SELECT agent_id, msg FROM agent_logs WHERE agent_id GLOB 'sim-*' ORDER BY agent_id, id"
        with closing(self._connect()) as connection:
            for name, rows in groupby(connection.execute(query), key=itemgetter(0)):
                number = _number(name)
                if number is not None:
                    yield number, list(_sequences((row[1] for row in rows), ledger.epoch))

    def last_seen_at(self, ledger: Ledger) -> Mapping[int, float]:
        """From `agent_status`."""
        del ledger
        query = "SELECT agent_id, last_seen FROM agent_status WHERE agent_id GLOB 'sim-*'"
        with closing(self._connect()) as connection:
            return _moments(connection.execute(query))

    def command_statuses(self, command_ids: Iterable[str]) -> Mapping[str, str]:
        """From `agent_commands`."""
        wanted = set(command_ids)
        query = "SELECT id, status FROM agent_commands WHERE agent_id GLOB 'sim-*'"
        with closing(self._connect()) as connection:
            return {name: status for name, status in connection.execute(query) if name in wanted}

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)


class ApiRecord:
    """The operator API, page by page."""

    def __init__(self, api: OperatorApi) -> None:
        self._api = api

    def sequences(self, ledger: Ledger) -> Iterator[tuple[int, list[int]]]:
        """PC by PC. Raises: SwarmFailed."""
        for place, sent_seq in enumerate(ledger.sent_seq):
            if sent_seq:
                number = ledger.first_pc + place
                yield number, list(_sequences(self._api.messages(number), ledger.epoch))

    def last_seen_at(self, ledger: Ledger) -> Mapping[int, float]:
        """From the list of PCs. Raises: SwarmFailed."""
        del ledger
        return _moments(self._api.last_seen_texts())

    def command_statuses(self, command_ids: Iterable[str]) -> Mapping[str, str]:
        """One by one. Raises: SwarmFailed."""
        return {command_id: self._api.command_status(command_id) for command_id in command_ids}


def verify(ledger: Ledger, record: Record) -> Verdict:
    """Hold the books against the record."""
    lost, duplicated, examples = _verify_lines(ledger, record)
    heartbeats_lost, late = _verify_heartbeats(ledger, record)
    reported = [name for name, arrival in ledger.arrivals.items() if arrival.is_reported]
    statuses = record.command_statuses(reported)
    reports_lost = [name for name in reported if statuses.get(name) != "completed"]
    repeated = [arrival for arrival in ledger.arrivals.values() if arrival.deliveries > 1]
    return Verdict(
        lines_acked=ledger.lines_acked,
        lines_lost=lost,
        lines_duplicated=duplicated,
        heartbeats_checked=sum(1 for moment in ledger.heartbeat_acked_at if moment),
        heartbeats_lost=heartbeats_lost,
        commands_asked=len(ledger.asked),
        commands_not_arrived=sum(1 for name in ledger.asked if name not in ledger.arrivals),
        commands_repeated=len(repeated),
        strong_repeated=sum(1 for arrival in repeated if arrival.is_strong),
        reports_acked=len(reported),
        reports_lost=len(reports_lost),
        examples=tuple([*examples, *late, *(f"report of {name} is lost" for name in reports_lost)][:MAX_EXAMPLES]),
    )


def _verify_lines(ledger: Ledger, record: Record) -> tuple[int, int, list[str]]:
    lost, duplicated = ledger.lines_acked, 0
    examples: list[str] = []
    for number, sequences in record.sequences(ledger):
        place = number - ledger.first_pc
        if not 0 <= place < len(ledger.acked_seq):
            continue
        distinct = set(sequences)
        acked_seq = ledger.acked_seq[place]
        found = sum(1 for sequence in distinct if 1 <= sequence <= acked_seq)
        lost -= found
        duplicated += len(sequences) - len(distinct)
        if len(examples) < MAX_EXAMPLES:
            examples += _examples(number, sequences, distinct, acked_seq)
    return lost, duplicated, examples


def _examples(number: int, sequences: list[int], distinct: set[int], acked_seq: int) -> list[str]:
    found = []
    missing = next((sequence for sequence in range(1, acked_seq + 1) if sequence not in distinct), None)
    if missing is not None:
        found.append(f"line {missing} of {agent_id(number)} is lost")
    if len(sequences) != len(distinct):
        twice = next(sequence for sequence in sequences if sequences.count(sequence) > 1)
        found.append(f"line {twice} of {agent_id(number)} is stored twice")
    return found


def _verify_heartbeats(ledger: Ledger, record: Record) -> tuple[int, list[str]]:
    last_seen_at = record.last_seen_at(ledger)
    late = [
        f"the last heartbeat of {agent_id(number)} is lost"
        for number, acked_at in enumerate(ledger.heartbeat_acked_at, start=ledger.first_pc)
        if acked_at and last_seen_at.get(number, 0.0) < acked_at - CLOCK_SLACK_S
    ]
    return len(late), late


def _sequences(messages: Iterable[str], epoch: str) -> Iterator[int]:
    for message in messages:
        words = message.split(" ", _WORDS_BEFORE_TEXT)
        if len(words) > _WORDS_BEFORE_TEXT and words[1] == epoch and words[2].isdigit():
            yield int(words[2])


def _moments(rows: Iterable[tuple[str, str]]) -> dict[int, float]:
    named = ((_number(name), text) for name, text in rows)
    return {number: datetime.fromisoformat(text).timestamp() for number, text in named if number is not None}


def _number(name: str) -> int | None:
    digits = name.removeprefix("sim-")
    return int(digits) if name.startswith("sim-") and digits.isascii() and digits.isdigit() else None
