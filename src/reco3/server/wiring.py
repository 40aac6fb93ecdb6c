"""Settings → store → services → web: the only file that knows everybody."""

import contextlib
import gc
import logging
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.types import ASGIApp

from reco3.server.domain.agent_keys import Retired
from reco3.server.domain.errors import StartRefused
from reco3.server.domain.history import Keeping
from reco3.server.services.accounts import AccountService
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.agents import AgentService
from reco3.server.services.approvals import ApprovalService
from reco3.server.services.audit import AuditService
from reco3.server.services.break_glass import BreakGlassService
from reco3.server.services.clones import CloneWatch
from reco3.server.services.commands import CommandService
from reco3.server.services.deliveries import DeliveryService
from reco3.server.services.denials import DenialService
from reco3.server.services.enrolments import EnrolmentService
from reco3.server.services.history import HistoryService
from reco3.server.services.incidents import IncidentRecorder, IncidentService
from reco3.server.services.key_custody import KeyCustodyService
from reco3.server.services.keys import KeyService
from reco3.server.services.logs import LogService
from reco3.server.services.neighbours import NeighbourService
from reco3.server.services.operators import OperatorService
from reco3.server.services.passkeys import PasskeyService
from reco3.server.services.policies import PolicyService
from reco3.server.services.ports import Outside
from reco3.server.services.reports import ReportService
from reco3.server.services.retention import Retention, RetentionService
from reco3.server.services.tokens import TokenService
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.services.wakeups import Wakeups
from reco3.server.settings import Settings, read_settings
from reco3.server.store.database import Database, database_url, has_wal_race
from reco3.server.tasks.schedule import Task, every, running
from reco3.server.web.app import Services, WebOptions, build_app
from reco3.server.web.auth import Authenticator
from reco3.server.web.connections import Crowd, raised_descriptor_limit
from reco3.server.web.express import ExpressLane, ExpressServices
from reco3.server.web.live import LiveHub
from reco3.server.web.serving import DeadlineProtocol, bind, serve

DENIAL_FLUSH_S = 10
COLLECT_AFTER = (50_000, 20, 50)
# Whoever waits for an answer crosses between the loop's thread and the store's four times; Python's own 5 ms would be
# waited for each time while the other thread computes.
SWITCH_INTERVAL_S = 0.001
PRUNE_S = 300
# On PostgreSQL another server process may publish a trust change.
TRUST_REVISION_S = 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_WARNED = 20

log = logging.getLogger("reco3.server")


class Clock:
    """The time of day, in the milliseconds that the database keeps.

    Within one millisecond it returns the same value, so that whoever writes many times as text writes each but once.
    """

    def __init__(self) -> None:
        self._latest = (0, EPOCH)

    def __call__(self) -> datetime:
        """The time of this millisecond, as an aware UTC datetime."""
        now_ms = time.time_ns() // 1_000_000
        latest_ms, latest = self._latest
        if now_ms == latest_ms:
            return latest
        now = EPOCH + timedelta(milliseconds=now_ms)
        self._latest = (now_ms, now)
        return now


utc_now = Clock()


def new_id() -> str:
    """A random id that nobody can guess."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class House:
    """A wired server: its database, its services and its application."""

    settings: Settings
    database: Database
    services: Services
    retention: RetentionService
    wakeups: Wakeups
    live: LiveHub
    neighbours: NeighbourService
    crowd: Crowd

    def app(self) -> ASGIApp:
        """The ASGI application; its lifespan opens and closes the house."""
        authenticator = Authenticator(
            self.services.agent_keys,
            self.services.operators,
            self.services.denials,
            implicit_admin=self.settings.implicit_admin,
            clock=utc_now,
        )
        options = WebOptions(self.settings.test_mode, self.settings.require_approval, self.crowd)
        return build_app(
            self.services,
            self.live,
            authenticator,
            options=options,
            clock=utc_now,
            lifespan=self._lifespan,
        )

    def protocol(self) -> ExpressLane:
        """What speaks HTTP on a new connection: the express lane, with the ordinary protocol behind it."""
        services = ExpressServices(
            self.services.agent_keys,
            self.services.agents,
            self.services.deliveries,
            self.wakeups,
            self.services.trust_changes,
            self.services.logs,
        )
        return ExpressLane(services, DeadlineProtocol, self.crowd, utc_now)

    def say_farewell(self) -> None:
        """Release everybody who waits: the server is stopping."""
        self.wakeups.close()
        self.live.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        self.database.start()
        await self.services.approvals.open_fleet()
        await self.services.trust_changes.load_revision()
        _warn_of_retired(await self.services.agent_keys.seed(self.settings.agent_keys))
        self.database.listen(heard=self.neighbours.hear, missed=self.neighbours.catch_up)
        await self._offer_set_up()
        _collect_seldom()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        async with running(self._tasks()):
            yield
        await self.neighbours.close()
        await self.services.denials.flush(everything=True)
        self.database.close()

    def _tasks(self) -> list[Task]:
        return [
            Task("offline-sweep", self.services.agents.sweep_offline),
            Task("commands", self.services.commands.sweep),
            Task("trust-changes", every(TRUST_REVISION_S, self.services.trust_changes.load_revision)),
            Task("denials", every(DENIAL_FLUSH_S, self.services.denials.flush)),
            Task("retention", every(PRUNE_S, self.retention.prune)),
            Task("sessions", every(PRUNE_S, self.services.operators.prune_sessions)),
        ]

    async def _offer_set_up(self) -> None:
        if self.settings.implicit_admin:
            return
        token = await self.services.operators.open_set_up()
        if token is None:
            return
        link = f"http://127.0.0.1:{self.settings.port}/r3#setup={token}"
        print(f"Nobody can log in yet. Create the administrator, once, on this machine:\n  {link}", flush=True)  # noqa: T201 - a secret for the console, which must not reach the log


def build_house(settings: Settings) -> House:
    """Open the database and wire everything to it.

    Raises:
        StartRefused: the database cannot be used.
    """
    database = Database(database_url(database_url=settings.database_url, db_path=settings.db_path))
    database.open()
    wakeups, live = Wakeups(), LiveHub(utc_now)
    outside = Outside(store=database, announcer=live, clock=utc_now, new_id=new_id)
    agent_keys, clones = AgentKeyService(outside), CloneWatch(outside)
    recorder = IncidentRecorder(new_id)
    operators = OperatorService(
        outside,
        api_key=settings.api_key,
        secret_key=settings.secret_key,
        has_implicit_admin=settings.implicit_admin,
    )
    services = Services(
        agents=AgentService(outside, settings.heartbeat_audit, clones),
        history=HistoryService(outside, _keeping(settings)),
        logs=LogService(outside, recorder),
        commands=CommandService(outside, wakeups, approval_required=settings.require_approval),
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
        enrolments=EnrolmentService(outside, agent_keys, wakeups, clones),
        key_custody=KeyCustodyService(outside, agent_keys, wakeups, clones),
        trust_changes=TrustChangeService(outside),
    )
    return House(
        settings=settings,
        database=database,
        services=services,
        retention=RetentionService(outside, Retention(_keeping(settings), settings.log_retention)),
        wakeups=wakeups,
        live=live,
        neighbours=NeighbourService(live, wakeups, agent_keys, services.trust_changes),
        crowd=Crowd(raised_descriptor_limit()),
    )


def _collect_seldom() -> None:
    """Let the collector of reference cycles leave alone what lives as long as the server, and run less often.

    By default it would go through the objects of every held connection again and again, and each batch of heartbeats
    makes enough new ones to set it off: it took a third of the processor.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()


def _warn_of_retired(keys: Sequence[Retired]) -> None:
    for key in keys[:MAX_WARNED]:
        log.warning(
            "settings_key_opens_nothing agent_id=%s why=%s hint=%s",
            key.agent_id,
            key.why,
            "take it out of RECO3_AGENT_KEYS, or give the PC another key there",
        )
    if len(keys) > MAX_WARNED:
        log.warning("settings_keys_open_nothing count=%d, the first of them above", len(keys))


def _keeping(settings: Settings) -> Keeping:
    return Keeping(
        raw=settings.sample_retention,
        minutes=settings.minute_retention,
        quarters=settings.quarter_retention,
        two_hours=settings.two_hour_retention,
    )


def run_server(environment: Mapping[str, str]) -> None:
    """Serve until a signal says stop.

    Raises:
        StartRefused: a setting, the port or the database makes starting unsafe or impossible.
    """
    settings = read_settings(environment)
    listener = bind(settings.host, settings.port)
    try:
        house = build_house(settings)
        app = house.app()
    except StartRefused:
        listener.close()
        raise
    _log_start(house)
    serve(app, listener, house.protocol(), house.say_farewell)


def _log_start(house: House) -> None:
    settings = house.settings
    log.info(
        "server_started host=%s port=%d test_mode=%s database=%s agents_with_keys=%d",
        settings.host,
        settings.port,
        settings.test_mode,
        house.database.name,
        len(settings.agent_keys),
    )
    if settings.database_url is None and has_wal_race():
        log.warning("sqlite_before_3.51.3 has a WAL race with several writers; one writer, as here, avoids it")
