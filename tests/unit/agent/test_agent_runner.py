import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reco3.agent import runner
from reco3.agent.runner import Run, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripts are POSIX ones")
PYTHON = sys.executable


def make_run(*argv: str, timeout_s: float = 20, max_output_bytes: int = 10_000) -> Run:
    return Run(argv, timeout_s, max_output_bytes)


def python(code: str, *words: str, timeout_s: float = 20, max_output_bytes: int = 10_000) -> Run:
    return make_run(PYTHON, "-c", code, *words, timeout_s=timeout_s, max_output_bytes=max_output_bytes)


def wait_until_gone(pid: int) -> bool:
    """True when the process is dead within five seconds; a zombie counts as dead."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
            psutil.Process(pid).wait(0.05)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
    return False


def test_output_and_exit_code_come_back() -> None:
    outcome = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))

    assert outcome.exit_code == 3
    assert sorted(outcome.output.splitlines()) == ["err", "out"]
    assert not outcome.was_cut
    assert not outcome.timed_out
    assert outcome.duration_ms > 0


def test_no_shell_looks_at_the_words(tmp_path: Path) -> None:
    words = ["; touch " + str(tmp_path / "a"), f"$(touch {tmp_path / 'b'})", f"`touch {tmp_path / 'c'}`", "*", "$HOME"]

    outcome = run(python("import sys, json; print(json.dumps(sys.argv[1:]))", *words))

    assert outcome.output.strip() == json.dumps(words)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_exist_is_an_outcome_that_says_so() -> None:
    outcome = run(make_run("/nowhere/reco3-no-such-program"))

    assert outcome.exit_code is None
    assert not outcome.timed_out
    assert outcome.output == "cannot start /nowhere/reco3-no-such-program: No such file or directory"


def test_a_file_that_may_not_be_executed_is_an_outcome_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n", encoding="utf-8")

    outcome = run(make_run(str(tmp_path / "script")))

    assert outcome.exit_code is None
    assert "Permission denied" in outcome.output


def test_only_the_end_of_long_output_is_kept() -> None:
    outcome = run(python("print('a' * 50_000); print('the end')", max_output_bytes=100))

    assert len(outcome.output) == 100
    assert outcome.output.endswith("the end\n")
    assert outcome.was_cut


def test_output_that_would_fill_the_disk_is_dropped_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_FILE_BYTES", 1000)
    code = "import time\nprint('a' * 5000, flush=True)\ntime.sleep(1.2)\nprint('the end')"

    outcome = run(python(code))

    assert outcome.output == "the end\n"
    assert outcome.was_cut


def test_output_that_is_no_text_does_no_harm() -> None:
    assert run(python(r"import sys; sys.stdout.buffer.write(b'\xff\xfe ok')")).output == "\ufffd\ufffd ok"


def test_standard_input_is_empty() -> None:
    assert run(python("import sys; print(repr(sys.stdin.read()))")).output == "''\n"


def test_the_agents_own_environment_stays_with_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "a secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")

    outcome = run(python("import os; print(sorted(os.environ))"))

    assert "'PATH'" in outcome.output
    assert not any(name in outcome.output for name in ("API_KEY", "LD_PRELOAD", "PYTHONPATH"))


def test_no_open_file_of_the_agent_is_passed_on(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w", encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003 - the standard library takes it by position

        outcome = run(python(f"import os; print(os.path.exists('/proc/self/fd/{file.fileno()}'))"))

    assert outcome.output == "False\n"


FAMILY = """
import os, subprocess, sys, time
grandchild = "import os, time; open({path!r} + '/grandchild', 'w').write(str(os.getpid())); time.sleep(600)"
child = (
    "import os, subprocess, sys, time; open({path!r} + '/child', 'w').write(str(os.getpid()));"
    "subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"
)
orphan = "import os, time; open({path!r} + '/orphan', 'w').write(str(os.getpid())); os.setpgid(0, 0); time.sleep(600)"
subprocess.Popen([sys.executable, '-c', child, grandchild])
subprocess.Popen(['/bin/sh', '-c', sys.executable + ' -c "$0" &', orphan])
time.sleep(600)
"""


def test_at_the_time_limit_the_whole_tree_is_killed(tmp_path: Path) -> None:
    outcome = run(python(FAMILY.format(path=str(tmp_path)), timeout_s=2.5))

    pids = {path.name: int(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert outcome.timed_out
    assert outcome.exit_code is None
    assert sorted(pids) == ["child", "grandchild", "orphan"]
    assert [name for name, pid in pids.items() if not wait_until_gone(pid)] == []
    assert outcome.duration_ms < 6000


def test_a_program_that_ignores_sigterm_is_killed_all_the_same() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )

    outcome = run(python(code, timeout_s=1.5))

    assert outcome.timed_out
    assert outcome.output == "up\n"


DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
open({path!r}, 'w').write(str(os.getpid()))
while True:
    print('still here', flush=True)
    time.sleep(0.05)
"""


def test_a_service_left_running_neither_holds_up_the_run_nor_dies_of_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    outcome = run(python(DAEMON.format(path=str(pid_file)), timeout_s=10))

    deadline = time.monotonic() + 5
    while not (pid_file.exists() and pid_file.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
    service = psutil.Process(int(pid_file.read_text(encoding="utf-8")))
    try:
        with pytest.raises(psutil.TimeoutExpired):
            service.wait(0.5)  # It has printed into the closed run ten times by now, and lives.
    finally:
        service.kill()
    assert outcome.exit_code == 0
    assert outcome.duration_ms < 5000


def test_a_process_starts_within_ten_milliseconds(tmp_path: Path) -> None:
    run(make_run("/bin/true"))

    delays_ms = sorted(_delay_to_exec_ms(tmp_path) for _ in range(9))

    assert delays_ms[4] < 50


def _delay_to_exec_ms(folder: Path) -> float:
    before = time.time()
    run(make_run("/bin/mkdir", str(folder / "made")))
    made_at = (folder / "made").stat().st_mtime
    (folder / "made").rmdir()
    return (made_at - before) * 1000


def test_what_a_command_left_running_is_found_by_the_commands_id() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"

    run(Run((PYTHON, "-c", code), 20, 100, command_id="c-17"))
    found = runner.leftovers("c-17")
    of_another = runner.leftovers("c-1")
    for pid in found:
        psutil.Process(pid).kill()
    gone = [wait_until_gone(pid) for pid in found]

    assert (len(found), of_another, gone) == (1, [], [True])
    assert runner.leftovers("c-17") == []


def test_who_wants_to_know_is_told_when_the_process_runs_and_the_process_does_not_wait(tmp_path: Path) -> None:
    mark, seen = tmp_path / "mark", []

    def look() -> None:
        deadline = time.monotonic() + 20
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        seen.append(mark.exists())

    outcome = run(replace(python(f"open({str(mark)!r}, 'w').close()"), when_started=look))

    assert seen == [True]
    assert outcome.exit_code == 0


def test_nobody_is_told_of_a_process_that_could_not_be_started(tmp_path: Path) -> None:
    told: list[str] = []

    outcome = run(replace(make_run(str(tmp_path / "missing")), when_started=lambda: told.append("told")))

    assert (outcome.exit_code, told) == (None, [])
