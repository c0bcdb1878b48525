"""Writes that the API server does one after the other take turns."""

import asyncio
from contextlib import AsyncExitStack

from mcpproxy.cluster.write_pace import Turns


async def test_a_turn_begins_when_an_earlier_one_ends() -> None:
    turns, begun, ends = Turns(at_once=1, patience=60), list[int](), asyncio.Event()

    async def write(number: int) -> None:
        async with turns.take():
            begun.append(number)
            await ends.wait()

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(write(number))
        for _ in range(10):
            await asyncio.sleep(0)
        assert begun == [0]
        ends.set()
    assert begun == [0, 1, 2]


async def test_writes_that_hang_delay_others_for_a_limited_time() -> None:
    turns = Turns(at_once=1, patience=0.0)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(turns.take())
    async with turns.take():
        pass
