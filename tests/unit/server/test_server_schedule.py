"""The recurring tasks: one that fails is tried again, and all of them end with the server."""

import asyncio
import logging

import pytest

from reco3.server.tasks import schedule
from reco3.server.tasks.schedule import Task, every, running

pytestmark = pytest.mark.anyio

DEADLINE_S = 5


async def test_a_task_runs_again_after_the_pause_it_asked_for() -> None:
    runs = 0
    enough = asyncio.Event()

    async def run() -> float:
        nonlocal runs
        runs += 1
        if runs == 3:
            enough.set()
        return 0.0

    async with running([Task("counted", run)]):
        await asyncio.wait_for(enough.wait(), DEADLINE_S)

    assert runs >= 3


async def test_a_task_that_fails_is_logged_with_its_traceback_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schedule, "RETRY_S", 0.0)
    outcomes = iter([RuntimeError("the first time fails")])
    recovered = asyncio.Event()

    async def run() -> None:
        for failure in outcomes:
            raise failure
        recovered.set()

    with caplog.at_level(logging.ERROR):
        async with running([Task("shaky", every(60, run))]):
            await asyncio.wait_for(recovered.wait(), DEADLINE_S)

    assert "task_failed name=shaky" in caplog.text
    assert "the first time fails" in caplog.text


async def test_leaving_ends_every_task() -> None:
    begun = asyncio.Event()

    async def run() -> float:
        begun.set()
        return 3600.0

    async with running([Task("long", run)]):
        await asyncio.wait_for(begun.wait(), DEADLINE_S)

    assert "long" not in {task.get_name() for task in asyncio.all_tasks()}
