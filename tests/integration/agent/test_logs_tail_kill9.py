import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from reco3.agent.logs_tail import LogTail
from reco3.agent.spool import Spool

CHILD = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from reco3.agent.logs_tail import LogTail
    from reco3.agent.spool import Spool

    class TornSpool(Spool):
        def append(self, lines, offsets):
            super().append(lines, {})
            if lines:
                os.kill(os.getpid(), signal.SIGKILL)
            super().append([], offsets)

    spool_type = TornSpool if sys.argv[3:] == ["torn"] else Spool
    spool = spool_type(Path(sys.argv[2]), max_bytes=1 << 28)
    tail = LogTail([sys.argv[1]], spool)
    for _ in sys.stdin:
        print(tail.collect(), flush=True)
""")


class Agent:
    """A real process that tails a file and can be killed at any moment."""

    def __init__(self, log: Path, spool: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(log), str(spool), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("collect\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _write(log: Path, first: int, count: int) -> int:
    with log.open("a") as file:
        file.writelines(f"ERROR line {n}\n" for n in range(first, first + count))
    return first + count


def _rotate(log: Path) -> None:
    for n in range(30, 0, -1):
        if (old := log.with_name(f"{log.name}.{n}")).exists():
            old.rename(log.with_name(f"{log.name}.{n + 1}"))
    log.rename(log.with_name(f"{log.name}.1"))


def _drain(log: Path, spool_path: Path) -> list[str]:
    spool = Spool(spool_path, max_bytes=1 << 28)
    tail = LogTail([str(log)], spool)
    while tail.collect():
        pass
    lines = []
    while (batch := spool.next_batch(500)) is not None:
        lines += [entry.msg for entry in batch.entries]
        spool.ack(batch.first_seq + len(batch.entries) - 1)
    tail.close()
    spool.close()
    return lines


def _pass_time(duration_s: float) -> None:
    until_s = time.perf_counter() + duration_s
    while time.perf_counter() < until_s:
        pass


def test_killed_at_any_moment_the_agent_loses_no_line_and_repeats_none(tmp_path: Path) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - a seed to repeat a run, no secret
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - likewise
    log, spool = tmp_path / "app.log", tmp_path / "spool.db"
    log.touch()
    _drain(log, spool)
    written = torn = 0

    for _ in range(20):
        agent = Agent(log, spool)
        written = _write(log, written, chance.randrange(1, 400))
        agent.ask()
        agent.answer()
        written = _write(log, written, chance.randrange(1, 4_000))
        if chance.random() < 0.4:
            _rotate(log)
            written = _write(log, written, chance.randrange(1, 50))
        agent.ask()
        _pass_time(chance.uniform(0, 0.02))
        agent.kill()
        torn += 1

    lines = _drain(log, spool)
    assert torn == 20
    assert Counter(lines).most_common(1)[0][1] == 1
    assert lines == [f"ERROR line {n}" for n in range(written)]


def test_with_lines_and_offsets_in_two_transactions_a_kill_between_them_repeats_lines(tmp_path: Path) -> None:
    log, spool = tmp_path / "app.log", tmp_path / "spool.db"
    log.touch()
    _drain(log, spool)
    written = _write(log, 0, 10)
    agent = Agent(log, spool, "torn")
    agent.ask()
    assert agent.answer() == ""
    agent.kill()

    lines = _drain(log, spool)

    assert len(lines) == 2 * written


@pytest.mark.parametrize("commits", [1, 7])
def test_a_number_given_out_before_a_kill_means_the_same_line_after_it(tmp_path: Path, commits: int) -> None:
    path = tmp_path / "spool.db"
    child = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        from reco3.agent.spool import Spool
        from reco3.protocol.messages import LogEntry
        spool = Spool(Path(sys.argv[1]), max_bytes=20_000)
        for n in range({commits}):
            spool.append([LogEntry(msg=f"{{n}} {{m}}", level="WARN") for m in range(300)], {{}})
        batch = spool.next_batch(50)
        print(batch.epoch, batch.first_seq, *(entry.msg for entry in batch.entries), sep="|", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)

    died = subprocess.run([sys.executable, "-c", child, str(path)], capture_output=True, text=True, check=False)
    spool = Spool(path, max_bytes=20_000)
    batch = spool.next_batch(50)
    spool.close()

    assert died.returncode == -9
    assert batch is not None
    assert died.stdout.strip().split("|") == [
        batch.epoch,
        str(batch.first_seq),
        *(entry.msg for entry in batch.entries),
    ]
