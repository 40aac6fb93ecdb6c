"""The tables as a transaction on PostgreSQL sees them: what it writes, other server processes hear of.

On SQLite one process has the database to itself, and the tables are used as they are.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from reco3.server.domain.agent_keys import AgentKey
from reco3.server.domain.agents import Agent, Beat
from reco3.server.domain.commands import Command
from reco3.server.domain.incidents import Incident
from reco3.server.domain.logs import LogLine
from reco3.server.domain.operators import Account
from reco3.server.domain.trust_changes import StoredTrustChange
from reco3.server.store.agent_keys import AgentKeyTable
from reco3.server.store.agents import AgentTable
from reco3.server.store.commands import CommandTable
from reco3.server.store.hints import Hints
from reco3.server.store.incidents import IncidentTable
from reco3.server.store.logs import LogTable
from reco3.server.store.operators import OperatorTable
from reco3.server.store.trust_changes import TrustChangeTable


class TellingAgentTable(AgentTable):
    """`agent_status`; dashboards show it."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def beat(self, beats: Mapping[str, Beat]) -> None:
        """Store heartbeats; told when there is time."""
        super().beat(beats)
        self._hints.hear(beats)

    def put(self, agents: Sequence[Agent]) -> None:
        """Store it, and tell."""
        super().put(agents)
        self._hints.show("agents", [agent.agent_id for agent in agents])


class TellingCommandTable(CommandTable):
    """`agent_commands`; a PC may hold its pull at another process."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def add(self, command: Command) -> None:
        """Store it, and tell."""
        super().add(command)
        self._note(command)

    def put(self, command: Command) -> None:
        """Store it, and tell."""
        super().put(command)
        self._note(command)

    def _note(self, command: Command) -> None:
        self._hints.orders.add(command.agent_id)
        self._hints.show("commands", [command.agent_id])


class TellingKeyTable(AgentKeyTable):
    """`agent_keys`, of which every process keeps a copy."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def put(self, keys: Sequence[AgentKey]) -> None:
        """Store it, and tell."""
        super().put(keys)
        self._hints.keys.update(key.agent_id for key in keys)


class TellingLogTable(LogTable):
    """`agent_logs`; dashboards show it."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def add(self, lines: Sequence[LogLine]) -> None:
        """Store it, and tell."""
        super().add(lines)
        if lines:
            self._hints.show("logs", [line.agent_id for line in lines])


class TellingIncidentTable(IncidentTable):
    """`incidents`; dashboards show it."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def add(self, incident: Incident) -> None:
        """Store it, and tell."""
        super().add(incident)
        self._hints.show("incidents", [incident.agent_id])

    def put(self, incident: Incident) -> None:
        """Store it, and tell."""
        super().put(incident)
        self._hints.show("incidents", [incident.agent_id])


class TellingTrustChangeTable(TrustChangeTable):
    """`trust_changes`, whose revision every heartbeat's answer carries."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def add(self, change: StoredTrustChange) -> None:
        """Store it, and tell."""
        super().add(change)
        self._hints.has_trust_changes = True

    def put(self, change: StoredTrustChange) -> None:
        """Store it, and tell."""
        super().put(change)
        self._hints.has_trust_changes = True


class TellingOperatorTable(OperatorTable):
    """`operators`; whoever was changed must log in again, wherever his page is open."""

    def __init__(self, connection: Connection, hints: Hints) -> None:
        super().__init__(connection)
        self._hints = hints

    def put(self, account: Account) -> None:
        """Store it, and tell."""
        super().put(account)
        self._hints.dismissed.add(account.name)
