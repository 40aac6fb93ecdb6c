"""The messages of the agent protocol as frozen values.

They say which fields exist and their types; how they become bytes is the business of each side's border.
Unknown fields are ignored by whoever receives a message, so that either side may be upgraded first.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InterfaceTotals:
    """Bytes since boot of one network interface."""

    name: str
    bytes_sent: int
    bytes_recv: int


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """One entry of `watch.processes` as the PC sees it now.

    `pid` is the oldest process of that name, `pids` all of them, oldest first.
    `status` is psutil's word for the oldest one, or `missing`.
    `restarts` counts how often the oldest process was seen replaced by another since the agent started.
    `create_time_ms` is when the oldest one was created, in Unix milliseconds.
    """

    name: str
    running: bool
    pid: int | None = None
    status: str | None = ""
    count: int = 0
    pids: list[int] = field(default_factory=list)
    restarts: int = 0
    allow_restart: bool = False
    create_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """One sample of a PC: percentages 0 to 100, sizes in MiB and GiB, network totals in bytes since boot.

    `journal` names the journal that remembers this PC's commands, `veto_s` is how long a strong command waits there.
    `agent_started_ms` is when the agent's process started, in Unix milliseconds.
    `approvers_pinned` is how many approvers' keys the PC pins, `approvals_required` how many of their owners it wants,
    `trust_version` names the set of its pins.
    """

    cpu_percent: float | None = None
    cpu_count: int | None = None
    mem_percent: float | None = None
    mem_used_mb: float | None = None
    mem_total_mb: float | None = None
    disk_percent: float | None = None
    disk_used_gb: float | None = None
    disk_total_gb: float | None = None
    net_bytes_sent: int | None = None
    net_bytes_recv: int | None = None
    platform: str | None = None
    hostname: str | None = None
    mode: str | None = None
    apply_enabled: bool | None = None
    journal: str | None = None
    veto_s: int | None = None
    agent_started_ms: int | None = None
    approvers_pinned: int | None = None
    approvals_required: int | None = None
    trust_version: str | None = None
    processes: list[WatchedProcess] = field(default_factory=list)
    interfaces: list[InterfaceTotals] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`POST /agent/heartbeat`, every ten seconds."""

    metrics: Metrics
    platform: str | None = ""
    version: str | None = ""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log line: `ts` in RFC 3339, `level` one of WARN, ERROR, CRITICAL (older agents may send more)."""

    msg: str
    ts: str | None = ""
    level: str | None = "ERROR"
    code: str | None = None
    meta: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LogBatch:
    """`POST /agent/logs`.

    `stream`, `epoch` and `first_seq` number the lines of a newer agent densely: the n-th entry has sequence number
    `first_seq + n`.
    The server stores each number once and answers `acked_seq`, the highest number it holds.
    """

    logs: list[LogEntry]
    stream: str | None = None
    epoch: str | None = None
    first_seq: int | None = None


@dataclass(frozen=True, slots=True)
class CommandOrder:
    """One command as `GET /agent/pull` delivers it; `payload_json` is a JSON object in a string."""

    id: str
    agent_id: str
    ts: str
    type: str
    payload_json: str
    status: str


@dataclass(frozen=True, slots=True)
class CommandReport:
    """`POST /agent/report`: `status` is `completed` or `failed`; newer agents also send `running` first."""

    command_id: str
    status: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """`POST /agent/enrol`: `key_hash` is the SHA-256 of the key that the PC made, in hexadecimal digits.

    Without `agent_id` the PC takes the name that the token is for.
    """

    token: str
    key_hash: str
    agent_id: str | None = None
    platform: str | None = ""


@dataclass(frozen=True, slots=True)
class NextKey:
    """`POST /agent/key`: the SHA-256 of the key that the PC will use from now on."""

    next_key_hash: str
