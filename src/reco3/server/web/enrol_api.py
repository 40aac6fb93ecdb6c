"""What a PC says of its own key: enrol with a token, ask whether the key is good, announce the next one."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reco3.protocol.messages import EnrolmentRequest, NextKey
from reco3.server.domain.errors import Unauthorized
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.denials import Denial, DenialService
from reco3.server.services.enrolments import Enrolment, EnrolmentService
from reco3.server.web.agent_api import decoded
from reco3.server.web.audiences import AGENT, Audience, Kind, serves
from reco3.server.web.auth import remote_of
from reco3.server.web.errors import json_answer

ENROL_AUDIENCE = Audience(Kind.PUBLIC, max_body_bytes=16 * 1024)

_decode_enrolment = msgspec.json.Decoder(EnrolmentRequest).decode
_decode_next_key = msgspec.json.Decoder(NextKey).decode


class EnrolApi:
    """The three routes about a PC's key."""

    def __init__(self, enrolments: EnrolmentService, keys: AgentKeyService, denials: DenialService) -> None:
        self._enrolments = enrolments
        self._keys = keys
        self._denials = denials

    def routes(self) -> list[Route]:
        """Enrolment, and what an enrolled PC does with its key."""
        return [
            Route("/agent/enrol", self.enrol, methods=["POST"]),
            Route("/agent/key", self.read_key, methods=["GET"]),
            Route("/agent/key", self.announce_key, methods=["POST"]),
        ]

    @serves(ENROL_AUDIENCE)
    async def enrol(self, request: Request) -> Response:
        """Let a PC in that holds a token; it sends the hash of the key that it made, never the key."""
        body = decoded(_decode_enrolment, await request.body())
        enrolment = Enrolment(body.token, body.key_hash, body.agent_id, (body.platform or "").replace("\0", ""))
        try:
            enrolled = await self._enrolments.enrol(enrolment, remote=remote_of(request.scope))
        except Unauthorized:
            await self._denials.record(Denial("auth_failed", "enrolment token", body.agent_id or "", request.url.path))
            raise
        return json_answer({"agent_id": enrolled.agent_id, "fleet_id": enrolled.fleet_id})

    @serves(AGENT)
    async def read_key(self, request: Request) -> Response:
        """Tell a PC that its key is good; asking with its next key makes that the only one."""
        agent_id = request.state.caller
        return json_answer({"agent_id": agent_id, "rotating": self._keys.is_rotating(agent_id)})

    @serves(AGENT)
    async def announce_key(self, request: Request) -> Response:
        """Let the PC's next key open the door too, until it is used for the first time."""
        body = decoded(_decode_next_key, await request.body())
        await self._keys.announce_next(request.state.caller, body.next_key_hash)
        return json_answer({"status": "ok"})
