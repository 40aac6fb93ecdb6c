from collections.abc import Callable
from typing import Any

import pytest
from stopwatches import FakeStopwatch

from reco3.agent.config import Check, HttpStatus, RunsWell, TcpPort, UpFor, WatchedProgram
from reco3.agent.local_checks import HttpUrl, Reply
from reco3.agent.platform.service_states import Condition, ServiceState
from reco3.agent.runner import Outcome
from reco3.agent.targets import Seen, Sight
from reco3.agent.verification import Aim, Senses, Verification, verify

OLD, NEW, NEWER = Seen(10, 100.0, 1_000), Seen(20, 200.0, 2_000), Seen(30, 300.0, 3_000)
URL = HttpUrl("127.0.0.1", 80, is_tls=False, target="/health")


def sight(*seen: Seen, service: ServiceState | None = None) -> Sight:
    return Sight("web", seen, "boot", "web.service" if service else "", service)


def running(pid: int | None) -> ServiceState:
    return ServiceState(Condition.RUNNING, "active (running)", pid)


class World:
    """A PC whose processes, ports and answers change when a test says so."""

    def __init__(self, *seen: Seen, service: ServiceState | None = None) -> None:
        self.watch = FakeStopwatch()
        self.now = sight(*seen, service=service)
        self.before = sight(OLD, service=service)
        self.status: int | None = 200
        self.port_problem = ""
        self.exit_code = 0
        self.asked: list[Any] = []

    def see(self, *seen: Seen, service: ServiceState | None = None) -> Callable[[], None]:
        def change() -> None:
            self.now = sight(*seen, service=service)

        return change

    def run(self, argv: tuple[str, ...], timeout_s: float) -> Outcome:
        self.asked.append((argv, timeout_s))
        return Outcome(self.exit_code, "said why\n", was_cut=False, timed_out=False, duration_ms=1)

    def get_status(self, url: HttpUrl, timeout_s: float) -> Reply:
        self.asked.append((url, timeout_s))
        return Reply(self.status, f"answered {self.status}")

    def connect(self, port: int, timeout_s: float) -> str:
        self.asked.append((port, timeout_s))
        return self.port_problem

    def verify(
        self, aim: Aim, *checks: Check, is_default: bool = False, service: str = "", timeout_s: float = 10
    ) -> Verification:
        program = WatchedProgram(
            "web", service=service, verify=None if is_default else checks, verify_timeout_s=timeout_s
        )
        senses = Senses(lambda: self.now, self.run, self.watch.stopwatch, self.get_status, self.connect)
        return verify(aim, program, before=self.before, senses=senses)


def test_a_restart_without_checks_of_its_own_needs_a_new_process() -> None:
    world = World(OLD)
    world.watch.at(1, world.see())
    world.watch.at(3, world.see(NEW))

    found = world.verify(Aim.RESTARTED, is_default=True)

    assert found.is_ok
    assert found.record() == [{"check": "new_process", "ok": True, "detail": "process 20 is up"}]
    assert 3 <= world.watch.now_s < 4.5


@pytest.mark.parametrize(
    ("seen", "detail"),
    [((OLD,), "process 10 is still the old one"), ((), "no process of that name is up")],
    ids=["the old one", "none"],
)
def test_a_restart_that_brought_no_new_process_fails_when_its_time_is_over(seen: tuple[Seen, ...], detail: str) -> None:
    world = World(*seen)

    found = world.verify(Aim.RESTARTED, is_default=True)

    assert not found.is_ok
    assert found.checks[0].detail == detail
    assert found.problem == f"new_process: {detail}"
    assert world.watch.now_s == 10


def test_the_same_pid_with_another_start_is_a_new_process() -> None:
    assert World(Seen(OLD.pid, 200.0, 2_000)).verify(Aim.RESTARTED, is_default=True).is_ok


def test_an_empty_list_of_checks_believes_the_exit_code() -> None:
    found = World().verify(Aim.RESTARTED)

    assert found.is_ok
    assert found.checks == ()


def test_a_stop_needs_every_old_process_gone_and_not_more() -> None:
    world = World(OLD, NEW)
    world.watch.at(2, world.see(NEW))

    found = world.verify(Aim.STOPPED, is_default=True)

    assert found.is_ok
    assert found.checks[0].detail == "gone: 10"


def test_a_stop_that_left_an_old_process_fails() -> None:
    found = World(OLD).verify(Aim.STOPPED, is_default=True)

    assert found.problem == "old_processes_gone: process 10 is still there"


def test_a_stopped_service_must_not_run_in_the_managers_eyes() -> None:
    world = World(service=running(10))
    world.watch.at(2, world.see(service=ServiceState(Condition.STOPPED)))

    found = world.verify(Aim.STOPPED, is_default=True, service="web.service")

    assert found.is_ok
    assert world.watch.now_s >= 2


def test_a_restarted_service_runs_as_another_process() -> None:
    world = World(OLD, service=running(10))
    world.watch.at(2, world.see(service=running(20)))

    found = world.verify(Aim.RESTARTED, is_default=True, service="web.service")

    assert found.is_ok
    assert found.record() == [{"check": "service", "ok": True, "detail": "it runs as process 20"}]


def test_a_service_that_still_runs_as_the_old_process_was_not_restarted() -> None:
    found = World(OLD, service=running(10)).verify(Aim.RESTARTED, is_default=True, service="web.service")

    assert found.problem == "service: it still runs as process 10"


def test_checks_of_the_config_come_after_the_services_own() -> None:
    world = World(service=running(20))
    world.before = sight(OLD, service=running(10))

    found = world.verify(Aim.RESTARTED, TcpPort(80), service="web.service")

    assert [checked.check for checked in found.checks] == ["service", "tcp_port 80"]


def test_up_for_a_time_begins_anew_when_the_process_is_replaced() -> None:
    world = World(NEW)
    world.watch.at(3, world.see(NEWER))

    found = world.verify(Aim.RESTARTED, UpFor(4))

    assert found.is_ok
    assert world.watch.now_s >= 7
    assert "process 30 has been up for" in found.checks[0].detail


def test_up_for_a_time_does_not_count_the_old_process() -> None:
    assert World(OLD).verify(Aim.RESTARTED, UpFor(1)).problem == "up_s 1: no new process is up"
    assert World(OLD).verify(Aim.UP, UpFor(1)).is_ok


def test_a_process_that_dies_again_and_again_is_never_up() -> None:
    world = World(NEW)
    for second in range(1, 10):
        world.watch.at(second, world.see(Seen(100 + second, float(second), second)))

    assert not world.verify(Aim.RESTARTED, UpFor(2)).is_ok


def test_all_checks_must_hold_in_the_same_round() -> None:
    world = World(NEW)
    world.port_problem = "Connection refused"
    world.watch.at(2, lambda: setattr(world, "port_problem", ""))

    found = world.verify(Aim.RESTARTED, TcpPort(80), HttpStatus(URL, 200), RunsWell(("check", "it")))

    assert [(checked.check, checked.ok) for checked in found.checks] == [
        ("tcp_port 80", True),
        ("http http://127.0.0.1:80/health 200", True),
        ("argv check it", True),
    ]
    assert [asked[0] for asked in world.asked if asked[0] != 80] == [URL, ("check", "it")]


@pytest.mark.parametrize(
    ("check", "change", "problem"),
    [
        (TcpPort(80), {"port_problem": "Connection refused"}, "tcp_port 80: Connection refused"),
        (HttpStatus(URL, 200), {"status": 302}, "http http://127.0.0.1:80/health 200: answered 302"),
        (RunsWell(("check",)), {"exit_code": 3}, "argv check: exit code 3: said why"),
    ],
    ids=["port", "http", "argv"],
)
def test_a_check_that_does_not_hold_is_named_and_those_behind_it_were_not_reached(
    check: Check, change: dict[str, Any], problem: str
) -> None:
    world = World(NEW)
    for name, value in change.items():
        setattr(world, name, value)

    found = world.verify(Aim.RESTARTED, check, TcpPort(81))

    assert found.problem == problem
    assert (found.checks[1].ok, found.checks[1].detail) == (False, "not reached")


def test_a_check_gets_no_more_time_than_is_left() -> None:
    world = World(NEW)
    world.exit_code = 1

    world.verify(Aim.RESTARTED, RunsWell(("check",)), timeout_s=3)

    timeouts = [timeout_s for _, timeout_s in world.asked]
    assert timeouts[0] == 3
    assert timeouts[-1] == 0.5
    assert world.watch.now_s == 3


def test_what_a_check_says_is_made_harmless_and_short() -> None:
    world = World(NEW)
    world.port_problem = "\x1b[31m" + "x" * 1_000

    found = world.verify(Aim.RESTARTED, TcpPort(80))

    assert "\x1b" not in found.checks[0].detail
    assert len(found.checks[0].detail) <= 121
