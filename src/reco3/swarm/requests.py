"""The requests of simulated PCs as bytes: templates in which only numbers of fixed width are patched.

Every request is one piece of bytes, so that it leaves in one segment. It refuses to know what an answer says.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime

from reco3.protocol.messages import CommandReport
from reco3.swarm.targets import Target

NORMAL_MODE = b'"NORMAL"'
STREAM = "swarm"
_VARIANTS = 512
_MIXER = 2_654_435_761
_GAUGES = (
    '{"metrics":{"cpu_percent":%5.1f,"cpu_count":4,"mem_percent":%5.1f,"mem_used_mb":%8.1f,"mem_total_mb":15890.4,'
    '"disk_percent":%5.1f,"disk_used_gb":%6.1f,"disk_total_gb":476.3,"platform":"linux","apply_enabled":false,'
    '"veto_s":0,"agent_started_ms":%d,"hostname":"host-'
)
_SAYINGS = (
    "upstream timed out (110: Connection timed out) while reading response header from upstream",
    "connect() failed (111: Connection refused) while connecting to upstream, client: 10.20.30.40",
    "a client request body is buffered to a temporary file /var/lib/nginx/body/0000000123",
    "worker process 1234 exited on signal 9",
)


def agent_id(number: int) -> str:
    """The name of a simulated PC."""
    return f"sim-{number:06d}"


def agent_key(seed: str, number: int) -> str:
    """The key of a simulated PC, the same for the same seed."""
    return hashlib.sha256(f"{seed}:{agent_id(number)}".encode()).hexdigest()[:32]


class RequestBook:
    """Writes the requests of one run; `key` is always that of the PC with that number."""

    __slots__ = ("_beats", "_epoch", "_head_formats", "_pull_format")

    def __init__(self, target: Target, *, epoch: str, started_ms: int, pull_wait_s: int = 0) -> None:
        self._epoch = epoch
        self._beats = BeatBook(target, "/agent/heartbeat", epoch=epoch, started_ms=started_ms)
        wait = f"wait={pull_wait_s}&" if pull_wait_s else ""
        pull_path = f"/agent/pull?{wait}journal=swarm-{epoch}-%06d"
        self._pull_format = _head_format("GET", target, pull_path)
        self._head_formats = {
            path: _head_format("POST", target, path, content_length="%d") for path in ("/agent/logs", "/agent/report")
        }

    def heartbeat(self, number: int, key: bytes, *, beat: int, mode: bytes = NORMAL_MODE) -> bytes:
        """A heartbeat; `beat` makes its numbers vary, `mode` is a JSON string of at most 8 bytes."""
        return self._beats.heartbeat(number, key, beat, mode)

    def pull(self, number: int, key: bytes) -> bytes:
        """A pull, held as long as this run asks."""
        return self._pull_format % (number, number, key)

    def logs(self, number: int, key: bytes, *, sequence: range, at: datetime) -> bytes:
        """A batch of log lines with these sequence numbers."""
        body = log_body(number, epoch=self._epoch, sequence=sequence, at=at)
        return self._head_formats["/agent/logs"] % (number, key, len(body)) + body

    def report(self, number: int, key: bytes, *, command_id: str) -> bytes:
        """The report that a command completed."""
        done = CommandReport(command_id, "completed", {"success": True, "output": "simulated"})
        journal = f"swarm-{self._epoch}-{number:06d}"
        words = {"command_id": done.command_id, "status": done.status, "result": done.result, "journal": journal}
        body = json.dumps(words, separators=(",", ":")).encode()
        return self._head_formats["/agent/report"] % (number, key, len(body)) + body


class BeatBook:
    """Writes heartbeats to any path.

    The gauges come from a table, a process's pid and the counters follow from the PC's number: of the thousands that
    are written a second, formatting each number would be the dearest part.
    """

    __slots__ = ("_gauges", "_parts")

    def __init__(self, target: Target, path: str, *, epoch: str, started_ms: int) -> None:
        self._gauges = [
            (_GAUGES % (*_gauge_numbers(variant), started_ms)).encode("ascii") for variant in range(_VARIANTS)
        ]
        before_digits = _body_parts(epoch, started_ms)
        self._parts = (b"", *before_digits)
        size_bytes = len(b"".join(self._pieces(0, b"000000", 0, NORMAL_MODE)))
        head = _head_format("POST", target, path.replace("%", "%%"), content_length=str(size_bytes))
        self._parts = (head, *before_digits)

    def heartbeat(self, number: int, key: bytes, beat: int, mode: bytes = NORMAL_MODE) -> bytes:
        """A heartbeat; `beat` makes its numbers vary, `mode` is a JSON string of at most 8 bytes."""
        body = b"".join(self._pieces(number, b"%06d" % number, beat, mode))
        return self._parts[0] % (number, key) + body

    def _pieces(self, number: int, digits: bytes, beat: int, mode: bytes) -> tuple[bytes, ...]:
        _, journal, mode_name, sent_name, received_name, first_pid, second_pid, interfaces, eth0, end = self._parts
        gauges = self._gauges[(number * _MIXER + beat * 40_503 >> 7) % _VARIANTS]
        sent_bytes = 10_000_000 + number % 1000 * 7_001 + beat * 51_234
        sent, received = b"%13d" % sent_bytes, b"%13d" % (sent_bytes * 3)
        return (
            *(gauges, digits, journal, digits, mode_name, mode, b"  "[len(mode) - 6 :]),
            *(sent_name, sent, received_name, received, first_pid, digits, second_pid, digits),
            *(interfaces, sent, eth0, received, end),
        )


def log_message(number: int, *, epoch: str, sequence: int) -> str:
    """The text of a line, which names its PC, its run and its number, so that the ledger knows it again."""
    return f"{agent_id(number)} {epoch} {sequence} {_SAYINGS[sequence % len(_SAYINGS)]}"


def log_body(number: int, *, epoch: str, sequence: range, at: datetime) -> bytes:
    """The JSON of a batch: nine lines in ten are warnings, the tenth an error of one of three codes."""
    ts = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = ",".join(_line(number, epoch, place, ts) for place in sequence)
    start = f'{{"stream":"{STREAM}","epoch":"{epoch}","first_seq":{sequence.start},"logs":['
    return f"{start}{lines}]}}".encode("ascii")


def plain_request(target: Target, method: str, path: str) -> Callable[[int, bytes], bytes]:
    """A request without a body to any path, from a PC's number and key."""
    request_format = _head_format(method, target, path.replace("%", "%%"))
    return lambda number, key: request_format % (number, key)


def _line(number: int, epoch: str, sequence: int, ts: str) -> str:
    level = "WARN" if sequence % 10 else "ERROR"
    message = log_message(number, epoch=epoch, sequence=sequence)
    return f'{{"ts":"{ts}","level":"{level}","code":"SIM_{sequence % 3}","msg":"{message}"}}'


def _head_format(method: str, target: Target, path: str, *, content_length: str | None = None) -> bytes:
    base_path = target.base_path.replace("%", "%%")
    lines = [
        f"{method} {base_path}{path} HTTP/1.1",
        f"Host: {target.authority}",
        "X-AGENT-ID: sim-%06d",
        "X-API-Key: %b",
        "Accept: application/json",
        "User-Agent: reco3-swarm",
    ]
    if content_length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {content_length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _gauge_numbers(variant: int) -> tuple[float, ...]:
    memory_pct = 35 + variant * 7 % 300 / 10
    disk_pct = 20 + variant * 13 % 700 / 10
    return variant * 37 % 1000 / 10, memory_pct, memory_pct * 158.904, disk_pct, disk_pct * 4.763


def _body_parts(epoch: str, started_ms: int) -> tuple[bytes, ...]:
    """The texts between the changing parts of a heartbeat: journal, mode, totals, pids, interfaces, end."""
    process = '"status":"sleeping","count":1,"restarts":0,"allow_restart":true'
    texts = (
        f'","journal":"swarm-{epoch}-',
        '","mode":',
        ',"net_bytes_sent":',
        ',"net_bytes_recv":',
        f',"processes":[{{"name":"nginx","running":true,{process},"create_time_ms":{started_ms},"pid":1',
        f'}},{{"name":"postgres","running":true,{process},"create_time_ms":{started_ms},"pid":2',
        '}],"interfaces":[{"name":"lo","bytes_sent":1048576,"bytes_recv":1048576},{"name":"eth0","bytes_sent":',
        ',"bytes_recv":',
        '}]},"platform":"linux","version":"1.0"}',
    )
    return tuple(text.encode("ascii") for text in texts)
