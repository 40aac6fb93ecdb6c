"""History from heartbeat to answer: nothing is lost between windows, gaps and restarts show, old things go."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from builders import PC, Rig, rig, taken_heartbeat
from fakes import START
from reco3.server.domain.errors import BadInput, NotFound
from reco3.server.domain.history import Keeping
from reco3.server.services.history import HistoryPage, Question
from reco3.server.services.ports import Transaction
from reco3.server.services.retention import Retention, RetentionService
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

STARTED_MS = 1_890_000_000_000


@pytest.fixture
def services(store: Database) -> Rig:
    return rig(store)


async def beat(services: Rig, seconds: int, **metrics: object) -> None:
    """A heartbeat so many seconds after the start."""
    services.clock.now = at(seconds)
    values = {"net_bytes_sent": 5_000_000 + seconds * 100, "net_bytes_recv": seconds * 2_000, **metrics}
    await services.agents.record_heartbeat(taken_heartbeat(at=at(seconds), **values))


async def beats(services: Rig, first_s: int, last_s: int, **metrics: object) -> None:
    for seconds in range(first_s, last_s, 10):
        await beat(services, seconds, **metrics)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def asked(services: Rig, start_s: float, end_s: float, max_points: int = 300) -> HistoryPage:
    return await services.history.read(Question(PC, at(start_s), at(end_s), max_points))


def seconds_of(page: HistoryPage) -> list[float]:
    return [point.rollup.at_ms / 1000 - START.timestamp() for point in page.points]


async def test_samples_of_closed_and_open_windows_are_one_row(services: Rig) -> None:
    await beats(services, 0, 720)

    page = await asked(services, 0, 720)

    assert page.step_s == 10
    assert seconds_of(page) == list(range(0, 720, 10))
    assert {point.rollup.traffic.covered_ms for point in page.points[1:]} == {10_000}
    assert {point.rollup.traffic.sent_peak for point in page.points[1:]} == {100}


@pytest.mark.parametrize(("max_points", "step_s"), [(72, 10), (36, 30), (12, 60), (10, 120), (3, 300), (1, 900)])
async def test_every_resolution_tells_the_same_story(services: Rig, max_points: int, step_s: int) -> None:
    await beats(services, 0, 700, cpu_percent=30.0)
    await beat(services, 700, cpu_percent=100.0)
    await beat(services, 710, cpu_percent=0.0)

    page = await asked(services, 0, 720, max_points)

    rollups = [point.rollup for point in page.points]
    assert page.step_s == step_s
    assert sum(rollup.count for rollup in rollups) == 72
    assert sum(rollup.traffic.sent_bytes for rollup in rollups) == 71_000
    assert sum(rollup.traffic.covered_ms for rollup in rollups) == 710_000
    assert (min(rollup.cpu.lowest for rollup in rollups), max(rollup.cpu.highest for rollup in rollups)) == (0, 10_000)


async def test_a_gap_is_a_missing_stretch_and_a_low_count_at_its_edges(services: Rig) -> None:
    await beats(services, 0, 90)
    await beats(services, 330, 600)

    page = await asked(services, 0, 600, 12)

    counts = {
        second: (point.rollup.count, point.expected)
        for second, point in zip(seconds_of(page), page.points, strict=True)
    }
    assert counts[60] == (3, 6)
    assert counts[300] == (3, 6)
    assert 120 not in counts
    assert all(second < 120 or second >= 300 for second in counts)


async def test_the_stretch_that_is_not_over_expects_only_what_could_have_come(services: Rig) -> None:
    await beats(services, 0, 340)

    page = await asked(services, 0, 345, 6)

    assert [(point.rollup.count, point.expected) for point in page.points] == [(6, 6)] * 5 + [(4, 3)]


async def test_a_restart_of_the_agent_and_a_reboot_are_seen(services: Rig) -> None:
    await beats(services, 0, 100, agent_started_ms=STARTED_MS)
    await beats(services, 100, 200, agent_started_ms=STARTED_MS + 5)
    await beats(services, 200, 300, agent_started_ms=STARTED_MS + 5, net_bytes_sent=3)
    await beats(services, 300, 400)

    page = await asked(services, 0, 400, 300)

    restarts = {second: point.rollup.restarts for second, point in zip(seconds_of(page), page.points, strict=True)}
    assert {second for second, count in restarts.items() if count} == {100, 200}


async def test_a_pc_that_went_silent_half_way_has_all_it_said(services: Rig) -> None:
    await beats(services, 0, 420)
    services.clock.now = at(5 * 86_400)

    raw = await services.history.recent_samples(PC, minutes=1440)
    page = await asked(services, 0, 7_200, 300)

    assert raw == []
    assert page.step_s == 60
    assert sum(point.rollup.count for point in page.points) == 42


async def test_a_pc_that_reports_too_often_gets_no_more_points_than_asked(services: Rig) -> None:
    for seconds in range(100):
        await beat(services, seconds)

    page = await asked(services, 0, 100, 15)

    assert len(page.points) <= 15
    assert sum(point.rollup.count for point in page.points) == 100


@pytest.mark.parametrize(("start_s", "end_s"), [(10, 10), (10, 0), (-5_000 * 86_400, 0), (0, 3 * 86_400)])
async def test_a_stretch_that_cannot_be_answered_is_refused(services: Rig, start_s: int, end_s: int) -> None:
    await beat(services, 0)

    with pytest.raises(BadInput):
        await asked(services, start_s, end_s)


async def test_a_pc_that_nobody_heard_of_has_no_history(services: Rig) -> None:
    with pytest.raises(NotFound):
        await asked(services, 0, 10)


async def test_a_damaged_open_window_does_not_stop_heartbeats_nor_answers(services: Rig, store: Database) -> None:
    await beats(services, 0, 30)
    damage = "UPDATE agent_status SET open_points = 'x' || open_points || '.garbage.' WHERE agent_id = 'pc-001'"
    await store.write(lambda tx: tx._connection.exec_driver_sql(damage))

    await beats(services, 30, 900)

    page = await asked(services, 0, 900)
    assert seconds_of(page) == [0, *range(10, 900, 10)]


class Pauses:
    """Counts the pauses, and looks at the world during each."""

    def __init__(self, during: Callable[[], Awaitable[None]]) -> None:
        self.count = 0
        self._during = during

    async def __call__(self, _seconds: float) -> None:
        self.count += 1
        await self._during()


async def test_each_resolution_is_forgotten_in_its_own_time_and_heartbeats_come_between(services: Rig) -> None:
    await beats(services, 0, 2 * 3_600 + 600)
    services.clock.now = at(2 * 3_600 + 600)
    hour = timedelta(hours=1)
    between = Pauses(lambda: beat(services, 2 * 3_600 + 600))
    keeping = Keeping(raw=hour / 2, minutes=hour, quarters=2 * hour, two_hours=hour / 6)

    await RetentionService(services.outside, Retention(keeping, hour), pause=between).prune()

    oldest = await services.store.read(
        lambda tx: {
            10: len(tx.history.chunks(PC, resolution_s=10, start_s=0, end_s=2**33)),
            60: len(tx.history.chunks(PC, resolution_s=60, start_s=0, end_s=2**33)),
            900: len(tx.history.rollups(PC, resolution_s=900, start_s=0, end_s=2**33)),
            7_200: len(tx.history.rollups(PC, resolution_s=7_200, start_s=0, end_s=2**33)),
        }
    )
    assert oldest == {10: 5, 60: 11, 900: 9, 7_200: 1}
    assert between.count >= 4


async def test_no_step_forgets_more_rows_than_a_step_may(services: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reco3.server.services.retention.ROWS_PER_STEP", 5)
    windows = {"a": 0, "b": 3, "c": 4, "d": 23, "e": 1}
    for name, count in windows.items():
        for number in range(count + 1):
            await services.agents.record_heartbeat(taken_heartbeat(name, at=at(number * 600)))
    services.clock.now = at(86_400 * 2)
    counts: list[int] = []

    async def count() -> None:
        counts.append(await services.store.read(lambda tx: _rows_of(tx, windows)))

    await RetentionService(services.outside, Retention(Keeping(), timedelta(days=1)), pause=Pauses(count)).prune()

    raw = counts[: counts.index(0) + 1]
    steps = [before - after for before, after in pairwise([sum(windows.values()), *raw])]
    assert max(steps) == 5
    assert sum(steps) == sum(windows.values())


def _rows_of(tx: Transaction, agent_ids: Iterable[str]) -> int:
    whole = {"resolution_s": 10, "start_s": 0, "end_s": 2**33}
    return sum(len(tx.history.chunks(name, **whole)) for name in agent_ids)


async def test_history_is_walked_through_only_once_an_hour(services: Rig) -> None:
    await beat(services, 0)
    pauses = Pauses(lambda: beat(services, 0))
    retention = RetentionService(services.outside, Retention(Keeping(), timedelta(days=1)), pause=pauses)

    await retention.prune()
    first = pauses.count
    await retention.prune()
    again = pauses.count - first
    services.clock.advance(3_601)
    await retention.prune()

    assert (first, again) == (4, 0)
    assert pauses.count == first + 1
