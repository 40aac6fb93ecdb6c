"""Runs the recurring tasks until the server stops."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

RETRY_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A recurring piece of work; `run` returns after how many seconds it wants to run again."""

    name: str
    run: Callable[[], Awaitable[float]]


def every(period_s: float, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
    """Work with a fixed period."""

    async def run_and_plan() -> float:
        await run()
        return period_s

    return run_and_plan


@contextlib.asynccontextmanager
async def running(tasks: Sequence[Task]) -> AsyncIterator[None]:
    """Run the tasks beside whatever happens inside the `async with`."""
    jobs = [asyncio.create_task(_repeat(task), name=task.name) for task in tasks]
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _repeat(task: Task) -> None:
    while True:
        try:
            pause_s = await task.run()
        except Exception:
            log.exception("task_failed name=%s", task.name)
            pause_s = RETRY_S
        await asyncio.sleep(pause_s)
