import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stopwatches import FakeStopwatch

from reco3.agent.platform import linux, macos, windows
from reco3.agent.platform.service_states import Condition, ServiceState, ServiceVerb, Step
from reco3.agent.runner import Outcome
from reco3.agent.services import StepTaker, Taken

SYSTEMS: dict[str, ModuleType] = {"linux": linux, "macos": macos, "windows": windows}
CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "service_states.json").read_text(encoding="utf-8")
)
RUNNING, STOPPED, CHANGING = (ServiceState(each) for each in (Condition.RUNNING, Condition.STOPPED, Condition.CHANGING))


def ended(exit_code: int | None) -> Outcome:
    return Outcome(exit_code, "", was_cut=False, timed_out=False, duration_ms=1)


class Manager:
    """A service manager that answers as a test tells it to; once a list is down to one answer, that one stays."""

    def __init__(self, exit_codes: dict[str, int] | None = None, states: list[ServiceState] | None = None) -> None:
        self.exit_codes = exit_codes or {}
        self.states = states or [RUNNING]
        self.calls: list[tuple[str, ...]] = []
        self.watch = FakeStopwatch()

    def run(self, argv: tuple[str, ...]) -> Outcome:
        self.calls.append(argv)
        return ended(next((code for word, code in self.exit_codes.items() if word in argv), 0))

    def ask(self) -> ServiceState:
        self.calls.append(("ask",))
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def take(self, steps: tuple[Step, ...]) -> Taken:
        return StepTaker(self.run, self.ask, self.watch.stopwatch, deadline_s=10).take(steps)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['system']}: {case['name']}")
def test_a_managers_answer_is_read(case: dict[str, Any]) -> None:
    state = SYSTEMS[case["system"]].read_service_state(case["exit_code"], case["output"])

    assert [state.condition, state.word, state.pid, state.restarts] == case["expect"]


def test_systemctl_is_told_where_its_options_end() -> None:
    [restart] = linux.service_steps(ServiceVerb.RESTART, "web.service")
    [stop] = linux.service_steps(ServiceVerb.STOP, "web.service")

    assert restart.argv == ("systemctl", "--no-ask-password", "restart", "--", "web.service")
    assert stop.argv == ("systemctl", "--no-ask-password", "stop", "--", "web.service")
    assert linux.service_state_argv("web.service")[-2:] == ("--", "web.service")


def test_windows_names_its_tool_in_full_and_waits_between_stop_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SystemRoot", r"D:\Windows")
    manager = Manager(states=[CHANGING, CHANGING, STOPPED, CHANGING, RUNNING])

    taken = manager.take(windows.service_steps(ServiceVerb.RESTART, "W3SVC"))

    sc = r"D:\Windows\System32\sc.exe"
    assert taken.is_right
    assert manager.calls == [(sc, "stop", "W3SVC"), *[("ask",)] * 3, (sc, "start", "W3SVC"), *[("ask",)] * 2]


def test_a_service_that_was_stopped_already_is_still_started() -> None:
    manager = Manager({"stop": 1062}, [STOPPED, RUNNING])

    taken = manager.take(windows.service_steps(ServiceVerb.RESTART, "W3SVC"))

    assert taken.is_right
    assert manager.calls[-2][1] == "start"


def test_a_service_that_does_not_stop_in_time_is_not_started() -> None:
    manager = Manager(states=[ServiceState(Condition.CHANGING, "STOP_PENDING")])

    taken = manager.take(windows.service_steps(ServiceVerb.RESTART, "W3SVC"))

    assert not taken.is_right
    assert taken.problem == "the service did not become stopped in time, it is changing (STOP_PENDING)"
    assert not any("start" in call for call in manager.calls)
    assert manager.watch.now_s == 10


def test_a_step_that_fails_is_the_last() -> None:
    manager = Manager({"stop": 5})

    taken = manager.take(windows.service_steps(ServiceVerb.RESTART, "W3SVC"))

    assert (taken.is_right, taken.argv[1:], len(manager.calls)) == (False, ("stop", "W3SVC"), 1)


def test_launchd_kills_and_starts_in_one_step() -> None:
    manager = Manager(states=[CHANGING, RUNNING])

    taken = manager.take(macos.service_steps(ServiceVerb.RESTART, "com.example.web"))

    assert taken.is_right
    assert manager.calls[0] == ("/bin/launchctl", "kickstart", "-k", "system/com.example.web")


@pytest.mark.parametrize("exit_code", [3, 113])
def test_a_daemon_that_launchd_does_not_know_is_put_back_and_started(exit_code: int) -> None:
    manager = Manager({"-k": exit_code})

    taken = manager.take(macos.service_steps(ServiceVerb.RESTART, "com.example.web"))

    assert taken.is_right
    assert [call[1:] for call in manager.calls if call != ("ask",)] == [
        ("kickstart", "-k", "system/com.example.web"),
        ("bootstrap", "system", "/Library/LaunchDaemons/com.example.web.plist"),
        ("kickstart", "system/com.example.web"),
    ]


def test_a_daemon_without_a_property_list_is_not_started() -> None:
    manager = Manager({"-k": 113, "bootstrap": 5})

    taken = manager.take(macos.service_steps(ServiceVerb.RESTART, "com.example.web"))

    assert not taken.is_right
    assert taken.argv[1] == "bootstrap"


@pytest.mark.parametrize("exit_code", [0, 3, 36, 113])
def test_stopping_a_daemon_waits_until_launchd_has_let_it_go(exit_code: int) -> None:
    manager = Manager({"bootout": exit_code}, [RUNNING, CHANGING, ServiceState(Condition.MISSING)])

    taken = manager.take(macos.service_steps(ServiceVerb.STOP, "com.example.web"))

    assert taken.is_right
    assert manager.calls.count(("ask",)) == 3
