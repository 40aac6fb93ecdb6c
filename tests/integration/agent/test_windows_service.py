"""The Windows service class under a fake of pywin32 that is built from its documentation; no Windows was at hand."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windows_service import (
    ERROR,
    INFORMATION,
    RUNNING,
    SCRIPT,
    SPECIFIC_ERROR,
    START_PENDING,
    STOP_PENDING,
    STOPPED,
    WARNING,
    Record,
    ServiceProcess,
    complaints,
)

SECRET = "the-key-of-this-pc"
OWN_CODE = 0x20000000
IMPATIENT = (
    SCRIPT.read_text(encoding="utf-8")
    .replace("START_WITHIN_S = 60.0", "START_WITHIN_S = 0.5")
    .replace("STOP_WITHIN_S = 9.0", "STOP_WITHIN_S = 0.5")
    .replace("REPORT_EVERY_S = 1.0", "REPORT_EVERY_S = 0.2")
)
# What makes every service manager restart it, also before the first boot with `sc failureflag`.
FELL = ["it did not end with STOPPED"]
NEVER_STARTS = """
import time
import reco3.agent.agent as a
a.run_service = lambda *_: time.sleep(60)
"""
IS_DEAF = """
import time
import reco3.agent.agent as a
def run(_config, wait_for_stop):
    wait_for_stop()
    time.sleep(60)
a.run_service = run
"""
FALLS_WHEN_STOPPED = """
import reco3.agent.agent as a
def run(_config, wait_for_stop):
    wait_for_stop()
    raise RuntimeError
a.run_service = run
"""
HAS_NO_EVENT_LOG = """
import servicemanager, win32service
def refuse(*_):
    raise win32service.error(1502, "ReportEvent", "The event log file is full.")
servicemanager.LogMsg = servicemanager.LogErrorMsg = refuse
"""
Services = Callable[..., ServiceProcess]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made: list[ServiceProcess] = []

    def make(**how: object) -> ServiceProcess:
        made.append(ServiceProcess(tmp_path / f"pc {len(made)}", **how))  # type: ignore[arg-type]
        made[-1].configure()
        return made[-1]

    yield make
    for service in made:
        service.kill()


def states(service: ServiceProcess) -> list[int]:
    """Its states in order, each once for as long as it lasted."""
    all_of_them = [status["state"] for status in service.statuses()]
    return [state for state, before in zip(all_of_them, [0, *all_of_them], strict=False) if state != before]


def last_status(service: ServiceProcess) -> Record:
    return service.statuses()[-1]


@pytest.mark.parametrize("control", ["STOP", "SHUTDOWN"])
def test_the_service_starts_runs_and_stops_in_time(services: Services, control: str) -> None:
    service = services()
    service.start()
    service.wait_for_state(RUNNING)
    service.wait_for(lambda record: record.get("event") == INFORMATION)
    asked_at = time.monotonic()

    service.control(control)

    assert service.wait_for_end() == 0
    assert time.monotonic() - asked_at < 10
    assert states(service) == [START_PENDING, RUNNING, STOP_PENDING, STOPPED]
    assert complaints(service.statuses()) == []
    assert (last_status(service)["win32_exit"], last_status(service)["own_exit"]) == (0, 0)
    assert [event["source"] for event in service.records if "event" in event] == ["RECO3Agent"] * 2
    assert service.events(ERROR) + service.events(WARNING) == []
    log = (service.folder / "agent.log").read_text(encoding="utf-8")
    assert f"agent_stopping signal=SERVICE_CONTROL_{control}" in log
    assert service.errors == ""


def test_the_control_handler_returns_at_once_and_the_service_is_silent_after_its_end(services: Services) -> None:
    service = services()
    service.start()
    service.wait_for_state(RUNNING)

    service.control("STOP")

    began = service.wait_for(lambda record: record.get("control") == "STOP")
    ended = service.wait_for(lambda record: record.get("handled") == "STOP")
    assert ended["at"] - began["at"] < 1
    service.wait_for_end()
    assert [status["state"] for status in service.statuses()].count(STOPPED) == 1


def test_a_question_in_between_gets_the_true_state(services: Services) -> None:
    service = services()
    service.start()
    service.wait_for_state(RUNNING)
    service.control("INTERROGATE")
    service.wait_for(lambda record: record.get("handled") == "INTERROGATE")

    service.control("STOP")
    service.control("INTERROGATE")
    service.wait_for_end()

    assert [status["state"] for status in service.statuses()].count(RUNNING) == 2
    assert complaints(service.statuses()) == []


def test_a_service_that_starts_accepts_no_stop(services: Services) -> None:
    service = services(
        script=IMPATIENT,
        fault=NEVER_STARTS,
    )
    service.start()
    service.wait_for_state(START_PENDING)

    service.control("STOP")

    assert service.wait_for(lambda record: "refused" in record)["because"] == 1061
    service.wait_for_end()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"agent_id": "no such name"}, "agent_id"),
        ({"logging": {"file": "/dev/null/agent.log"}}, "logging.file: cannot be written"),
        ({"state_dir": "/dev/null/state"}, "state_dir: cannot be made"),
    ],
)
def test_a_config_that_cannot_be_used_is_an_event_and_a_code(
    services: Services, changes: dict[str, object], told: str
) -> None:
    service = services()
    service.configure(**changes)

    service.start()

    assert service.wait_for_end() == 2
    assert states(service) == [START_PENDING, STOPPED]
    assert complaints(service.statuses()) == []
    assert (last_status(service)["win32_exit"], last_status(service)["own_exit"]) == (SPECIFIC_ERROR, OWN_CODE | 2)
    (event,) = service.events(ERROR)
    assert told in event
    assert "sc start RECO3Agent" in event
    assert SECRET not in event


def test_a_missing_config_is_named(services: Services) -> None:
    service = services()
    service.config_path.unlink()

    service.start()

    assert service.wait_for_end() == 2
    assert str(service.config_path) in service.events(ERROR)[0]


# The text of the error holds the key, as that of a parser might that shows what it could not read.
CRASH = """
import sys
def crash(*_):
    raise RuntimeError(open(sys.argv[1], encoding="utf-8").read())
"""
THREAD_DIES = f"{CRASH}\nimport reco3.agent.control as c\nc.Control.run = crash\n"
MAIN_DIES = f"{CRASH}\nimport reco3.agent.agent as a\na.run_service = crash\n"


@pytest.mark.parametrize("fault", [THREAD_DIES, MAIN_DIES], ids=["one of its threads", "the agent itself"])
def test_a_crash_ends_the_process_with_a_code_that_restarts_it(services: Services, fault: str) -> None:
    service = services(fault=fault)

    service.start()

    assert service.wait_for_end() == 3
    assert complaints(service.statuses()) == FELL
    (event,) = service.events(ERROR)
    assert "RuntimeError" in event
    assert "fault.py" in event
    assert SECRET not in event


def test_a_missing_package_is_named(services: Services) -> None:
    service = services(packages=False)

    service.start()

    assert service.wait_for_end() == 3
    assert "No module named 'reco3'" in service.events(ERROR)[0]


def test_an_agent_that_does_not_start_is_given_up(services: Services) -> None:
    service = services(
        script=IMPATIENT,
        fault=NEVER_STARTS,
    )

    service.start()

    assert service.wait_for_end() == 4
    assert complaints(service.statuses()) == FELL
    assert "did not start within" in service.events(ERROR)[0]


def test_an_agent_that_does_not_stop_is_cut_off_without_being_called_a_failure(services: Services) -> None:
    service = services(script=IMPATIENT, fault=IS_DEAF)
    service.start()
    service.wait_for_state(RUNNING)

    service.control("STOP")

    assert service.wait_for_end() == 0
    assert states(service) == [START_PENDING, RUNNING, STOP_PENDING, STOPPED]
    assert [status["state"] for status in service.statuses()].count(STOP_PENDING) > 2
    assert (last_status(service)["win32_exit"], last_status(service)["own_exit"]) == (0, 0)
    assert complaints(service.statuses()) == []
    assert "did not stop within" in service.events(WARNING)[0]


def test_a_crash_while_it_stops_is_told_but_restarts_nothing(services: Services) -> None:
    service = services(fault=FALLS_WHEN_STOPPED)
    service.start()
    service.wait_for_state(RUNNING)

    service.control("STOP")

    assert service.wait_for_end() == 0
    assert complaints(service.statuses()) == []
    assert (last_status(service)["win32_exit"], last_status(service)["own_exit"]) == (0, 0)
    assert "RuntimeError" in service.events(ERROR)[0]


@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"agent_id": "no such name"}, 2)], ids=["good", "bad"])
def test_an_event_log_that_is_full_changes_nothing(services: Services, changes: dict[str, object], code: int) -> None:
    service = services(fault=HAS_NO_EVENT_LOG)
    service.configure(**changes)
    service.start()
    if not code:
        service.wait_for_state(RUNNING)
        service.control("STOP")

    assert service.wait_for_end() == code
    assert complaints(service.statuses()) == []


def test_without_a_service_manager_it_says_who_starts_it(services: Services) -> None:
    service = services()

    service.start(by_service_manager=False)

    assert service.wait_for_end() == 2
    assert "sc start RECO3Agent" in service.errors
    assert "reco3 agent" in service.errors


def test_the_installer_can_see_whether_all_can_be_imported(services: Services) -> None:
    whole, broken = services(), services(packages=False)

    for service in (whole, broken):
        service.start("--check", by_service_manager=False)

    assert whole.wait_for_end() == 0
    assert whole.records == []
    assert broken.wait_for_end() == 1
    assert "No module named 'reco3'" in broken.errors


def test_without_pywin32s_start_up_line_nothing_would_load(services: Services) -> None:
    service = services()
    next(service.folder.rglob("pywin32.pth")).write_text("win32\nwin32/lib\n", encoding="utf-8")

    service.start()

    assert service.wait_for_end() == 1
    assert "DLL load failed" in service.errors


NAIVE = """
import site, sys, time
from pathlib import Path
site.addsitedir(str(Path(__file__).parent / "Lib" / "site-packages"))
import servicemanager, win32service, win32serviceutil

class Naive(win32serviceutil.ServiceFramework):
    _svc_name_ = "RECO3Agent"
    stop = False
    def SvcRun(self):
        self.ReportServiceStatus(win32service.SERVICE_RUNNING)
        while not self.stop:
            time.sleep(0.05)
        {at_the_end}
    def SvcStop(self):
        {when_asked}
        self.stop = True

servicemanager.PrepareToHostSingle(Naive)
servicemanager.StartServiceCtrlDispatcher()
time.sleep(0.2)
"""


@pytest.mark.parametrize(
    ("when_asked", "at_the_end", "complaint"),
    [
        (
            "self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=100)",
            "time.sleep(0.4)",
            "silent for longer than the wait hint of 100 ms",
        ),
        (
            "self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)",
            "self.ReportServiceStatus(win32service.SERVICE_STOPPED, svcExitCode=3)",
            "a service-specific exit code without ERROR_SERVICE_SPECIFIC_ERROR",
        ),
        (
            "self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)",
            "self.ReportServiceStatus(win32service.SERVICE_STOPPED, 0, 1066, 3)",
            "state 1 after 1",
        ),
        (
            "self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)\n        self.SvcInterrogate()",
            "pass",
            "state 4 after 3",
        ),
    ],
)
def test_the_judge_finds_what_is_wrong_with_a_naive_service(
    services: Services, when_asked: str, at_the_end: str, complaint: str
) -> None:
    service = services(script=NAIVE.format(when_asked=when_asked, at_the_end=at_the_end))
    service.start()
    service.wait_for_state(RUNNING)

    service.control("STOP")
    service.wait_for_end()

    assert complaint in complaints(service.statuses())
