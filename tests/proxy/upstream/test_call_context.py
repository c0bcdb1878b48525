"""The timeout of a call that a task continues, on a loop whose clock the test turns."""

import asyncio
from typing import Any

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.task_ids import TaskIds
from mcpproxy.proxy.upstream.call_context import TimeoutContext

SECONDS = 10.0


class Turned:
    """The clock of a loop, which begins at zero and which the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop, self.now = asyncio.get_running_loop(), 0.0
        monkeypatch.setattr(self._loop, "time", lambda: self.now)

    async def turn(self, seconds: float) -> None:
        """Let time pass, and let what is due run."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


class Continued:
    """A task that waits with such a timeout."""

    def __init__(self, waited: float) -> None:
        self.context: TimeoutContext
        self.timed_out = False
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._wait(waited))

    async def _wait(self, waited: float) -> None:
        async def announced(*_: Any) -> None:
            raise AssertionError("nothing is announced")

        caller = NullContext(ClientIdentity("2025-11-25"))
        names = PrefixMapping("", TaskIds("b", None))
        self.context = TimeoutContext(caller, names, announced, SECONDS, waited)
        try:
            await self.answer
        except asyncio.CancelledError:
            self.timed_out = self.context.is_timed_out()
        finally:
            self.context.close()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Turned:
    return Turned(monkeypatch)


async def _continued(clock: Turned, waited: float = 0.0) -> Continued:
    call = Continued(waited)
    await clock.turn(0)
    return call


async def test_a_call_that_was_sent_earlier_has_only_the_rest_of_its_time(clock: Turned) -> None:
    fresh, sent = await _continued(clock), await _continued(clock, waited=6.0)
    await clock.turn(3.9)
    assert not sent.task.done()
    await clock.turn(0.1)
    assert sent.timed_out
    assert not fresh.task.done()
    await clock.turn(6)
    assert fresh.timed_out


async def test_a_call_whose_time_is_over_already_times_out_at_once(clock: Turned) -> None:
    call = await _continued(clock, waited=11.0)
    await clock.turn(0)
    assert call.timed_out


async def test_a_message_restarts_the_timeout_with_its_full_duration(clock: Turned) -> None:
    call = await _continued(clock, waited=6.0)
    await clock.turn(3)
    call.context.restart_timeout()
    await clock.turn(9.9)
    assert not call.task.done()
    await clock.turn(0.1)
    assert call.timed_out


async def test_a_paused_timeout_begins_again_with_its_full_duration(clock: Turned) -> None:
    call = await _continued(clock)
    call.context.pause_timeout()
    await clock.turn(100)
    assert not call.task.done()
    call.context.restart_timeout()
    await clock.turn(9.9)
    assert not call.task.done()
    await clock.turn(0.1)
    assert call.timed_out


async def test_a_complete_call_has_no_timeout(clock: Turned) -> None:
    call = await _continued(clock)
    call.answer.set_result(None)
    await call.task
    call.context.restart_timeout()
    await clock.turn(100)
    assert not call.timed_out
    assert call.context.ends_at == float("inf")
