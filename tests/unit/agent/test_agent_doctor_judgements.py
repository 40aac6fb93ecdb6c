"""The doctor's judgements by facts alone, those of other systems and users included."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from reco3.agent.doctor import machine_checks, people
from reco3.agent.doctor.config_checks import judge_reading
from reco3.agent.doctor.findings import Finding, Level, as_text, broken, foreign, in_order, note, ok, warning, word
from reco3.agent.doctor.machine_checks import judge_own_service, judge_python
from reco3.agent.doctor.people import EXECUTE, READ, WRITE, Person, Rights, judge
from reco3.agent.doctor.state_checks import judge_room
from reco3.agent.platform import linux, macos, windows

ROOT = Path(__file__).parents[3]
STATES = json.loads((ROOT / "tests/data/service_states.json").read_text(encoding="utf-8"))
SYSTEMS = {"linux": linux, "macos": macos, "windows": windows}
LEVELS = {
    "running": Level.OK,
    "missing": Level.NOTE,
    "unknown": Level.NOTE,
    "stopped": Level.WARNING,
    "changing": Level.WARNING,
}
CURES = {
    "linux": "systemctl enable --now reco3-agent.service",
    "macos": "system/com.reco3.agent",
    "windows": "RECO3Agent",
}


@pytest.mark.parametrize("case", STATES, ids=[f"{case['system']}: {case['name']}" for case in STATES])
def test_the_agents_own_service_is_judged_by_the_words_of_each_manager(case: dict[str, object]) -> None:
    system = str(case["system"])
    adapter = SYSTEMS[system]
    state = adapter.read_service_state(case["exit_code"], case["output"])  # type: ignore[attr-defined]

    found = judge_own_service(state, system=system, name=adapter.AGENT_SERVICE)  # type: ignore[attr-defined]

    assert found.level is LEVELS[case["expect"][0]]  # type: ignore[index]
    assert found.level is not Level.WARNING or CURES[system] in found.to_do


ALICE = Person("alice", 1000, frozenset({1000, 50}), is_self=False)
ROOT_USER = Person("root", 0, frozenset({0}), is_self=False)
RIGHTS = [
    ("the owner's bits", ALICE, (1000, 1, 0o400), READ, True),
    ("the owner's bits count even when others have more", ALICE, (1000, 1, 0o044), READ, False),
    ("the bits of a second group", ALICE, (1, 50, 0o040), READ, True),
    ("the group's bits count even when others have more", ALICE, (1, 50, 0o004), READ, False),
    ("the others' bits", ALICE, (1, 1, 0o004), READ, True),
    ("nobody's", ALICE, (1, 1, 0o640), READ, False),
    ("reading is not writing", ALICE, (1, 1, 0o004), WRITE, False),
    ("root reads all", ROOT_USER, (1, 1, 0o000), READ, True),
    ("root executes what anybody may", ROOT_USER, (1, 1, 0o010), EXECUTE, True),
    ("root executes no plain file", ROOT_USER, (1, 1, 0o666), EXECUTE, False),
]


@pytest.mark.parametrize(
    ("person", "rights", "want", "is_allowed"), [one[1:] for one in RIGHTS], ids=[one[0] for one in RIGHTS]
)
def test_the_bits_decide_as_the_kernel_does(
    person: Person, rights: tuple[int, int, int], want: int, is_allowed: bool
) -> None:
    why = judge(person, (Path("/f"), Rights(*rights)), [], want)

    assert (why == "") is is_allowed, why


def test_a_closed_folder_on_the_way_closes_what_is_in_it() -> None:
    target = (Path("/a/b/f"), Rights(1, 1, 0o444))
    open_, closed = (Path("/a"), Rights(0, 0, 0o711)), (Path("/a/b"), Rights(0, 0, 0o744))

    assert judge(ALICE, target, [open_], READ) == ""
    assert judge(ALICE, target, [open_, closed], READ) == "alice may not enter /a/b (mode 0744)"


@pytest.mark.skipif(sys.platform == "win32", reason="a file's owner is POSIX")
def test_a_stranger_is_told_that_the_files_belong_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)

    person, owned = people.service_person(tmp_path, tmp_path)

    assert person.is_self
    assert owned.startswith(str(tmp_path))


@pytest.mark.parametrize(("free", "level"), [(600, Level.OK), (100, Level.WARNING), (5, Level.BROKEN)])
def test_little_room_is_a_warning_and_none_is_broken(free: int, level: Level) -> None:
    assert judge_room(free * 1024 * 1024, Path("/x")).level is level


def test_windows_is_told_where_its_rights_are() -> None:
    assert "icacls" in judge_reading(Path("C:/reco3/config.yaml"), None).to_do


def test_an_old_python_is_broken() -> None:
    assert judge_python((3, 10)).level is Level.BROKEN
    assert judge_python((3, 11)).level is Level.OK
    assert judge_python((4, 0)).level is Level.OK
    assert machine_checks.LOWEST_PYTHON == (3, 11)


def test_whatever_is_found_is_shown_without_the_key_and_on_one_line() -> None:
    findings = [ok("a", "fine"), broken("b", "it said sekrit-key\n\x1b[2Jmore", "use sekrit-key"), note("c", "n")]

    shown = in_order(findings, secret="sekrit-key")

    assert [one.code for one in shown] == ["b", "c", "a"]
    assert shown[0] == Finding("b", Level.BROKEN, "it said ***??[2Jmore", "use ***")
    assert "\x1b" not in as_text(shown)


def test_a_key_as_short_as_a_word_does_not_take_the_words_away() -> None:
    assert in_order([ok("a", "the key")], secret="k")[0].found == "the key"


def test_a_strangers_text_is_ascii_and_short() -> None:
    assert foreign("\u202eabc" + "x" * 1000) == "?abc" + "x" * 116 + "..."


@pytest.mark.skipif(sys.platform == "win32", reason="the words of a POSIX shell")
def test_a_path_in_a_command_is_one_word_of_it() -> None:
    assert word("/a b/c") == "'/a b/c'"
    assert word("/ab/c") == "/ab/c"


def test_text_is_aligned_and_commands_are_not_cut() -> None:
    cure = "reco3 agent enrol " + "/a-long-folder" * 12
    text = as_text([warning("a_code", "x-y " * 60, cure), ok("b", "fine")]).splitlines()

    assert text[0].startswith("warning  a_code  x-y x-y")
    assert text[1].startswith(" " * 17 + "x-y")
    assert f"{' ' * 17}-> {cure}" in text
    assert text[-3:] == ["ok       b       fine", "", "0 broken, 1 warning, 0 notes: a_code"]


def test_every_code_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/doctor.md").read_text(encoding="utf-8"), re.MULTILINE))

    assert documented == _codes()


def _codes() -> set[str]:
    """Every code in the doctor's source: given to a finding, named `code`, or kept in a table of codes."""
    found: set[str] = set()
    for path in (ROOT / "src/reco3/agent/doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found |= _codes_in(node)
    return found


def _codes_in(node: ast.AST) -> set[str]:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"ok", "note", "warning", "broken"}
    ):
        return _text(node.args[0])
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "code":
        return _text(node.value)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
        names = [getattr(one, "id", "") for one in node.targets[0].elts]
        return _text(node.value.elts[names.index("code")]) if "code" in names else set()
    return set()


def _text(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
