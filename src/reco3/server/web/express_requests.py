"""Reads the three requests that agents send all day, when they arrive whole and plain.

It refuses everything that is not beyond doubt: what it does not read goes the ordinary way, through a full HTTP parser.
"""

import re
from dataclasses import dataclass, field

from reco3.protocol.limits import MAX_PULL_WAIT_S

MAX_REQUEST_BYTES = 64 * 1024
_MOST_LENGTH_CHARS = 5
_HEADERS = re.compile(rb"(?:[A-Za-z0-9-]{1,64}:[ \t]?[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?\r\n){1,32}")
_PULL = re.compile(rb"GET /agent/pull\?wait=([0-9]{1,2})(?:&journal=([A-Za-z0-9_-]{1,64}))? HTTP/1\.1")
_HEARTBEAT = b"POST /agent/heartbeat HTTP/1.1"
_LOGS = b"POST /agent/logs HTTP/1.1"
# The head as our own agents write it. Whoever writes another one is read header by header.
_OWN_HEAD = (
    rb"Host: [\x21-\x7e]{1,255}\r\nX-AGENT-ID: ([A-Za-z0-9._-]{1,64})\r\nX-API-Key: ([\x21-\x7e]{1,256})\r\n"
    rb"(?:(?:Accept|User-Agent|Content-Type): [\x21-\x7e]{1,256}\r\n){0,4}"
)
_OWN_POST = re.compile(
    rb"POST /agent/(?:heartbeat|(logs)) HTTP/1\.1\r\n" + _OWN_HEAD + rb"Content-Length: ([1-9][0-9]{0,4})\r\n\r\n"
)
_OURS = frozenset({b"host", b"x-agent-id", b"x-api-key", b"content-length", b"connection"})
# Each of these changes where a message ends or what its body means.
_ODD = frozenset({b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect", b"content-encoding"})


@dataclass(slots=True)
class ExpressRequest:
    """A heartbeat or, where `has_logs`, a batch of log lines (`body` is its JSON); or a pull.

    A pull's `body` is None and its `wait_s` above 0. `head_size` is 0 but for a heartbeat of our own agent: where the
    number of its length begins, up to which its next one will say the same.
    """

    agent_id: str
    key: str
    is_last: bool
    body: bytes | None = None
    wait_s: int = 0
    journal: str | None = None
    has_logs: bool = False
    head_size: int = field(default=0, compare=False)


def body_behind(data: bytes, head_size: int) -> bytes | None:
    """The body of a request whose head is known up to the number of its length; None when that is not all of `data`."""
    end = data.find(b"\r\n\r\n", head_size, head_size + _MOST_LENGTH_CHARS + 4)
    body = data[end + 4 :]
    is_whole = end > 0 and body and len(data) <= MAX_REQUEST_BYTES and data[head_size:end] == b"%d" % len(body)
    return body if is_whole else None


def read_request(data: bytes) -> ExpressRequest | None:
    """The one plain request that `data` is from its first byte to its last, or None for everything else."""
    own = _OWN_POST.match(data)
    if own is not None and int(own[4]) == len(data) - own.end() and len(data) <= MAX_REQUEST_BYTES:
        logs, agent_id, key, _ = own.groups()
        request = ExpressRequest(agent_id.decode(), key.decode(), is_last=False, body=data[own.end() :])
        request.has_logs, request.head_size = bool(logs), 0 if logs else own.start(4)
        return request
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank or len(data) > MAX_REQUEST_BYTES:
        return None
    line, _, rest = head.partition(b"\r\n")
    headers = _headers(rest)
    if headers is None:
        return None
    if line in (_HEARTBEAT, _LOGS):
        return _post(headers, body, has_logs=line == _LOGS)
    pull = _PULL.fullmatch(line)
    if pull is None or body or headers.get(b"content-length", b"0") != b"0":
        return None
    request = _request(headers)
    request.wait_s = min(int(pull[1]), MAX_PULL_WAIT_S)
    request.journal = pull[2].decode() if pull[2] else None
    return request if request.wait_s else None


def _headers(text: bytes) -> dict[bytes, bytes] | None:
    if _HEADERS.fullmatch(text + b"\r\n") is None:
        return None
    pairs = [line.split(b":", 1) for line in text.split(b"\r\n")]
    names = [name.lower() for name, _ in pairs]
    headers = {name: value.strip() for name, (_, value) in zip(names, pairs, strict=True)}
    if not _ODD.isdisjoint(headers) or (len(headers) < len(names) and any(names.count(name) > 1 for name in _OURS)):
        return None
    is_plain = headers.get(b"connection", b"keep-alive").lower() in (b"keep-alive", b"close")
    has_host = b"host" in headers
    return headers if is_plain and has_host else None


def _post(headers: dict[bytes, bytes], body: bytes, *, has_logs: bool) -> ExpressRequest | None:
    # The text is compared as it stands: "+5", "05" and "5, 5" are for the full parser to judge.
    if not body or headers.get(b"content-length") != b"%d" % len(body):
        return None
    request = _request(headers)
    request.body, request.has_logs = body, has_logs
    return request


def _request(headers: dict[bytes, bytes]) -> ExpressRequest:
    agent_id, key = headers.get(b"x-agent-id", b""), headers.get(b"x-api-key", b"")
    return ExpressRequest(agent_id.decode(), key.decode(), headers.get(b"connection", b"").lower() == b"close")
