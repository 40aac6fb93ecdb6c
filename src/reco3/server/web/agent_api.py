"""The agents' endpoints: plain routes, decoded straight into the protocol's messages."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from reco3.protocol.envelope import signed_envelope_shape
from reco3.protocol.limits import (
    JOURNAL_PATTERN,
    LEFT_ALONE_S,
    MAX_COMMAND_ID_CHARS,
    MAX_LOGS_BODY_BYTES,
    MAX_PULL_WAIT_S,
)
from reco3.protocol.messages import CommandReport, LogBatch
from reco3.server.domain.commands import AgentReport, ReportStatus, bounded_result
from reco3.server.domain.errors import BadInput, NotFound
from reco3.server.services.agents import AgentService
from reco3.server.services.deliveries import DeliveryService
from reco3.server.services.logs import BatchStored, LogService, TakenBatch
from reco3.server.services.reports import ReportService
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.web.audiences import AGENT, Audience, Kind, serves
from reco3.server.web.connections import Crowd
from reco3.server.web.errors import bad_json, json_answer
from reco3.server.web.heartbeats import heartbeat_of
from reco3.server.web.shapes import pull_shape, time_text

MessageT = TypeVar("MessageT")

decode_logs = msgspec.json.Decoder(LogBatch).decode
_decode_report = msgspec.json.Decoder(CommandReport).decode

LOGS_AUDIENCE = Audience(Kind.AGENT, max_body_bytes=MAX_LOGS_BODY_BYTES)


@dataclass(frozen=True, slots=True)
class AgentServices:
    """The use cases that agents can reach."""

    agents: AgentService
    logs: LogService
    deliveries: DeliveryService
    reports: ReportService
    trust_changes: TrustChangeService


class AgentApi:
    """What an agent may say and ask."""

    def __init__(self, services: AgentServices, crowd: Crowd, clock: Callable[[], datetime]) -> None:
        self._crowd = crowd
        self._agents = services.agents
        self._logs = services.logs
        self._deliveries = services.deliveries
        self._reports = services.reports
        self._trust_changes = services.trust_changes
        self._clock = clock

    def routes(self) -> list[Route]:
        """The five routes of the agent protocol."""
        pull = Route("/agent/pull", self.pull, methods=["GET"])
        # Starlette adds HEAD, which would hand out commands and drop the answer that carries them.
        pull.methods = {"GET"}
        return [
            Route("/agent/heartbeat", self.heartbeat, methods=["POST"]),
            Route("/agent/logs", self.logs, methods=["POST"]),
            Route("/agent/report", self.report, methods=["POST"]),
            Route("/agent/trust-changes", self.trust_changes, methods=["GET"]),
            pull,
        ]

    @serves(AGENT)
    async def heartbeat(self, request: Request) -> Response:
        """Take a heartbeat; answered once it is durable."""
        now = self._clock()
        taken = decoded(partial(heartbeat_of, request.state.caller, at=now), await request.body())
        await self._agents.record_heartbeat(taken)
        answer: dict[str, object] = {"status": "ok", "server_time": time_text(now)}
        if self._deliveries.has_news(taken.agent_id):
            answer["commands_waiting"] = True
        if self._trust_changes.revision:
            answer["trust_changes"] = self._trust_changes.revision
        return json_answer(answer)

    @serves(LOGS_AUDIENCE)
    async def logs(self, request: Request) -> Response:
        """Take log lines; answered once they are durable."""
        batch = decoded(decode_logs, await request.body())
        stored = await self._logs.record_batch(TakenBatch(request.state.caller, batch, self._clock()))
        return json_answer(stored_shape(stored))

    @serves(AGENT)
    async def pull(self, request: Request) -> Response:
        """Hand out commands, waiting for the first as long as the agent asks."""
        wait_s = _wait_s(request.query_params.get("wait"))
        poll_after_s = LEFT_ALONE_S if wait_s and self._crowd.is_tight else None
        wait_s = 0.0 if poll_after_s else wait_s
        journal = _journal(request.query_params.get("journal"))
        gone = asyncio.ensure_future(_hung_up(request.receive)) if wait_s else None
        try:
            pulled = await self._deliveries.pull(request.state.caller, journal=journal, wait_s=wait_s, gone=gone)
        finally:
            if gone is not None:
                gone.cancel()
        return json_answer(pull_shape(pulled, journal=journal, poll_after_s=poll_after_s))

    @serves(AGENT)
    async def report(self, request: Request) -> Response:
        """Take a command's result; a repeated report is answered alike."""
        body = decoded(_decode_report, await request.body())
        if not body.command_id:
            raise BadInput("command_id", "is missing")
        if "\0" in body.command_id:
            raise BadInput("command_id", "expected the id of a command, without NUL")
        if len(body.command_id) > MAX_COMMAND_ID_CHARS or not body.command_id.isprintable():
            raise NotFound("There is no command of that id for this PC.", code="command_not_found")
        result = bounded_result(body.result)
        report = AgentReport(
            body.command_id, request.state.caller, _report_status(body.status), result, json.dumps(result)
        )
        await self._reports.take(report)
        return json_answer({"status": "ok"})

    @serves(AGENT)
    async def trust_changes(self, _request: Request) -> Response:
        """Hand out the changes of trust that enough owners signed; the PC verifies them by itself."""
        relayed = await self._trust_changes.relayed()
        changes = [signed_envelope_shape(one) for one in relayed.changes]
        return json_answer({"trust_changes": changes, "revision": relayed.revision})


def stored_shape(stored: BatchStored) -> dict[str, object]:
    """What the PC hears of its log lines."""
    answer: dict[str, object] = {
        "status": "ok",
        "count": stored.count,
        "incidents_created": stored.incidents_created,
    }
    if stored.acked_seq is not None:
        answer["acked_seq"] = stored.acked_seq
    return answer


def decoded(decode: Callable[[bytes], MessageT], body: bytes) -> MessageT:
    """The message in a body.

    Raises:
        BadInput: names the field.
    """
    try:
        return decode(body)
    except msgspec.MsgspecError as err:
        raise bad_json(err) from err
    except (UnicodeDecodeError, RecursionError) as err:
        raise BadInput("body", "expected JSON in UTF-8, at most a few levels deep") from err


def _wait_s(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isascii() or not text.isdigit():
        raise BadInput("wait", f"expected whole seconds, at most {MAX_PULL_WAIT_S}, got {ascii(text)[:40]}")
    return float(min(int(text[:9]), MAX_PULL_WAIT_S))


def _journal(text: str | None) -> str | None:
    if text is not None and JOURNAL_PATTERN.fullmatch(text) is None:
        raise BadInput("journal", "expected the id of the agent's journal: 1 to 64 letters, digits, _ and -")
    return text


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _report_status(text: str) -> ReportStatus:
    try:
        return ReportStatus(text)
    except ValueError as err:
        raise BadInput(
            "status", f"expected completed, failed, running, accepted or unknown, got {ascii(text)[:40]}"
        ) from err
