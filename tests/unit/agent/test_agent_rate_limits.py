import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agent_builders import make_control
from hypothesis import given
from hypothesis import strategies as st

from reco3.agent import commands, nginx_limits, probing
from reco3.agent.commands import Job
from reco3.agent.config import LimitCommands, LimitDriver, NginxConfig, RateLimitConfig
from reco3.agent.journal import Beginning, Ending, Journal, Received
from reco3.agent.lifecycle import Outcome, Verdict
from reco3.agent.nginx_limits import NginxDriver
from reco3.agent.rate_limits import RateLimitError, filled
from reco3.agent.security import Action, Rollback, SetRateLimit
from reco3.protocol.commands import Strength
from reco3.protocol.limits import ENDPOINT_PATTERN

NOW = "2026-01-01T00:00:00.000Z"
RECORDER = """\
import json, pathlib, sys
calls = pathlib.Path(sys.argv[1])
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[2:]) + "\\n")
sys.exit(3 if calls.with_name("broken").exists() else 0)
"""


class Pc:
    """A PC whose limits are set by a command, which notes what it was called with."""

    def __init__(self, folder: Path, driver: LimitDriver) -> None:
        self.journal = Journal(folder / "agent.db")
        self.calls_path = folder / "calls"
        self.path = folder / "limits.json"
        recorder = folder / "limit.py"
        recorder.write_text(RECORDER, encoding="utf-8")
        program = (sys.executable, str(recorder), str(self.calls_path))
        templates = LimitCommands(
            (*program, "set", "{endpoint}", "--rps={limit_rps}"), (*program, "clear", "{endpoint}")
        )
        command = templates if driver is LimitDriver.COMMAND else None
        self.control = make_control(rate_limit=RateLimitConfig(driver, self.path, command=command))

    def begin(self, command_id: str) -> Job:
        self.journal.receive([Received(command_id, "X", "{}")])
        self.journal.start(Beginning(command_id, datetime(2026, 1, 1, tzinfo=UTC), Strength.MODERATE, "limits", {}))
        return Job(command_id, NOW, self.control, self.journal)

    def carry_out(self, command_id: str, action: Action) -> Ending:
        ending = commands.carry_out(action, self.begin(command_id))
        self.journal.finish(command_id, ending)
        return ending

    def probe(self, command_id: str, action: Action) -> Verdict:
        before = probing.capture(action, self.control)
        return probing.probe(action, before, control=self.control, journal=self.journal, command_id=command_id)

    def calls(self) -> list[list[str]]:
        if not self.calls_path.exists():
            return []
        return [json.loads(line) for line in self.calls_path.read_text(encoding="utf-8").splitlines()]

    def break_command(self) -> None:
        self.calls_path.with_name("broken").touch()


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[Pc]:
    pc = Pc(tmp_path, LimitDriver.COMMAND)
    yield pc
    pc.journal.close()


@pytest.fixture
def file_pc(tmp_path: Path) -> Iterator[Pc]:
    pc = Pc(tmp_path, LimitDriver.FILE)
    yield pc
    pc.journal.close()


def test_the_command_is_given_each_value_within_its_own_word(pc: Pc) -> None:
    ending = pc.carry_out("c-1", SetRateLimit("/api", 50))

    assert ending.is_success, ending.result
    assert pc.calls() == [["set", "/api", "--rps=50"]]
    assert ending.result["driver"] == "command"


def test_rollback_sets_the_former_limit_and_after_that_lifts_it(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.carry_out("c-2", SetRateLimit("/api", 20))

    results = [pc.carry_out(f"r-{number}", Rollback(None)).result for number in range(2)]

    assert [result["limit_rps"] for result in results] == [50, None]
    assert pc.calls()[2:] == [["set", "/api", "--rps=50"], ["clear", "/api"]]


def test_a_command_that_fails_has_set_nothing_and_leaves_nothing_to_undo(pc: Pc) -> None:
    pc.break_command()

    ending = pc.carry_out("c-1", SetRateLimit("/api", 50))

    assert ending.result["code"] == "rate_limit_command_failed"
    assert ending.result["error"].endswith("ended with exit code 3")
    assert pc.journal.last_undo() is None
    assert not pc.path.exists()


def test_a_rollback_whose_command_fails_can_be_tried_again(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.break_command()

    ending = pc.carry_out("c-2", Rollback(None))

    assert ending.result["code"] == "rate_limit_command_failed"
    undo = pc.journal.last_undo()
    assert undo is not None
    assert undo.command_id == "c-1"


def test_a_limit_of_another_driver_is_not_undone_by_this_one(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.control = make_control(rate_limit=RateLimitConfig(LimitDriver.FILE, pc.path))

    ending = pc.carry_out("c-2", Rollback("c-1"))

    assert ending.result["code"] == "superseded"
    assert "command driver" in ending.result["error"]


@given(
    template=st.lists(
        st.text() | st.sampled_from(["{endpoint}", "{limit_rps}", "x={endpoint}:{limit_rps}"]), min_size=1
    ),
    endpoint=st.from_regex(ENDPOINT_PATTERN, fullmatch=True),
    limit_rps=st.integers(1, 1_000_000),
)
def test_a_value_never_adds_a_word_nor_changes_the_program(template: list[str], endpoint: str, limit_rps: int) -> None:
    argv = filled(tuple(template), endpoint=endpoint, limit_rps=limit_rps)

    assert len(argv) == len(template)
    assert argv[0] == template[0]
    assert [word for word, given in zip(argv, template, strict=True) if "{" not in given] == [
        given for given in template if "{" not in given
    ]


def test_a_crash_before_the_change_is_found_to_have_changed_nothing(file_pc: Pc) -> None:
    file_pc.begin("c-1")

    verdict = file_pc.probe("c-1", SetRateLimit("/api", 50))

    assert verdict.outcome is Outcome.FAILED


def test_a_crash_after_the_change_is_found_to_have_made_it(file_pc: Pc) -> None:
    commands.carry_out(SetRateLimit("/api", 50), file_pc.begin("c-1"))

    verdict = file_pc.probe("c-1", SetRateLimit("/api", 50))

    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.evidence["after"]["rate_limits"]["sha256"] == verdict.evidence["after"]["target_sha256"]


def test_a_crash_between_the_note_and_the_change_is_found_to_have_changed_nothing(file_pc: Pc) -> None:
    file_pc.path.write_text('{"limits": {}}', encoding="utf-8")
    commands.carry_out(SetRateLimit("/api", 50), file_pc.begin("c-1"))
    file_pc.path.write_text('{"limits": {}}', encoding="utf-8")

    assert file_pc.probe("c-1", SetRateLimit("/api", 50)).outcome is Outcome.FAILED


def test_a_crash_while_somebody_else_wrote_is_unknown(file_pc: Pc) -> None:
    commands.carry_out(SetRateLimit("/api", 50), file_pc.begin("c-1"))
    file_pc.path.write_text('{"limits": {"/other": {"limit_rps": 1}}}', encoding="utf-8")

    assert file_pc.probe("c-1", SetRateLimit("/api", 50)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("is_undone", [True, False])
def test_a_crash_during_a_rollback_is_told_by_the_file(file_pc: Pc, *, is_undone: bool) -> None:
    file_pc.path.write_text('{"limits": {}}', encoding="utf-8")
    file_pc.carry_out("c-1", SetRateLimit("/api", 50))
    job = file_pc.begin("c-2")
    if is_undone:
        commands.carry_out(Rollback(None), job)

    verdict = file_pc.probe("c-2", Rollback(None))

    assert verdict.outcome is (Outcome.COMPLETED if is_undone else Outcome.FAILED)


def test_a_command_driver_that_crashed_before_it_remembered_is_unknown(pc: Pc) -> None:
    commands.carry_out(SetRateLimit("/api", 50), pc.begin("c-1"))
    pc.path.unlink()

    assert pc.probe("c-1", SetRateLimit("/api", 50)).outcome is Outcome.UNKNOWN


def make_driver(folder: Path) -> NginxDriver:
    def refuse(_: Any) -> Any:
        raise AssertionError("nobody is to be started here")

    return NginxDriver(folder / "http.conf", NginxConfig(folder / "server.conf"), refuse, 5)


@given(
    limits=st.dictionaries(
        st.from_regex(ENDPOINT_PATTERN, fullmatch=True), st.integers(1, 1_000_000), min_size=1, max_size=5
    ),
    command_id=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64),
)
def test_what_is_written_for_nginx_is_read_again(limits: dict[str, int], command_id: str) -> None:
    driver = make_driver(Path("/nowhere"))
    content = {
        endpoint: {"limit_rps": rps, "command_id": command_id, "set_at": NOW} for endpoint, rps in limits.items()
    }

    text = driver.render({"limits": content})

    assert driver.parse(text) == {"limits": content}
    # A line longer than its buffer stops nginx, in a comment too; and nothing may leave its line.
    assert max(map(len, text.splitlines())) < 4_000
    assert text.count("\n") == 1 + 4 * len(content)


@pytest.mark.parametrize(
    "text",
    [
        "limit_req_zone $binary_remote_addr zone=mine:1m rate=1r/s;\n",
        "# limit {}\n",
        '# limit {"endpoint": "/api", "limit_rps": "50", "command_id": "c", "set_at": "t"}\n',
        "# limit " + "[" * 100_000 + "\n",
    ],
    ids=["another's", "empty", "a text for a number", "nested"],
)
def test_a_file_of_somebody_else_is_not_understood(text: str, tmp_path: Path) -> None:
    with pytest.raises(RateLimitError) as caught:
        make_driver(tmp_path).parse(text)

    assert caught.value.code == "rate_limit_unreadable"


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_an_empty_file_has_no_limits(text: str | None, tmp_path: Path) -> None:
    assert make_driver(tmp_path).parse(text) == {"limits": {}}


@pytest.mark.parametrize(("limit_rps", "burst"), [(1, 1), (9, 1), (50, 5), (1_000_000, 100_000)])
def test_a_tenth_of_a_second_may_come_at_once(limit_rps: int, burst: int) -> None:
    text = nginx_limits.server_text({"/api": {"limit_rps": limit_rps}})

    assert f" burst={burst} nodelay;" in text
