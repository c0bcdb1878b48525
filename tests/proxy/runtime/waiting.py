"""Waiting for a condition, with a bound."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")
BOUND = 15.0
STEP = 0.02


async def eventually(
    look: Callable[[], Awaitable[Found | None]], what: str, step: float = STEP
) -> Found:
    """The first thing found that is true; fails after 15 seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BOUND
    while loop.time() < end:
        result = await look()
        if result:
            return result
        await asyncio.sleep(step)
    raise AssertionError(f"in vain waited for {what}")


async def soon(look: Callable[[], object], what: str, step: float = STEP) -> None:
    """`eventually` for a condition that needs no waiting itself."""

    async def looked() -> bool:
        return bool(look())

    await eventually(looked, what, step)
