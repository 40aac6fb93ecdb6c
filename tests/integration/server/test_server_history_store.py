"""History in the database: what is stored, joined, read and forgotten, on both databases."""

from collections.abc import Sequence

import pytest

from builders import PC, agent, history_sample
from fakes import START
from reco3.server.domain.history import (
    MINUTE_S,
    QUARTER_S,
    RAW_S,
    TWO_HOURS_S,
    ClosedWindow,
    bucketed,
    windows_of,
)
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import Points, point_text, read_points, unpack_points
from reco3.server.domain.rollups import Rollup, unpack_rollups
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

START_S = int(START.timestamp())
DAY_S = 86_400


def points(samples: Sequence[Sample]) -> Points:
    return read_points("".join(point_text(sample, is_restart=False) for sample in samples))


def beats(seconds: int, *, step_s: int = 10, agent_id: str = PC) -> list[Sample]:
    """Heartbeats of so many seconds whose numbers vary."""
    return [
        history_sample(
            second,
            agent_id=agent_id,
            cpu_percent=None if second % 70 == 0 else second % 100 + 0.25,
            net_bytes_sent=10**12 + second * second,
            net_bytes_recv=second * 3,
        )
        for second in range(0, seconds, step_s)
    ]


def windows(samples: Sequence[Sample], agent_id: str = PC) -> tuple[ClosedWindow, ...]:
    return windows_of(agent_id, points(samples))


async def rollups(store: Database, resolution_s: int, *, start_s: int = 0, end_s: int = 2**33) -> list[Rollup]:
    return await store.read(lambda tx: tx.history.rollups(PC, resolution_s=resolution_s, start_s=start_s, end_s=end_s))


async def chunks(store: Database, resolution_s: int, *, start_s: int = 0, end_s: int = 2**33) -> list[bytes]:
    return await store.read(lambda tx: tx.history.chunks(PC, resolution_s=resolution_s, start_s=start_s, end_s=end_s))


async def test_closed_windows_come_out_in_every_resolution(store: Database) -> None:
    samples = beats(3 * 3_600)

    await store.write(lambda tx: tx.history.add(windows(samples)))

    expected = points(samples)
    raw = [row for pack in await chunks(store, RAW_S) for row in unpack_points(pack)]
    minutes = [minute for pack in await chunks(store, MINUTE_S) for minute in unpack_rollups(pack)]
    assert raw == expected.rows()
    assert minutes == bucketed(expected, 60)
    assert await rollups(store, QUARTER_S) == bucketed(expected, 900)
    assert await rollups(store, TWO_HOURS_S) == bucketed(expected, 7_200)


async def test_windows_that_arrive_one_by_one_merge_to_the_same(store: Database) -> None:
    samples = beats(3_600)

    for window in windows(samples):
        await store.write(lambda tx, window=window: tx.history.add([window]))  # type: ignore[misc]

    assert await rollups(store, QUARTER_S) == bucketed(points(samples), 900)
    assert await rollups(store, TWO_HOURS_S) == bucketed(points(samples), 7_200)


async def test_a_late_window_is_joined_to_what_is_there(store: Database) -> None:
    early, late = beats(300, step_s=20), beats(300, step_s=15)
    first, second = windows(early), windows(late)

    await store.write(lambda tx: tx.history.add(first))
    await store.write(lambda tx: tx.history.add(second))

    (pack,) = await chunks(store, RAW_S)
    assert unpack_points(pack) == points(early).rows() + points(late).rows()
    (rollup,) = await rollups(store, QUARTER_S)
    assert rollup.count == len(early) + len(late)


async def test_a_share_that_came_only_later_has_its_extremes(store: Database) -> None:
    blank = [history_sample(0, disk_percent=None)]
    known = [history_sample(300, disk_percent=5.0), history_sample(310, disk_percent=7.0)]

    for samples in (blank, known, [history_sample(600, disk_percent=None)]):
        closed = windows(samples)
        await store.write(lambda tx, closed=closed: tx.history.add(closed))  # type: ignore[misc]

    (rollup,) = await rollups(store, QUARTER_S)
    assert (rollup.disk.count, rollup.disk.lowest, rollup.disk.highest, rollup.count) == (2, 500, 700, 4)


async def test_a_hundred_pcs_are_stored_at_once(store: Database) -> None:
    names = [f"pc-{n:03d}" for n in range(100)]
    closed = [window for name in names for window in windows(beats(900, agent_id=name), name)]

    await store.write(lambda tx: tx.history.add(closed))

    found = await store.read(
        lambda tx: [tx.history.rollups(name, resolution_s=QUARTER_S, start_s=0, end_s=2**33) for name in names]
    )
    assert [[rollup.count for rollup in one] for one in found] == [[90]] * 100


async def test_a_stretch_of_time_gives_whatever_touches_it(store: Database) -> None:
    await store.write(lambda tx: tx.history.add(windows(beats(3_600))))

    packs = await chunks(store, RAW_S, start_s=START_S + 299, end_s=START_S + 601)
    quarters = await rollups(store, QUARTER_S, start_s=START_S + 900, end_s=START_S + 1_800)

    assert [unpack_points(pack)[0][0] // 1000 - START_S for pack in packs] == [0, 300, 600]
    assert [rollup.at_ms // 1000 - START_S for rollup in quarters] == [900]


@pytest.mark.parametrize(
    ("resolution_s", "length_s"), [(RAW_S, 300), (MINUTE_S, 300), (QUARTER_S, 900), (TWO_HOURS_S, 7_200)]
)
async def test_only_rows_that_ended_in_time_are_forgotten(store: Database, resolution_s: int, length_s: int) -> None:
    other = windows(beats(7_200, agent_id="pc-002"), "pc-002")
    await store.write(lambda tx: tx.history.add([*windows(beats(2 * 7_200)), *other]))
    end_s = START_S + length_s

    before_s = [end_s - 1, end_s, end_s]
    deleted = [
        await store.write(lambda tx, at_s=at_s: tx.history.prune([PC], resolution_s=resolution_s, before_s=at_s))  # type: ignore[misc]
        for at_s in before_s
    ]

    assert deleted == [0, 1, 0]
    assert await store.write(lambda tx: tx.history.prune(["pc-002"], resolution_s=resolution_s, before_s=2**33)) > 0


async def test_pcs_are_walked_through_in_the_order_of_their_ids(store: Database) -> None:
    await store.write(lambda tx: tx.agents.put([agent(name) for name in "dbca"]))

    first = await store.read(lambda tx: tx.history.agent_ids(after="", limit=3))
    rest = await store.read(lambda tx: tx.history.agent_ids(after=first[-1], limit=3))

    assert (first, rest) == (["a", "b", "c"], ["d"])
