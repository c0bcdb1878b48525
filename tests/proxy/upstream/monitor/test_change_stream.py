"""The change stream of one backend, reopened for the resources that clients subscribe to."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.monitor import change_stream as listening_module
from mcpproxy.proxy.upstream.monitor.change_stream import ChangeStream, end
from mcpproxy.proxy.upstream.transports.session import OnMessage, UpstreamSession
from tests.proxy.runtime.waiting import soon


class Streams:
    """A session whose streams are established when the test says so."""

    alive = True

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        """The resources of each stream that was opened."""
        self.open: list[Callable[[], None]] = []
        """Establishes each open stream."""
        self.broken = asyncio.Event()
        """Breaks the open stream."""

    def has_been_asked(self, times: int) -> bool:
        """True if this many streams were requested."""
        return len(self.asked) == times

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        self.asked.append(list(uris))
        self.open.append(ready)
        try:
            await self.broken.wait()
        finally:
            self.open.remove(ready)
        self.broken.clear()
        raise Unreachable("the stream broke")


class Stage:
    """A change stream that listens to such a session."""

    def __init__(self) -> None:
        self.link = Streams()
        self.uris: list[str] = []
        session_context = NullContext(ClientIdentity(LATEST_MODERN))
        self.listening = ChangeStream(
            "b", session_context, _ignored, lambda: self.uris, lambda: None, lambda: None
        )

    async def begun(self) -> None:
        """Listen, with an established stream."""
        await _begun(self.listening, self.link)

    async def wanted(self, *uris: str) -> None:
        """Subscribe clients to these resources."""
        for uri in uris:
            self.uris.append(uri)
            self.listening.renew()

    async def close(self) -> None:
        """Cancel all streams."""
        end(self.listening.leave())
        await soon(lambda: not self.link.open, "the streams to end")


async def _begun(stream: ChangeStream, link: Streams) -> None:
    """Begin to listen; return once the stream is open and lists may be fetched."""
    begin = asyncio.create_task(stream.begin(cast("UpstreamSession", link)))
    await soon(lambda: len(link.open) == 1, "the first stream")
    assert not begin.done()
    link.open[0]()
    await begin


async def _ignored(message: Message) -> None:
    return None


@pytest.fixture
async def stage() -> Any:
    begun_stage = Stage()
    await begun_stage.begun()
    yield begun_stage
    await begun_stage.close()


async def test_simultaneous_subscriptions_share_one_stream(stage: Stage) -> None:
    await stage.wanted(*(f"x://{number}" for number in range(200)))
    await soon(lambda: len(stage.link.asked) > 1, "another stream")
    assert [len(uris) for uris in stage.link.asked] == [0, 200]
    stage.link.open[-1]()
    await soon(lambda: len(stage.link.open) == 1, "the stream before to end")


async def test_a_backend_with_unresponsive_streams_gets_at_most_two(stage: Stage) -> None:
    for number in range(20):
        await stage.wanted(f"x://{number}")
        await soon(functools.partial(stage.link.has_been_asked, number + 2), "another stream")
        await soon(lambda: len(stage.link.open) <= 2, "the one that is of no use to end")
    stage.link.open[-1]()
    await soon(lambda: len(stage.link.open) == 1, "the others to end")


async def test_lists_are_fetched_again_once_a_broken_stream_is_open_again() -> None:
    link, resumed = Streams(), asyncio.Event()
    session, context = cast("UpstreamSession", link), NullContext(ClientIdentity(LATEST_MODERN))
    callbacks: Any = _ignored, list, lambda: None, lambda: None, resumed.set
    stream = ChangeStream("b", context, *callbacks)
    await _begun(stream, link)
    assert not resumed.is_set()
    link.broken.set()
    await soon(lambda: stream.missing, "the end of the stream")
    stream.keep(session, patient=False)
    await soon(lambda: len(link.open) == 1, "another stream")
    assert not resumed.is_set()
    link.open[0]()
    assert resumed.is_set()
    end(stream.leave())


async def test_lists_fetched_before_the_first_stream_opened_are_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening_module, "BEGINS_WITHIN", 0.0)
    link, resumed = Streams(), asyncio.Event()
    context = NullContext(ClientIdentity(LATEST_MODERN))
    callbacks: Any = _ignored, list, lambda: None, lambda: None, resumed.set
    stream = ChangeStream("b", context, *callbacks)
    await stream.begin(cast("UpstreamSession", link))
    await soon(lambda: len(link.open) == 1, "the first stream")
    link.open[0]()
    assert resumed.is_set()
    end(stream.leave())


async def test_a_backend_that_refuses_the_stream_delays_no_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening_module, "BEGINS_WITHIN", 3600.0)
    link = Streams()
    link.broken.set()
    context = NullContext(ClientIdentity(LATEST_MODERN))
    stream = ChangeStream("b", context, _ignored, list, lambda: None, lambda: None)
    async with asyncio.timeout(10):
        await stream.begin(cast("UpstreamSession", link))
    assert stream.missing
    end(stream.leave())


async def test_large_subscriptions_are_sent_again_after_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening_module, "LONGEST_RENEWAL", 3600.0)
    monkeypatch.setattr(listening_module, "RENEWAL_RATE", 1)
    await stage.wanted("x://" + "u" * 10_000)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(stage.link.asked) == 1
