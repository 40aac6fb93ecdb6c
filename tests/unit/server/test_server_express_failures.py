"""What the express lane says of a write that failed: come again, or that the server itself is at fault."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lanes import AllKeys, connected
from reco3.server.domain.errors import Busy
from reco3.server.web.express import ExpressServices

HEAD = "host: reco3\r\nx-agent-id: pc-001\r\nx-api-key: key-of-the-pc\r\n"
HEARTBEAT = f'POST /agent/heartbeat HTTP/1.1\r\n{HEAD}content-length: 14\r\n\r\n{{"metrics":{{}}}}'.encode()
LOGS = f'POST /agent/logs HTTP/1.1\r\n{HEAD}content-length: 11\r\n\r\n{{"logs":[]}}'.encode()


pytestmark = pytest.mark.anyio


class FailingWrites:
    """Takes heartbeats and log lines, and tells each that it failed."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def post_heartbeat(self, _taken: object, *, told: Callable[[Any, BaseException | None], None]) -> None:
        told(None, self._error)

    post_batch = post_heartbeat


@pytest.mark.parametrize("request_bytes", [HEARTBEAT, LOGS])
@pytest.mark.parametrize(
    ("error", "status", "code", "is_asked_again"),
    [
        (Busy("The database cannot write now."), b"503 Service Unavailable", "busy", True),
        (RuntimeError("a defect"), b"500 Internal Server Error", "internal_error", False),
    ],
)
async def test_a_write_that_failed_is_answered_by_whose_fault_it_is(
    request_bytes: bytes, error: Exception, status: bytes, code: str, *, is_asked_again: bool
) -> None:
    writes = FailingWrites(error)
    services = ExpressServices(AllKeys(), writes, None, None, None, writes)  # type: ignore[arg-type]
    _, express, transport = connected(services)

    express.data_received(request_bytes)

    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert (b"retry-after" in head) == is_asked_again
    assert json.loads(body)["error"] == code
    assert "a defect" not in body.decode()
