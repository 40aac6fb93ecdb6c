"""What scripts and peers print is read strictly: text that holds no figure is an error, never a zero."""

import struct
from collections.abc import Callable, Sequence

import pytest

from agents_beside import Taken, last_seconds
from approvals import approve_figures
from footprints import TreeSample
from machine import busy_warning, cpu_model, memory_total
from peers import PeerMissing, binary_of, version_of
from polling import PollFailed, polling, zabbix_value
from processes import ROOT, ScriptFailed, last_json, run_script, shown
from pushes import VALUES
from results import printed_markdown
from run import RESULTS, SECTIONS, portable, read_options
from scripts import SCRIPTS, script_section


def test_the_last_json_of_an_output_is_read() -> None:
    assert last_json('{"a": 1}\ntable\n{"b": 2}\n') == {"b": 2}


def test_json_over_several_lines_is_read_whole() -> None:
    assert last_json('a table\n{\n  "a": {\n    "b": [1,\n 2]\n  }\n}\ndone\n') == {"a": {"b": [1, 2]}}


def test_an_output_without_json_is_an_error() -> None:
    with pytest.raises(ScriptFailed, match="no JSON"):
        last_json("p50 12.0\n{not json}\n")


@pytest.mark.parametrize(
    "output",
    [
        '{"p50_ms": 20.5, "p99_ms": 90}',
        '{"approve_to_running_ms": {"p50": 20.5, "p99": 90}, "request_ms": {"p50": 1, "p99": 2}}',
        '{"runs": 50, "approve_to_running": {"p50_ms": 20.5, "p99_ms": 90}, "request": {"p50_ms": 1, "p99_ms": 2}}',
    ],
)
def test_the_figures_of_an_approval_are_the_first_in_the_json(output: str) -> None:
    assert approve_figures(output) == (20.5, 90.0)


def test_an_approval_without_figures_is_an_error() -> None:
    with pytest.raises(ScriptFailed, match="p50_ms"):
        approve_figures('{"runs": 50}')


def test_a_script_that_ends_badly_gives_its_last_words() -> None:
    with pytest.raises(ScriptFailed, match="exit code 3: no luck"):
        run_script(["/bin/sh", "-c", "echo no luck >&2; exit 3"], limit_s=30)


def test_a_script_that_does_not_exist_is_named() -> None:
    with pytest.raises(ScriptFailed, match=r"bench/none\.py does not exist"):
        run_script(["python", str(ROOT / "bench/none.py")], limit_s=30)


def test_a_script_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ScriptFailed, match="took longer"):
        run_script(["/bin/sh", "-c", "exec tail -f /dev/null"], limit_s=0.2)


def test_a_script_gets_none_of_the_developers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO3_DB_PATH", "/elsewhere")

    assert "RECO3" not in run_script(["env"], limit_s=30).output


def test_a_command_is_shown_as_typed_in_the_repository() -> None:
    assert shown([str(ROOT / "bench/x.py"), "a b"], {"PORT": "1"}) == "PORT=1 bench/x.py 'a b'"


def test_a_script_that_is_not_there_is_a_section_without_figures(ground: Callable[[], object]) -> None:
    script = SCRIPTS[0].__class__("none", "None", "bench/none.py", (), (), 10, "")

    section = script_section(script)(ground())  # type: ignore[arg-type]

    assert section.missing == ("bench/none.py does not exist",)
    assert not section.headlines
    assert not section.printed


def test_a_table_stays_markdown_and_other_text_is_quoted_without_the_json() -> None:
    output = 'seconds 12\n| a | b |\n|---|---|\n| 1 | 2 |\nclean\n{"x": 1}\n'

    assert printed_markdown(output) == "```\nseconds 12\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nclean\n```"


def test_a_zabbix_value_is_cut_out_of_its_frame() -> None:
    assert zabbix_value(struct.pack("<4sBII", b"ZBXD", 1, 4, 0) + b"0.25") == "0.25"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request", struct.pack("<4sBII", b"ZBXD", 1, 20, 0) + b"ZBX_NOTSUPPORTED\0no"]
)
def test_what_is_no_zabbix_value_is_an_error(answer: bytes) -> None:
    with pytest.raises(PollFailed):
        zabbix_value(answer)


def test_a_poll_that_fails_is_remembered_beside_those_that_work() -> None:
    def refuse() -> None:
        raise PollFailed("no such item")

    with polling({"good": lambda: None, "bad": refuse}, every_s=0.01) as polls:
        pass

    assert polls.answered == {"good": polls.answered["good"], "bad": 0}
    assert polls.failed == {"bad": "PollFailed: no such item"}


def test_a_program_that_is_not_installed_is_a_missing_peer() -> None:
    with pytest.raises(PeerMissing, match="no-such-exporter"):
        binary_of("no-such-exporter")


@pytest.mark.parametrize(
    ("argv", "version"), [(["echo", "node_exporter, version 1.5.0 (x)"], "1.5.0"), (["no-such-program"], "unknown")]
)
def test_a_version_is_the_first_number_that_a_program_says(argv: Sequence[str], version: str) -> None:
    assert version_of(argv) == version


def test_the_machine_is_named_by_its_kernel_files() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert memory_total("MemTotal:       25165824 kB\nMemFree: 1 kB\n") == "24.0 GiB"
    assert (cpu_model(""), memory_total("")) == ("unknown", "unknown")


def test_a_crowded_machine_is_warned_of_and_a_quiet_one_is_not() -> None:
    assert "load 6.7 on 2 cores" in busy_warning(6.7, 2)
    assert busy_warning(0.3, 2) == ""


def test_a_push_carries_fifteen_values() -> None:
    assert len(set(VALUES)) == 15


def test_only_a_whole_run_writes_the_results() -> None:
    assert read_options([]).output == RESULTS
    assert read_options([]).names == tuple(SECTIONS)
    assert read_options(["--only", "ingest"]).output is None
    assert read_options(["--quick"]).output is None


def test_results_name_no_place_of_the_machine_they_were_made_on() -> None:
    folder = ROOT / ".bench/run-x1"

    text = portable(f"{ROOT}/bench/run.py --json {folder}/a.json; cat .bench/run-x1/b", folder)

    assert text == "bench/run.py --json .bench/run/a.json; cat .bench/run/b"


def test_the_footprint_of_a_peer_is_that_of_the_last_seconds_alone() -> None:
    def taken(at_s: float, pss_kb: int, ticks: int) -> Taken:
        return Taken(at_s, TreeSample(1, 1, pss_kb, pss_kb, ticks, 0, 0))

    starting, settled = [taken(0, 90_000, 0), taken(5, 90_000, 5_000)], [taken(20, 1024, 5_000), taken(30, 1024, 5_010)]

    footprint = last_seconds([*starting, *settled], 10)

    assert (footprint.pss_mb, footprint.window_s) == (1.0, 10)
    assert footprint.cpu_pct == pytest.approx(1.0)


def test_a_section_that_there_is_none_of_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(["--only", "everything"])

    assert ended.value.code == 2
    assert "everything" in capsys.readouterr().err
