"""The state of one simulated PC: some hundred bytes, because there are a hundred thousand of them.

It holds what a PC remembers and decides nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reco3.swarm.connections import Connection

from reco3.swarm.requests import NORMAL_MODE, agent_key


class SimulatedPc:
    """One PC; moments are of the monotonic clock, except `heartbeat_acked_at`, which is Unix time in seconds.

    `acked_seq` and `sent_seq` are the highest numbers of log lines that the server acknowledged and that were sent.
    `seen` is its journal: the ids of commands that it has carried out.
    """

    __slots__ = (
        "acked_seq",
        "are_logs_due",
        "beat",
        "began_at",
        "control",
        "control_at",
        "control_failures",
        "heartbeat_acked_at",
        "heartbeat_at",
        "heartbeat_due_at",
        "heartbeat_failures",
        "heartbeat_sent_at",
        "is_asking",
        "is_resting",
        "is_talking",
        "key",
        "logs_at",
        "logs_failures",
        "mark",
        "mode",
        "number",
        "quick_answers",
        "reports",
        "seen",
        "sent_seq",
        "telemetry",
    )

    def __init__(self, number: int, *, seed: str, began_at: float) -> None:
        self.number = number
        self.key = agent_key(seed, number).encode("ascii")
        self.began_at = began_at
        self.beat = 0
        self.mode = NORMAL_MODE
        self.mark = 0
        self._begin_telemetry()
        self._begin_control()

    def _begin_telemetry(self) -> None:
        self.telemetry: Connection | None = None
        self.is_talking = False
        self.heartbeat_at = self.began_at
        self.heartbeat_due_at: float | None = None
        self.heartbeat_sent_at = 0.0
        self.heartbeat_acked_at = 0.0
        self.heartbeat_failures = 0
        self.logs_at = 0.0
        self.are_logs_due = False
        self.logs_failures = 0
        self.acked_seq = 0
        self.sent_seq = 0

    def _begin_control(self) -> None:
        self.control: Connection | None = None
        self.is_asking = False
        self.is_resting = False
        self.control_at = 0.0
        self.control_failures = 0
        self.quick_answers = 0
        self.reports: list[str] | None = None
        self.seen: set[str] | None = None
