"""Sessions that callbacks open in advance, in the pool of a backend."""

import asyncio
from collections.abc import Awaitable, Callable

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import OnOpened, UpstreamSession
from tests.proxy.upstream.stage import BO, FakeLink, Mode, Stage, settled


class CallbackStage(Stage):
    """A stage whose sessions can be opened by callbacks, which the test calls."""

    def pool(
        self, mode: Mode, warm_each: int, declared: bool = False, idle: float = 3600.0
    ) -> SessionPool:
        self.begun: list[OnOpened] = []
        self.is_free = True
        return super().pool(mode, warm_each, declared, idle)

    def begin_open(self, client: ClientIdentity, done: OnOpened) -> bool:
        if self.is_free:
            self.begun.append(done)
        return self.is_free

    def complete(self) -> UpstreamSession:
        """Complete the oldest opening."""
        link = FakeLink(BO, self.stateful)
        self.opened.append(link)
        self.begun.pop(0)(link, None)
        return link

    def detach(self, rest: Callable[[], Awaitable[UpstreamSession]]) -> None:
        """Let a task continue the oldest opening."""
        self.begun.pop(0)(None, rest)

    @property
    def held(self) -> int:
        """Sessions that count as open or being opened."""
        return self.sessions.upstream.count


async def _stage() -> CallbackStage:
    """A stage after one call, with two openings that have begun."""
    stage = CallbackStage()
    await stage.used(BO)
    await settled()
    assert len(stage.begun) == 2
    return stage


async def test_a_call_uses_a_session_that_callbacks_have_opened() -> None:
    stage = await _stage()
    link = stage.complete()
    await settled()
    assert await stage.used(BO) is link
    assert stage.sessions.upstream.openings == 2


async def test_a_task_opens_sessions_that_callbacks_cannot_begin() -> None:
    stage = CallbackStage()
    stage.is_free = False
    await stage.used(BO)
    await settled()
    assert (len(stage.opened), stage.open_now, stage.held) == (3, 2, 2)


async def test_a_task_finishes_an_opening() -> None:
    stage = await _stage()
    link = FakeLink(BO)

    async def rest() -> UpstreamSession:
        return link

    stage.detach(rest)
    await settled()
    assert await stage.used(BO) is link


async def test_an_opening_that_fails_holds_no_session_and_delays_the_next_one() -> None:
    stage = await _stage()

    async def rest() -> UpstreamSession:
        raise Unreachable("gone")

    stage.detach(rest)
    stage.detach(rest)
    await settled()
    assert stage.held == 0
    await stage.used(BO)
    await settled()
    assert stage.begun == [], "the backend is not asked again at once"


async def test_a_backend_that_stops_keeping_sessions_is_used_without_them() -> None:
    stage = await _stage()
    stage.stateful = False
    stage.complete()
    await settled()
    assert (await stage.used(BO)).stateful is False
    assert stage.held == 1, "the other opening"


# The end of the pool


async def test_the_end_of_the_pool_waits_for_openings_and_ends_their_sessions() -> None:
    stage = await _stage()
    await stage.sessions.close()
    closing = asyncio.create_task(stage.background.close(grace=5.0))
    await settled()
    assert not closing.done()
    links = [stage.complete(), stage.complete()]
    await asyncio.wait_for(closing, 1.0)
    assert [link.closed.is_set() for link in links if isinstance(link, FakeLink)] == [True, True]
    assert stage.held == 0


async def test_an_opening_that_outlasts_the_pool_starts_no_task() -> None:
    stage = await _stage()
    await stage.sessions.close()
    await stage.background.close()

    async def rest() -> UpstreamSession:
        raise AssertionError

    before = asyncio.all_tasks()
    stage.detach(rest)
    stage.detach(rest)
    assert asyncio.all_tasks() == before
    assert stage.held == 0
