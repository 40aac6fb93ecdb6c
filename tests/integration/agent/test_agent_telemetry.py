import functools
import itertools
import time

import pytest
from agent_process import API_KEY, AgentProcess, make_order
from kill_matrix import FAILPOINTS_FOLDER
from scripted_server import Answer, Request, ScriptedServer, answer

from reco3.agent.modes import SHORTEST_OUTAGE_S


def mode_of(request: Request) -> str:
    return str(request.body["metrics"]["mode"])


def messages(requests: list[Request]) -> list[str]:
    return [entry["msg"] for request in requests for entry in request.body["logs"]]


def test_the_first_heartbeat_comes_at_once_and_says_how_the_pc_is(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(intervals={"heartbeat_sec": 25}, platform="linux", version="7.7")
    pc.start()

    heartbeat = server.wait_for("/agent/heartbeat")

    metrics = heartbeat.body["metrics"]
    assert heartbeat.headers["x-agent-id"] == "pc-001"
    assert heartbeat.headers["x-api-key"] == API_KEY
    assert heartbeat.headers["content-type"] == "application/json"
    assert (heartbeat.body["platform"], heartbeat.body["version"]) == ("linux", "7.7")
    assert (metrics["mode"], metrics["apply_enabled"]) == ("NORMAL", True)
    assert 0 <= metrics["mem_percent"] <= 100
    assert [process["name"] for process in metrics["processes"]] == ["web"]
    assert None not in metrics.values()


def test_every_heartbeat_says_since_when_the_agent_runs(server: ScriptedServer, pc: AgentProcess) -> None:
    before_ms = time.time() * 1000 - 1000
    pc.start()
    first = server.wait_for("/agent/heartbeat").body["metrics"]["agent_started_ms"]
    second = server.wait_for("/agent/heartbeat", after=len(server.requests)).body["metrics"]["agent_started_ms"]
    pc.kill()
    seen = len(server.requests)
    pc.start()

    later = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]["agent_started_ms"]

    assert before_ms <= first == second < later <= time.time() * 1000


def test_heartbeats_come_at_least_every_period(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()

    server.wait_until(lambda: len(server.sent("/agent/heartbeat")) >= 8)

    times = [request.at for request in server.sent("/agent/heartbeat")]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    assert gaps[len(gaps) // 2] <= 0.3 + 0.05
    assert times[-1] - times[0] >= 7 * 0.3 * 0.95 - 0.1


def test_each_thread_keeps_one_connection(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()

    server.wait_until(lambda: len(server.sent("/agent/heartbeat")) >= 4)
    server.deliver(make_order("c-1", "SET_MODE", {"mode": "SAFE"}))
    server.wait_for_report("c-1")
    server.wait_until(lambda: len(server.sent("/agent/pull")) >= 2)

    assert len({request.client_port for request in server.sent("/agent/heartbeat")}) == 1
    assert len({request.client_port for request in server.sent("/agent/pull") + server.sent("/agent/report")}) == 1


def test_a_connection_that_the_server_closes_each_time_costs_no_contact(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    server.rules["/agent/heartbeat"] = lambda _: answer(Connection="close")
    pc.start()

    server.wait_until(lambda: len(server.sent("/agent/heartbeat")) >= 6)

    assert "contact_lost" not in pc.log()


def test_a_mode_change_is_told_at_once(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(intervals={"heartbeat_sec": 25})
    pc.start()
    server.wait_for("/agent/heartbeat")
    began_at = time.monotonic()

    server.deliver(make_order("c-1", "SET_MODE", {"mode": "SAFE"}))

    heartbeat = server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "SAFE")
    assert heartbeat.at - began_at < 3


def test_error_lines_are_sent_numbered_and_once(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()
    server.wait_for("/agent/heartbeat")

    with pc.app_log.open("a", encoding="utf-8") as file:
        file.write("ERROR first\nINFO nothing\nERROR second\nINFO nothing\n")
    server.wait_until(lambda: len(messages(server.sent("/agent/logs"))) >= 2)
    pc.stop()

    sent = server.sent("/agent/logs")
    assert [("first" in text, "second" in text) for text in messages(sent)] == [(True, False), (False, True)]
    assert sent[0].body["stream"]
    assert sent[0].body["epoch"]
    assert isinstance(sent[0].body["first_seq"], int)


def test_after_an_outage_every_line_is_delivered_in_order(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()
    server.wait_for("/agent/heartbeat")
    server.go_down()

    with pc.app_log.open("a", encoding="utf-8") as file:
        file.writelines(f"ERROR number {number:04d} failed\n" for number in range(499))
        file.write("INFO nothing\n")
    server.wait_until(lambda: "contact_lost" in pc.log(), 10)
    server.come_up()

    server.wait_until(lambda: len(messages(server.sent("/agent/logs"))) >= 499)
    sent = server.sent("/agent/logs")
    assert [int(text.split("number ")[1][:4]) for text in messages(sent)] == list(range(499))


def test_a_line_that_is_not_acknowledged_comes_again_under_its_number(server: ScriptedServer, pc: AgentProcess) -> None:
    lost = iter([True, True, False])
    server.rules["/agent/logs"] = lambda _: answer(503) if next(lost, False) else None
    pc.start()
    server.wait_for("/agent/heartbeat")

    with pc.app_log.open("a", encoding="utf-8") as file:
        file.write("ERROR once\nINFO nothing\n")
    server.wait_until(lambda: len(server.sent("/agent/logs")) >= 3)

    assert len({request.body["first_seq"] for request in server.sent("/agent/logs")}) == 1


def test_a_line_that_the_server_will_never_take_does_not_hold_up_the_others(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    accepted: list[str] = []

    def refuse_poison(request: Request) -> Answer | None:
        texts = messages([request])
        if any("poison" in text for text in texts):
            return answer(400, {"error": "bad_logs", "message": "logs[3].msg: not that"})
        accepted.extend(texts)
        return None

    server.rules["/agent/logs"] = refuse_poison
    pc.configure(intervals={"logs_sec": 0.5})
    pc.app_log.write_text("", encoding="utf-8")
    pc.start()
    server.wait_for("/agent/heartbeat")

    with pc.app_log.open("a", encoding="utf-8") as file:
        file.writelines(f"ERROR line {number} {'poison' if number == 13 else 'fine'}\n" for number in range(20))
        file.write("INFO nothing\n")
    server.wait_until(lambda: len(accepted) >= 20)

    numbers = [int(text.split("ERROR line ")[1].split()[0]) for text in accepted if text.startswith("ERROR line")]
    assert numbers == [n for n in range(20) if n != 13]
    assert "log_line_quarantined" in pc.log()


def test_an_older_server_that_only_counts_acknowledges_too(server: ScriptedServer, pc: AgentProcess) -> None:
    server.rules["/agent/logs"] = lambda r: answer(body={"status": "ok", "count": len(r.body["logs"])})
    pc.start()
    server.wait_for("/agent/heartbeat")

    for text in ("ERROR first\nINFO nothing\n", "ERROR second\nINFO nothing\n"):
        before = len(server.sent("/agent/logs"))
        with pc.app_log.open("a", encoding="utf-8") as file:
            file.write(text)
        server.wait_until(functools.partial(_has_more_logs, server, before))

    pc.stop()
    assert len(messages(server.sent("/agent/logs"))) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Answer(200, b"<html>hello</html>"),
        Answer(200, b"[1, 2]"),
        Answer(200, b"[" * 100_000),
        Answer(200, b'{"a": "' + b"x" * (3 * 1024 * 1024) + b'"}'),
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer(500, b"\xff\xfe"),
        Answer(401, b'{"error": "unauthorized"}'),
    ],
    ids=["html", "list", "nested", "huge", "redirect", "no text", "wrong key"],
)
def test_nonsense_from_the_server_makes_the_agent_safe_and_is_survived(
    server: ScriptedServer, pc: AgentProcess, reply: Answer
) -> None:
    server.rules["*"] = lambda _: reply
    pc.environment = {"PYTHONPATH": str(FAILPOINTS_FOLDER), "RECO3_TEST_SHORTEST_OUTAGE_S": "0.5"}
    pc.configure(intervals={"heartbeat_sec": 0.1, "pull_sec": 0.1})
    pc.start()
    server.wait_until(lambda: len(server.requests) >= 2)
    if reply.status != 401:  # A wrong key is tried again only after half a minute.
        server.wait_until(lambda: "after=SAFE" in pc.log())
        del server.rules["*"]
        server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "NORMAL", after=len(server.requests))

    exit_code, _ = pc.stop()

    assert exit_code == 0
    assert pc.log().count("contact_lost") <= 2
    assert API_KEY not in pc.log()
    assert "Traceback" not in pc.log()


def test_without_contact_the_agent_turns_safe_and_comes_back(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()
    server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "NORMAL")

    server.go_down()
    down_at = time.monotonic()
    server.wait_until(lambda: "after=SAFE" in pc.log(), deadline_s=60)
    safe_after_s = time.monotonic() - down_at
    seen = len(server.requests)
    server.come_up()

    assert safe_after_s >= SHORTEST_OUTAGE_S - 1
    server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "SAFE", after=seen)
    server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "NORMAL", after=seen)
    assert pc.log().count("contact_lost") >= 1
    assert pc.log().count("contact_back") == pc.log().count("contact_lost")


def test_an_operators_safe_outlives_an_outage_and_a_restart(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()
    server.deliver(make_order("c-1", "SET_MODE", {"mode": "SAFE"}))
    server.wait_for("/agent/heartbeat", lambda request: mode_of(request) == "SAFE")
    server.go_down()
    server.wait_until(lambda: "contact_lost" in pc.log())
    seen = len(server.requests)
    server.come_up()
    server.wait_until(lambda: len([r for r in server.requests[seen:] if r.path == "/agent/heartbeat"]) >= 6)
    pc.kill()
    pc.start()
    server.wait_until(lambda: len([r for r in server.requests[seen:] if r.path == "/agent/heartbeat"]) >= 8)

    modes = {mode_of(request) for request in server.requests[seen:] if request.path == "/agent/heartbeat"}

    assert modes == {"SAFE"}


def test_a_graceful_stop_breaks_off_the_held_pull_and_flushes_the_logs(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(intervals={"logs_sec": 3600, "heartbeat_sec": 25})
    pc.start()
    server.wait_for("/agent/pull", lambda request: request.wait_s == 25)
    server.wait_for("/agent/heartbeat")
    with pc.app_log.open("a", encoding="utf-8") as file:
        file.write("ERROR the last words\nINFO nothing\n")

    exit_code, took_s = pc.stop()

    assert exit_code == 0
    assert took_s < 10
    assert ["the last words" in text for text in messages(server.sent("/agent/logs"))] == [True]


def test_a_graceful_stop_is_not_held_up_by_a_server_that_does_not_answer(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    def never(_: Request) -> Answer | None:
        try:
            server.wait_until(lambda: None, 15)
        except AssertionError:
            return None
        return None

    server.rules["*"] = never
    pc.start()
    server.wait_until(lambda: len(server.requests) >= 2)

    exit_code, took_s = pc.stop()

    assert exit_code == 0
    assert took_s < 10


def _has_more_logs(server: ScriptedServer, before: int) -> bool:
    return len(server.sent("/agent/logs")) > before
