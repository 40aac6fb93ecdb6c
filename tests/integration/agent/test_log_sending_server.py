"""How the agent sends its log lines to a server that is slow, full, in trouble, or will not take one of them."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from scripted_server import LOST, Answer, Request, ScriptedServer, answer

from reco3.agent.contacts import Contact
from reco3.agent.http_client import BaseUrl, HttpClient
from reco3.agent.journal import Journal
from reco3.agent.log_sending import LogSender
from reco3.agent.modes import Modes
from reco3.agent.spool import QUARANTINED_CODE, Spool
from reco3.protocol.messages import LogEntry


@dataclass
class Pc:
    """A real sender with a spool and a connection, and a clock that the test moves."""

    folder: Path
    port: int
    now_s: float = 1_000.0
    picks: Callable[[float, float], float] = max
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder / "spool.db", max_bytes=1 << 26)
        self.journal = Journal(self.folder / "agent.db")
        client = HttpClient(BaseUrl("127.0.0.1", self.port, is_tls=False), agent_id="pc-001", api_key="k")
        self.sender = LogSender(
            client,
            Contact(Modes(self.journal)),
            when_answered=lambda: None,
            monotonic=lambda: self.now_s,
            uniform=self.picks,
        )

    def append(self, count: int) -> None:
        self.spool.append([LogEntry(msg=f"line {n}", ts="", level="ERROR") for n in range(count)], {})

    def turn(self) -> None:
        """One turn, and the wait for its answer."""
        self.sender.turn(self.spool)
        self.sender._courier.wait(20)

    def close(self) -> None:
        self.sender.close()
        self.spool.close()
        self.journal.close()


@pytest.fixture
def sending(tmp_path: Path, server: ScriptedServer) -> Iterator[Pc]:
    pc = Pc(tmp_path, server.port)
    yield pc
    pc.close()


def sizes(requests: list[Request]) -> list[int]:
    return [len(request.body["logs"]) for request in requests]


def refuse(status: int, **headers: str) -> Callable[[Request], Answer]:
    return lambda _: answer(status, {"error": "slow_down", "message": "later"}, **headers)


def test_a_batch_that_is_too_large_goes_in_halves(server: ScriptedServer, sending: Pc) -> None:
    server.rules["/agent/logs"] = lambda request: answer(413) if len(request.body["logs"]) > 130 else None
    sending.append(300)

    for _ in range(6):
        sending.turn()

    assert sizes(server.sent("/agent/logs")) == [300, 150, 75, 85, 95, 45]
    assert sending.spool.pending_count() == 45


def test_one_line_that_is_refused_is_set_aside_and_all_others_arrive(server: ScriptedServer, sending: Pc) -> None:
    accepted: dict[int, Any] = {}

    def take(request: Request) -> Answer | None:
        body = request.body
        if any(entry["msg"] == "line 321" for entry in body["logs"]):
            return answer(422, {"error": "bad_request", "message": "not that"})
        accepted.update(enumerate(body["logs"], start=body["first_seq"]))
        return None

    server.rules["/agent/logs"] = take
    sending.append(600)

    for _ in range(30):
        sending.turn()

    assert sorted(accepted) == list(range(1, 601))
    assert [entry["msg"] for seq, entry in sorted(accepted.items()) if seq != 322] == [
        f"line {n}" for n in range(600) if n != 321
    ]
    assert accepted[322]["code"] == QUARANTINED_CODE
    assert len(server.sent("/agent/logs")) <= 25


def test_a_server_that_refuses_even_the_marker_does_not_stop_the_others(server: ScriptedServer, sending: Pc) -> None:
    server.rules["/agent/logs"] = lambda r: answer(400) if any(e["msg"] != "line 2" for e in r.body["logs"]) else None
    sending.append(3)

    for _ in range(12):
        sending.turn()

    assert sending.spool.pending_count() == 0


@pytest.mark.parametrize("status", [429, 503])
def test_the_delay_that_a_busy_server_asks_for_is_kept(server: ScriptedServer, sending: Pc, status: int) -> None:
    server.rules["/agent/logs"] = refuse(status, Retry_After="100")
    sending.append(1)
    sending.turn()
    sending.turn()

    remaining_s = sending.sender.remaining_s()
    sending.now_s += 119
    sending.turn()
    early = len(server.sent("/agent/logs"))
    sending.now_s += 2
    sending.turn()

    assert remaining_s == pytest.approx(120)
    assert (early, len(server.sent("/agent/logs"))) == (1, 2)


@pytest.mark.parametrize(
    ("date", "retry_after", "delay_s"),
    [
        ("Mon, 23 Nov 2026 10:00:00 GMT", "Mon, 23 Nov 2026 10:01:40 GMT", 120),
        ("Mon, 23 Nov 2026 10:00:00 GMT", "Mon, 23 Nov 2026 09:00:00 GMT", 1.2),
        ("Mon, 23 Nov 2026 10:00:00 GMT", "Mon, 23 Nov 2036 10:00:00 GMT", 720),
        ("Mon, 23 Nov 2026 10:00:00 GMT", "at noon", 1.2),
    ],
)
def test_a_date_to_come_back_at_counts_from_the_servers_own_clock(
    server: ScriptedServer, sending: Pc, date: str, retry_after: str, delay_s: float
) -> None:
    server.rules["/agent/logs"] = refuse(503, Date=date, Retry_After=retry_after)
    sending.append(1)

    sending.turn()
    sending.turn()

    assert sending.sender.remaining_s() == pytest.approx(delay_s)


def test_a_wrong_key_is_tried_once_a_minute(server: ScriptedServer, sending: Pc) -> None:
    server.rules["/agent/logs"] = refuse(401)
    sending.append(1)

    sending.turn()
    sending.turn()

    assert sending.sender.remaining_s() == pytest.approx(60)


def test_a_large_backlog_waits_a_random_while_after_an_outage_and_then_goes_slowly(
    server: ScriptedServer, sending: Pc
) -> None:
    lost = iter([True])
    server.rules["/agent/logs"] = lambda _: LOST if next(lost, False) else None
    sending.append(1_600)
    sending.turn()
    sending.turn()
    sending.sender.note_heartbeat(sending.spool, is_answered=False)

    sending.sender.note_heartbeat(sending.spool, is_answered=True)

    assert sending.sender.remaining_s() == pytest.approx(30)
    sending.now_s += 30
    gaps_s = []
    for _ in range(3):
        sending.turn()
        sending.turn()
        gaps_s.append(sending.sender.remaining_s())
        sending.now_s += 0.25
    assert gaps_s == pytest.approx([0.25] * 3)


def test_a_small_backlog_goes_at_once_after_an_outage(server: ScriptedServer, sending: Pc) -> None:
    lost = iter([True])
    server.rules["/agent/logs"] = lambda _: LOST if next(lost, False) else None
    sending.append(100)
    sending.turn()
    sending.turn()
    sending.sender.note_heartbeat(sending.spool, is_answered=False)

    sending.sender.note_heartbeat(sending.spool, is_answered=True)

    assert sending.sender.remaining_s() == 0


def test_without_an_outage_a_backlog_goes_as_fast_as_the_server_takes_it(server: ScriptedServer, sending: Pc) -> None:
    sending.append(2_000)

    for _ in range(5):
        sending.turn()

    assert sizes(server.sent("/agent/logs")) == [500] * 4
    assert sending.spool.pending_count() == 0


def test_the_thread_and_its_connection_go_when_there_is_nothing_to_send(server: ScriptedServer, sending: Pc) -> None:
    sending.append(1)
    for _ in range(4):
        sending.turn()

    idle = sending.sender._courier._thread
    sending.append(1)
    for _ in range(2):
        sending.turn()

    assert idle is None
    assert len({request.client_port for request in server.sent("/agent/logs")}) == 2


def test_a_heartbeat_waits_for_no_drain(server: ScriptedServer, pc: AgentProcess) -> None:
    def think_long(_: Request) -> Answer | None:
        seen = len(server.sent("/agent/heartbeat"))
        server.wait_until(lambda: len(server.sent("/agent/heartbeat")) >= seen + 4)
        return None

    server.rules["/agent/logs"] = think_long
    pc.start()
    server.wait_for("/agent/heartbeat")

    with pc.app_log.open("a", encoding="utf-8") as file:
        file.writelines(f"ERROR number {number:04d} failed\n" for number in range(2_000))
    server.wait_until(lambda: sum(sizes(server.sent("/agent/logs"))) >= 2_000)

    beats = [request.at for request in server.sent("/agent/heartbeat")]
    gaps_s = sorted(later - earlier for earlier, later in itertools.pairwise(beats))
    assert gaps_s[len(gaps_s) // 2] < 1.0
    assert len(beats) >= 3 * 4


def test_heartbeats_go_on_while_the_server_wants_no_lines(server: ScriptedServer, pc: AgentProcess) -> None:
    server.rules["/agent/logs"] = refuse(429, Retry_After="600")
    pc.start()
    server.wait_for("/agent/heartbeat")
    with pc.app_log.open("a", encoding="utf-8") as file:
        file.write("ERROR x\nINFO y\n")
    server.wait_for("/agent/logs")
    seen = len(server.sent("/agent/heartbeat"))

    server.wait_until(lambda: len(server.sent("/agent/heartbeat")) >= seen + 5)

    assert len(server.sent("/agent/logs")) == 1


def test_the_lines_of_a_killed_agent_come_again_under_their_numbers(server: ScriptedServer, pc: AgentProcess) -> None:
    server.rules["/agent/logs"] = lambda _: LOST
    pc.start()
    server.wait_for("/agent/heartbeat")
    with pc.app_log.open("a", encoding="utf-8") as file:
        file.writelines(f"ERROR number {number:04d} failed\n" for number in range(700))
        file.write("INFO nothing\n")
    first = server.wait_for("/agent/logs").body

    pc.kill()
    del server.rules["/agent/logs"]
    seen = len(server.requests)
    pc.start()
    again = server.wait_for("/agent/logs", after=seen).body

    assert (again["epoch"], again["first_seq"]) == (first["epoch"], first["first_seq"])
    assert again["logs"][: len(first["logs"])] == first["logs"]
