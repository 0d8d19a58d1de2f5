"""How tasks of the event loop are ended: none is left behind, and no error in one of them is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from pytest_serve_chaos import clock


async def wait_or_cancel(tasks: Set[asyncio.Task[None]], deadline: float) -> None:
    """Waits until all tasks have ended, and ends those that are left at `deadline` (monotonic seconds)."""
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, deadline - clock.now()))
    await cancel_and_wait(tasks)


async def cancel_and_wait(tasks: Set[asyncio.Task[None]]) -> None:
    """Cancels the tasks that still run, waits for all, and raises the first error of any."""
    for task in tasks:
        task.cancel()
    for ending in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ending, Exception):
            raise ending
