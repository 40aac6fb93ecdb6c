import os
import sys
from collections.abc import Sequence

import pytest

from reco3.agent import metrics, platform, targets
from reco3.agent.metrics import Sighting
from reco3.agent.platform import linux
from reco3.agent.targets import Seen, Sight

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no short looks")

OWN_PID = os.getpid()
OLD, YOUNG = Sighting(100.0, 10), Sighting(200.0, 20)
MOMENT = 250.5


class ProcessTable:
    """What runs on the PC; counts how often all of it was looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: dict[int, tuple[str, float]] = {10: ("web", 100.0), 20: ("web", 200.0), OWN_PID: ("agent", 5.0)}
        self.scans = 0
        monkeypatch.setattr(platform, "list_processes", self._list)
        monkeypatch.setattr(platform, "read_process", self.processes.get)
        monkeypatch.setattr(platform, "moment", lambda: MOMENT)

    def _list(self) -> list[tuple[int, str, float]]:
        self.scans += 1
        return [(pid, name, started) for pid, (name, started) in self.processes.items()]

    def look(self, known: Sequence[Sighting] = (OLD, YOUNG), name: str = "web") -> Sight:
        return targets.look(name, "", known=known)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ProcessTable:
    return ProcessTable(monkeypatch)


def test_known_processes_that_are_still_there_need_no_look_at_all_others(table: ProcessTable) -> None:
    sight = table.look()

    assert [one.pid for one in sight.seen] == [10, 20]
    assert (table.scans, sight.short_look_at) == (0, MOMENT)


def test_a_younger_one_that_has_gone_is_left_out(table: ProcessTable) -> None:
    del table.processes[20]

    assert [one.pid for one in table.look().seen] == [10]
    assert table.scans == 0


@pytest.mark.parametrize(
    ("pid", "now"),
    [(10, None), (10, ("web", 150.0)), (10, ("another", 100.0)), (OWN_PID, ("web", 5.0)), (OWN_PID, None)],
    ids=["gone", "number given to another", "another program", "the agent goes by the name", "agent not seen"],
)
def test_when_the_oldest_is_in_doubt_all_are_looked_at(
    table: ProcessTable, pid: int, now: tuple[str, float] | None
) -> None:
    table.processes.pop(pid)
    if now is not None:
        table.processes[pid] = now

    sight = table.look()

    expected = sorted((started, one) for one, (name, started) in table.processes.items() if name == "web")
    assert [(one.started, one.pid) for one in sight.seen] == expected
    assert (table.scans, sight.short_look_at) == (1, None)


def test_without_known_processes_all_are_looked_at(table: ProcessTable) -> None:
    assert len(table.look(known=()).seen) == 2
    assert table.scans == 1


def test_where_the_clock_of_starts_may_be_set_back_all_are_looked_at(
    table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "moment", lambda: None)

    assert table.look().short_look_at is None
    assert table.scans == 1


def test_a_process_that_a_short_look_missed_is_not_taken_for_a_new_one(table: ProcessTable) -> None:
    missed, tick_of_the_look, new = Seen(30, 249.0, 0), Seen(40, 250.0, 0), Seen(50, 251.0, 0)
    before = table.look(known=(OLD,))

    now = Sight("web", (*before.seen, missed, tick_of_the_look, new), "boot")

    assert now.new_since(before) == (tick_of_the_look, new)
    assert now.left_from(before) == (*before.seen, missed)


def test_after_a_look_at_all_what_was_not_seen_is_new(table: ProcessTable) -> None:
    before = table.look(known=())

    now = Sight("web", (*before.seen, Seen(30, 150.0, 0)), "boot")

    assert [one.pid for one in now.new_since(before)] == [30]


def test_a_short_look_survives_the_journal(table: ProcessTable) -> None:
    sight = table.look()
    record = sight.record()

    assert Sight.from_record(record) == sight
    assert Sight.from_record({key: value for key, value in record.items() if key != "short_look_at"}).seen == sight.seen


def test_the_last_sample_tells_which_processes_are_known(table: ProcessTable) -> None:
    sampler = metrics.Sampler([metrics.WatchedName("web", allow_restart=True)])
    before = list(sampler.known("web"))

    sampler.sample(mode="NORMAL", apply_enabled=True)

    assert (before, list(sampler.known("web")), list(sampler.known("other"))) == ([], [OLD, YOUNG], [])
    assert table.scans == 1


def test_a_process_just_started_is_no_older_than_this_moment() -> None:
    own = linux.read_process(OWN_PID)
    moment = linux.moment()

    assert own is not None
    assert moment is not None
    assert own[1] <= moment
    assert own in [(name, started) for pid, name, started in linux.list_processes() if pid == OWN_PID]
