"""The grouped-commit writer: one transaction for all that waits, and no item's failure is its neighbour's."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import URL

from builders import agent
from fakes import START
from reco3.server.domain.audit import AuditEvent
from reco3.server.domain.errors import Busy, NotFound
from reco3.server.store import writer
from reco3.server.store.database import Database
from reco3.server.store.transaction import TableTransaction

pytestmark = pytest.mark.anyio

GATE_DEADLINE_S = 10


def adding(name: str) -> Callable[[TableTransaction], None]:
    return lambda tx: tx.audit.add([AuditEvent(START, "system:test", name)])


def add_many(tx: TableTransaction, names: Sequence[str]) -> Sequence[str]:
    tx.audit.add([AuditEvent(START, "system:test", name) for name in names])
    return list(names)


async def stored_names(store: Database) -> list[str]:
    newest = await store.read(lambda tx: tx.audit.newest(event_type=None, actor=None, before_id=None, limit=5_000))
    return [recorded.event.event_type for recorded in reversed(newest)]


@contextlib.asynccontextmanager
async def writer_held(store: Database) -> AsyncIterator[None]:
    """Keep the writer busy, so that everything written inside the block waits and goes into one group."""
    begun, gate = threading.Event(), threading.Event()

    def hold(_tx: TableTransaction) -> None:
        begun.set()
        gate.wait(GATE_DEADLINE_S)

    holding = asyncio.ensure_future(store.write(hold))
    await asyncio.to_thread(begun.wait, GATE_DEADLINE_S)
    try:
        yield
        await asyncio.sleep(0)  # let the tasks of the block reach the queue
    finally:
        gate.set()
        await holding


def counted_commits(store: Database) -> list[None]:
    commits: list[None] = []
    event.listen(store._write_engine, "commit", lambda _connection: commits.append(None))
    return commits


async def started(*writes: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    return tasks


async def test_writes_that_wait_together_share_one_commit(store: Database) -> None:
    commits = counted_commits(store)

    async with writer_held(store):
        tasks = await started(*(store.write(adding(f"n{n}")) for n in range(200)))
    await asyncio.gather(*tasks)

    assert len(commits) == 2
    assert len(await stored_names(store)) == 200


async def test_items_for_the_same_work_arrive_as_one_call_and_each_gets_its_own_result(store: Database) -> None:
    calls: list[int] = []

    def work(tx: TableTransaction, names: Sequence[str]) -> Sequence[str]:
        calls.append(len(names))
        return add_many(tx, names)

    async with writer_held(store):
        tasks = await started(*(store.write_grouped(work, f"n{n}") for n in range(50)))
    results = await asyncio.gather(*tasks)

    assert results == [f"n{n}" for n in range(50)]
    assert calls == [50]


def posted(store: Database, *names: str) -> list[asyncio.Future[Any]]:
    """Writes that may wait for company, in this order."""
    answers = [asyncio.get_running_loop().create_future() for _ in names]
    for name, answer in zip(names, answers, strict=True):
        store.post_grouped(add_many, name, told=partial(_settle, answer))
    return answers


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


@pytest.fixture
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may wait after a transaction waits beyond the end of any test, if nothing ends it sooner."""
    monkeypatch.setattr(writer, "PATIENCE_S", 3600.0)


@pytest.mark.usefixtures("endless_patience")
async def test_what_may_wait_is_written_once_enough_are_together(store: Database) -> None:
    await store.write(adding("before"))
    commits = counted_commits(store)

    async with asyncio.timeout(GATE_DEADLINE_S):
        await asyncio.gather(*posted(store, *(f"n{n}" for n in range(writer.COMPANY))))

    assert len(commits) == 1


@pytest.mark.usefixtures("endless_patience")
async def test_enough_are_never_left_waiting_however_they_meet_the_writer(store: Database) -> None:
    for turn in range(100):
        await store.write(adding(f"before-{turn}"))
        # The first wakes the writer, who counts who is there while the others still come.
        async with asyncio.timeout(GATE_DEADLINE_S):
            await asyncio.gather(*posted(store, *(f"{turn}-{n}" for n in range(writer.COMPANY))))

    assert len(await stored_names(store)) == 100 * (1 + writer.COMPANY)


@pytest.mark.usefixtures("endless_patience")
async def test_what_may_not_wait_takes_along_what_may(store: Database) -> None:
    await store.write(adding("before"))
    commits = counted_commits(store)
    patient = posted(store, "patient-1", "patient-2")

    async with asyncio.timeout(GATE_DEADLINE_S):
        await store.write(adding("urgent"))
        await asyncio.gather(*patient)

    assert len(commits) == 1
    assert await stored_names(store) == ["before", "patient-1", "patient-2", "urgent"]


async def test_what_may_wait_does_not_when_nothing_was_written_just_before(store: Database) -> None:
    async with asyncio.timeout(GATE_DEADLINE_S):
        await asyncio.gather(*posted(store, "alone"))

    assert await stored_names(store) == ["alone"]


@pytest.mark.usefixtures("endless_patience")
async def test_a_stop_waits_for_no_company(store: Database) -> None:
    await store.write(adding("before"))
    [answer] = posted(store, "last")

    await asyncio.to_thread(store._writer.close)

    async with asyncio.timeout(GATE_DEADLINE_S):
        assert await answer == "last"


async def test_writes_keep_their_order(store: Database) -> None:
    names = [f"n{n}" for n in range(100)]

    async with writer_held(store):
        tasks = await started(*(store.write(adding(name)) for name in names))
    await asyncio.gather(*tasks)

    assert await stored_names(store) == names


async def test_one_failing_item_neither_fails_its_neighbours_nor_leaves_half_of_itself(store: Database) -> None:
    def half(tx: TableTransaction) -> None:
        adding("half")(tx)
        raise NotFound("there is no other half")

    async with writer_held(store):
        tasks = await started(store.write(adding("before")), store.write(half), store.write(adding("after")))
    before, failed, after = await asyncio.gather(*tasks, return_exceptions=True)

    assert (before, after) == (None, None)
    assert isinstance(failed, NotFound)
    assert await stored_names(store) == ["before", "after"]


async def test_a_statement_that_the_database_refuses_fails_alone(store: Database) -> None:
    def twice(tx: TableTransaction) -> None:
        adding("twice")(tx)
        tx._connection.execute(text("INSERT INTO agent_keys (agent_id) VALUES ('x')"))

    async with writer_held(store):
        tasks = await started(store.write(adding("before")), store.write(twice), store.write(adding("after")))
    before, failed, after = await asyncio.gather(*tasks, return_exceptions=True)

    assert (before, after) == (None, None)
    assert isinstance(failed, Busy)
    assert await stored_names(store) == ["before", "after"]


async def test_the_answer_comes_only_after_the_commit(store: Database) -> None:
    committed = threading.Event()
    event.listen(store._write_engine, "commit", lambda _connection: committed.set())

    await store.write(adding("durable"))

    assert committed.is_set()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_full_disk_answers_busy_and_stores_nothing(store: Database) -> None:
    await store.write(lambda tx: tx._connection.exec_driver_sql("PRAGMA max_page_count = 1").scalar())
    large = agent(payload_json="x" * 1_000_000)

    with pytest.raises(Busy, match="nothing was stored"):
        await store.write(lambda tx: (adding("lost")(tx), tx.agents.put([large])))

    assert await stored_names(store) == []
    await store.write(lambda tx: tx._connection.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar())
    await store.write(adding("space again"))
    assert await stored_names(store) == ["space again"]


async def test_a_database_that_became_read_only_answers_busy_until_it_is_writable_again(
    store: Database, store_url: URL
) -> None:
    is_sqlite = store_url.get_backend_name() == "sqlite"
    setting = "PRAGMA query_only = " if is_sqlite else "SET default_transaction_read_only = "
    # A read-only SQLite does not even begin a writing transaction, so the switch is thrown beside the writer.
    driver = await store.write(lambda tx: tx._connection.connection.dbapi_connection)
    set_read_only(driver, f"{setting}on")

    refused = await asyncio.gather(*(store.write(adding("lost")) for _ in range(5)), return_exceptions=True)
    set_read_only(driver, f"{setting}off")
    await store.write(adding("kept"))

    assert [type(err) for err in refused] == [Busy] * 5
    assert await stored_names(store) == ["kept"]


def set_read_only(driver: Any, statement: str) -> None:
    driver.execute(statement)
    driver.commit()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_database_locked_by_another_program_is_tried_once_a_batch_not_once_an_item(
    store: Database, store_url: URL
) -> None:
    driver = await store.write(lambda tx: tx._connection.connection.dbapi_connection)
    driver.execute("PRAGMA busy_timeout = 300")
    tries: list[None] = []
    event.listen(store._write_engine, "checkout", lambda *_: tries.append(None))

    with contextlib.closing(sqlite3.connect(str(store_url.database), isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(store.write(adding("first")))
        refused = await asyncio.gather(*(store.write(adding(f"n{n}")) for n in range(20)), return_exceptions=True)
    with pytest.raises(Busy):
        await first
    await store.write(adding("kept"))

    assert [type(err) for err in refused] == [Busy] * 20
    assert len(tries) <= 4
    assert await stored_names(store) == ["kept"]


async def test_closing_writes_everything_that_was_accepted(store: Database, store_url: URL) -> None:
    names = [f"n{n}" for n in range(100)]
    tasks = await started(*(store.write(adding(name)) for name in names))

    store.close()

    assert not store._writer._thread.is_alive()
    await asyncio.gather(*tasks)
    again = Database(store_url)
    again.open()
    assert await stored_names(again) == names
    again.close()


async def test_after_closing_nothing_more_is_accepted(store: Database) -> None:
    store.close()

    with pytest.raises(Busy, match="stopping"):
        await store.write(adding("too late"))


async def test_what_the_writer_cannot_hold_is_refused_instead_of_forgotten(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 3)

    async with writer_held(store):
        tasks = await started(*(store.write(adding(f"n{n}")) for n in range(5)))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [Busy] * 2
    assert await stored_names(store) == ["n0", "n1", "n2"]


async def test_a_group_larger_than_a_batch_is_written_in_several(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 10)
    commits = counted_commits(store)

    async with writer_held(store):
        tasks = await started(*(store.write(adding(f"n{n}")) for n in range(25)))
    await asyncio.gather(*tasks)

    assert len(commits) == 1 + 3
    assert await stored_names(store) == [f"n{n}" for n in range(25)]


async def test_a_caller_that_gave_up_does_not_disturb_the_others(store: Database) -> None:
    async with writer_held(store):
        tasks = await started(store.write(adding("given up")), store.write(adding("awaited")))
        tasks[0].cancel()
    await tasks[1]

    assert await stored_names(store) == ["given up", "awaited"]
