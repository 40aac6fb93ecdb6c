"""Builders: valid values with defaults, so that a test shows only what matters to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fakes import START, CounterIds, FakeClock, RecordingAnnouncer
from reco3.protocol.commands import CommandType
from reco3.protocol.messages import Heartbeat, LogBatch, LogEntry, Metrics, WatchedProcess
from reco3.server.domain.agents import Agent, TakenHeartbeat, read_heartbeat
from reco3.server.domain.audit import AuditEvent, HeartbeatAudit
from reco3.server.domain.commands import AgentReport, Approval, Command, CommandStatus, ReportStatus
from reco3.server.domain.history import Keeping
from reco3.server.domain.metrics import Sample
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services.accounts import AccountService
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.agents import AgentService
from reco3.server.services.approvals import ApprovalService
from reco3.server.services.audit import AuditService
from reco3.server.services.break_glass import BreakGlassService
from reco3.server.services.clones import CloneWatch
from reco3.server.services.commands import CommandRequest, CommandService
from reco3.server.services.deliveries import DeliveryService
from reco3.server.services.denials import DenialService
from reco3.server.services.enrolments import EnrolmentService
from reco3.server.services.history import HistoryService
from reco3.server.services.incidents import IncidentRecorder, IncidentService
from reco3.server.services.key_custody import KeyCustodyService
from reco3.server.services.keys import KeyService
from reco3.server.services.logs import LogService, TakenBatch
from reco3.server.services.operators import OperatorService
from reco3.server.services.passkeys import PasskeyService
from reco3.server.services.passwords import Cost, Passwords
from reco3.server.services.policies import PolicyService
from reco3.server.services.ports import Outside, Store
from reco3.server.services.reports import ReportService
from reco3.server.services.tokens import TokenService
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.services.wakeups import Wakeups

PC = "pc-001"
DATA = Path(__file__).parent / "data"
SECRET = "a-secret-of-enough-characters"


def cases(name: str) -> list[dict[str, Any]]:
    """The table of cases in `tests/data/<name>.json`."""
    table: list[dict[str, Any]] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return table


def expanded(value: Any) -> Any:
    """A case's value written out.

    `{"$repeat": text, "times": n}` and `{"$concat": [parts]}` say shortly what JSON cannot.
    """
    if isinstance(value, list):
        return [expanded(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        return value["$repeat"] * value["times"]
    if "$concat" in value:
        return "".join(expanded(value["$concat"]))
    return {name: expanded(part) for name, part in value.items()}


def metrics(**changes: Any) -> Metrics:
    """One sample of a PC that watches nginx."""
    defaults: dict[str, Any] = {
        "cpu_percent": 12.5,
        "mem_percent": 40.0,
        "disk_percent": 70.0,
        "net_bytes_sent": 1_000,
        "net_bytes_recv": 2_000,
        "hostname": "machine",
        "mode": "NORMAL",
        "apply_enabled": False,
        "processes": [WatchedProcess("nginx", running=True, pid=77, status="sleeping", count=1, pids=[77])],
    }
    return Metrics(**{**defaults, **changes})


def taken_heartbeat(
    agent_id: str = PC, *, at: datetime = START, version: str = "1.0", **changes: Any
) -> TakenHeartbeat:
    """A heartbeat that passed the border."""
    heartbeat = Heartbeat(metrics(**changes), platform="linux", version=version)
    processes = [asdict(process) for process in heartbeat.metrics.processes]
    body = {"metrics": {"cpu_percent": heartbeat.metrics.cpu_percent, "processes": processes}, "platform": "linux"}
    return read_heartbeat(agent_id, heartbeat, json.dumps(body), at)


def history_sample(seconds: float = 0, *, agent_id: str = PC, **changes: Any) -> Sample:
    """The history's point of a heartbeat so many seconds after the start."""
    defaults: dict[str, Any] = {
        "cpu_percent": 12.5,
        "mem_percent": 40.0,
        "disk_percent": 70.0,
        "net_bytes_sent": 1_000,
        "net_bytes_recv": 2_000,
    }
    return Sample(agent_id=agent_id, ts=START + timedelta(seconds=seconds), **{**defaults, **changes})


def agent(agent_id: str = PC, *, last_seen: datetime = START, **changes: Any) -> Agent:
    """A PC that is online and runs in NORMAL mode."""
    defaults: dict[str, Any] = {
        "platform": "linux",
        "version": "1.0",
        "payload_json": '{"metrics":{}}',
        "created_at": START,
        "updated_at": last_seen,
        "mode": "NORMAL",
        "apply_enabled": False,
        "is_online": True,
        "rollup_from": START,
    }
    return Agent(agent_id=agent_id, last_seen=last_seen, **{**defaults, **changes})


def entry(msg: str = "disk failure on /dev/sda1", **changes: Any) -> LogEntry:
    """An ERROR line."""
    return LogEntry(msg, **{"ts": "2030-01-15T11:59:58Z", "level": "ERROR", **changes})


def taken_batch(*entries: LogEntry, agent_id: str = PC, at: datetime = START, **numbering: Any) -> TakenBatch:
    """A batch of lines that passed the border."""
    return TakenBatch(agent_id, LogBatch(list(entries), **numbering), at)


def command(command_type: CommandType = CommandType.SET_MODE, **changes: Any) -> Command:
    """A pending command for `pc-001`."""
    defaults: dict[str, Any] = {
        "id": "cmd-1",
        "agent_id": PC,
        "ts": START,
        "payload_json": '{"mode": "SAFE"}',
        "status": CommandStatus.PENDING,
        "created_by": "admin",
        "expires_at": START + timedelta(days=1),
    }
    return Command(type=command_type, **{**defaults, **changes})


def approval(command_id: str = "cmd-1") -> Approval:
    """A human's yes."""
    return Approval("approval-1", command_id, "admin", START)


def report(status: ReportStatus = ReportStatus.COMPLETED, **changes: Any) -> AgentReport:
    """A report about `cmd-1`."""
    defaults: dict[str, Any] = {"command_id": "cmd-1", "agent_id": PC, "result": {"success": True}}
    fields = {**defaults, **changes}
    return AgentReport(status=status, result_json=json.dumps(fields["result"]), **fields)


def operator(role: Role = Role.ADMIN, name: str = "admin") -> Operator:
    """An operator who came with an API key."""
    return Operator(name, role, LoginMethod.API_KEY)


def request(
    command_type: str = "SET_MODE", payload: Mapping[str, object] | None = None, *, agent_id: str = PC
) -> CommandRequest:
    """An operator's wish."""
    return CommandRequest(agent_id, command_type, payload if payload is not None else {"mode": "SAFE"})


@dataclass(frozen=True, slots=True)
class Rig:
    """Every service over one store, with a clock that the test moves."""

    outside: Outside
    store: Store
    clock: FakeClock
    announcer: RecordingAnnouncer
    wakeups: Wakeups
    agents: AgentService
    history: HistoryService
    logs: LogService
    commands: CommandService
    approvals: ApprovalService
    policies: PolicyService
    break_glass: BreakGlassService
    deliveries: DeliveryService
    reports: ReportService
    incidents: IncidentService
    audit: AuditService
    operators: OperatorService
    accounts: AccountService
    passkeys: PasskeyService
    operator_keys: KeyService
    tokens: TokenService
    denials: DenialService
    agent_keys: AgentKeyService
    clones: CloneWatch
    enrolments: EnrolmentService
    key_custody: KeyCustodyService
    trust_changes: TrustChangeService

    async def events(self, *event_types: str) -> list[AuditEvent]:
        """The audit rows of these types (of all when none is named), oldest first."""
        newest = await self.audit.newest(event_type=None, actor=None, before_id=None, limit=10_000)
        events = [recorded.event for recorded in reversed(newest)]
        return [event for event in events if not event_types or event.event_type in event_types]


def rig(
    store: Store,
    *,
    approval_required: bool = True,
    heartbeat_audit: HeartbeatAudit = HeartbeatAudit.AUTO,
    api_key: str | None = None,
) -> Rig:
    """The services, wired as `wiring` does it."""
    clock, announcer, wakeups, new_id = FakeClock(), RecordingAnnouncer(), Wakeups(), CounterIds()
    outside = Outside(store=store, announcer=announcer, clock=clock, new_id=new_id)
    recorder = IncidentRecorder(new_id)
    agent_keys, clones = AgentKeyService(outside), CloneWatch(outside)
    # The real cost of a password is measured where passwords are tested; here it would only be waited for.
    passwords = Passwords(Cost(iterations=1, memory_kib=64))
    operators = OperatorService(outside, api_key=api_key, secret_key=SECRET, passwords=passwords)
    return Rig(
        outside=outside,
        store=store,
        clock=clock,
        announcer=announcer,
        wakeups=wakeups,
        agents=AgentService(outside, heartbeat_audit, clones),
        history=HistoryService(outside, Keeping()),
        logs=LogService(outside, recorder),
        commands=CommandService(outside, wakeups, approval_required=approval_required),
        approvals=ApprovalService(outside),
        policies=PolicyService(outside),
        break_glass=BreakGlassService(outside),
        deliveries=DeliveryService(outside, wakeups, clones),
        reports=ReportService(outside, recorder),
        incidents=IncidentService(outside),
        audit=AuditService(outside),
        operators=operators,
        accounts=AccountService(outside, operators),
        passkeys=PasskeyService(outside, operators),
        operator_keys=KeyService(outside),
        tokens=TokenService(outside),
        denials=DenialService(outside),
        agent_keys=agent_keys,
        clones=clones,
        enrolments=EnrolmentService(outside, agent_keys, wakeups, clones),
        key_custody=KeyCustodyService(outside, agent_keys, wakeups, clones),
        trust_changes=TrustChangeService(outside),
    )
