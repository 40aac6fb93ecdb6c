"""Heartbeats between bytes and values: as they arrive, and as operators read them back.

What an agent of this version sends is checked while it is decoded, and kept as it came. Anything else is checked field
by field and written anew, so that what is kept holds only what the protocol names.
"""

import contextlib
from datetime import datetime
from typing import get_args, get_type_hints

import msgspec

from reco3.protocol.limits import MAX_PROCESSES
from reco3.protocol.messages import Heartbeat, Metrics
from reco3.server.domain.agents import TakenHeartbeat, read_heartbeat, reduce_heartbeat
from reco3.server.domain.metrics import MAX_INTEGER, MAX_TEXT_CHARS, NUMBERS, TEXTS
from reco3.server.web.decoding import exact_decoder, quick_decoder

# Longer ones may be blanks for the most part.
MAX_KEPT_AS_IT_CAME = 16 * 1024

# The rules of `domain/metrics.check_metrics` in the decoder's words; there is no float between MAX_INTEGER and 2 ** 63.
_FLOAT, _INT = msgspec.Meta(ge=0, lt=float(MAX_INTEGER + 1)), msgspec.Meta(ge=0, le=MAX_INTEGER)
_hints = get_type_hints(Metrics)
_BOUNDS = {
    **{(Metrics, name): _FLOAT if float in get_args(_hints[name]) else _INT for name in NUMBERS},
    **{(Metrics, name): msgspec.Meta(max_length=MAX_TEXT_CHARS) for name in TEXTS},
    (Metrics, "processes"): msgspec.Meta(max_length=MAX_PROCESSES),
}

_decode = quick_decoder(Heartbeat)
_decode_exact = exact_decoder(Heartbeat, _BOUNDS)
_encode = msgspec.json.Encoder().encode


def heartbeat_of(agent_id: str, body: bytes, at: datetime) -> TakenHeartbeat:
    """The heartbeat that a body says.

    Raises:
        msgspec.MsgspecError: it is no heartbeat.
        UnicodeDecodeError: it is not UTF-8.
        BadInput: a number that no PC can have, or a text that is too long.
    """
    if len(body) <= MAX_KEPT_AS_IT_CAME:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return reduce_heartbeat(agent_id, _decode_exact(body), body.decode(), at)
    heartbeat = _decode(body)
    return read_heartbeat(agent_id, heartbeat, _encode(heartbeat).decode(), at)


def kept_heartbeat(payload_json: str) -> tuple[str, dict[str, object]]:
    """A kept body as operators read it: the JSON text with every field that the protocol names, and its metrics."""
    heartbeat = _decode(payload_json.encode())
    return _encode(heartbeat).decode(), msgspec.to_builtins(heartbeat.metrics)
