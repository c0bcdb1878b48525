"""Spare processes, and their number."""

import asyncio
from typing import Any

import pytest

from mcpproxy.limits.backends import SPARE_PROGRAMS
from mcpproxy.proxy.core.errors import ProcessFailed
from mcpproxy.proxy.upstream.connect import spare_processes as module
from mcpproxy.proxy.upstream.connect.spare_processes import SpareProcesses
from mcpproxy.proxy.upstream.transports.session import TaskSet
from tests.proxy.upstream.stage import settled


class Program:
    """A process without any communication."""

    def __init__(self) -> None:
        self.ended = False
        self.closed = False

    async def close(self) -> None:
        self.ended = self.closed = True


class Stage:
    """Processes, and the spare ones among them."""

    def __init__(self) -> None:
        self.started: list[Program] = []
        self.error: Exception | None = None
        self.background = TaskSet()
        self.spares = SpareProcesses(self._spawn, self.background)

    async def _spawn(self) -> Any:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.started.append(Program())
        return self.started[-1]

    async def taken(self) -> Any:
        """Return a process from the pool once the next ones are ready."""
        program = await self.spares.take()
        await settled()
        return program

    @property
    def living(self) -> int:
        """Processes that have not exited."""
        return sum(not program.ended for program in self.started)


async def test_the_second_program_was_started_before_it_was_needed() -> None:
    stage = Stage()
    assert await stage.taken() is stage.started[0]
    assert len(stage.started) == 2
    assert await stage.taken() is stage.started[1]


async def test_programs_that_wait_are_few_however_many_are_taken() -> None:
    stage = Stage()
    taken = [await stage.taken() for _ in range(20)]
    assert len({id(program) for program in taken}) == 20
    assert stage.living == 20 + SPARE_PROGRAMS.value


async def test_one_program_waits_once_there_is_little_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    for program in [await stage.taken() for _ in range(6)]:
        await program.close()
    stage.spares.reap()
    await settled()
    assert stage.living == SPARE_PROGRAMS.value
    monkeypatch.setattr(module, "BUSY", -1.0)
    stage.spares.reap()
    await settled()
    assert stage.living == 1


async def test_a_program_that_ended_while_it_waited_is_not_used_nor_replaced_at_once() -> None:
    stage = Stage()
    await stage.taken()
    waiting = stage.started[1]
    waiting.ended = True
    program = await stage.taken()
    assert program is stage.started[2]
    assert waiting.closed
    assert len(stage.started) == 3
    await stage.taken()
    assert len(stage.started) > 4


async def test_programs_with_earlier_values_are_ended_also_those_that_begin() -> None:
    stage = Stage()
    taking: Any = await stage.spares.take()
    first: Program = taking
    stage.spares.renew()
    await settled()
    assert [program.closed for program in stage.started] == [False, True]
    assert not first.closed
    await stage.taken()
    stage.spares.renew()
    await settled()
    assert stage.living == 2


async def test_no_program_is_left_at_the_end() -> None:
    stage = Stage()
    first = await stage.taken()
    await stage.spares.close()
    await first.close()
    assert stage.living == 0


async def test_a_program_that_cannot_be_started_fails_the_request_alone() -> None:
    stage = Stage()
    stage.error = ProcessFailed("no")
    with pytest.raises(ProcessFailed):
        await stage.taken()
    stage.error = None
    await stage.taken()
    stage.error = ProcessFailed("no")
    assert await stage.taken() is stage.started[1]
    stage.error = None
    assert await stage.taken() is stage.started[2]
