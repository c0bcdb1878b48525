"""Listeners of sessions, and their end."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.limits.sessions import STANDING_MESSAGES
from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.sessions import lifecycle
from mcpproxy.proxy.upstream.sessions.lifecycle import SessionLifecycle
from mcpproxy.proxy.upstream.transports import event_stream
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamSession,
)
from tests.proxy.upstream.stage import ANN, FakeLink, Stage, settled
from tests.proxy.upstream.transports.test_standalone_stream import CHANGED, Stream

CONTEXT = NullContext(ClientIdentity("2025-11-25"))
LONG_TOKEN = (
    b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b}}\n\n'
    % (b"9" * 5000)
)


async def _not_opened(client: ClientIdentity) -> UpstreamSession:
    raise AssertionError(client)


class Followed:
    """The lifecycle of a session with the GET streams that a test provides, and its broadcasts."""

    def __init__(self, *streams: Any) -> None:
        self.broadcasts: list[Message] = []
        self.error: Exception | None = None
        """Raised by the handler of broadcasts."""
        self._streams = list(streams)
        endpoint: Any = SimpleNamespace(
            get=self._get,
            events=lambda response: event_stream.SseMessageReader(
                response, event_stream.new_line_rate()
            ),
            unrelated_rate=SharedRate(STANDING_MESSAGES.value, 0, lambda: 0.0),
            standalone=event_stream.StandaloneActivity(),
        )
        self.background = TaskSet()
        server = ServerDescription("2025-11-25", {})
        self.link = HttpLegacySession(endpoint, server, b"s", self.background, shared=True)
        self.lifecycle = SessionLifecycle(_not_opened, self.background, self._broadcast)

    async def _get(self, _: Any) -> Any:
        stream = self._streams.pop(0)
        if isinstance(stream, Exception):
            raise stream
        if isinstance(stream, asyncio.Event):
            await stream.wait()
        return stream

    async def _broadcast(self, message: Message, client: ClientIdentity | None) -> None:
        self.broadcasts.append(message)
        if self.error is not None:
            raise self.error

    async def listened(self) -> asyncio.Task[None]:
        """Listen until the listener ends, and return its task."""
        ready = self.lifecycle.listen(self.link, CONTEXT)
        task = self.lifecycle._listening[id(self.link)].task
        await asyncio.wait((task,), timeout=5)
        assert ready.is_set()
        return task


def _other(status: int) -> Stream:
    stream = Stream()
    stream.status = status
    return stream


async def test_a_progress_token_of_thousands_of_digits_ends_no_listener() -> None:
    followed = Followed(Stream(CHANGED, LONG_TOKEN, CHANGED))
    (await followed.listened()).result()
    assert len(followed.broadcasts) == 2


async def test_a_listener_whose_stream_has_ended_is_dropped() -> None:
    followed = Followed(Stream(CHANGED))
    await followed.listened()
    assert not followed.lifecycle.has_listener(followed.link)


async def test_a_listener_that_fails_unexpectedly_is_dropped() -> None:
    followed = Followed(Stream(CHANGED))
    followed.error = KeyError("unexpected")
    with pytest.raises(KeyError):
        (await followed.listened()).result()
    assert not followed.lifecycle.has_listener(followed.link)


async def test_a_listener_that_gets_no_response_is_dropped() -> None:
    followed = Followed(Unreachable("no"))
    await followed.listened()
    assert not followed.lifecycle.has_listener(followed.link)


async def test_a_backend_that_offers_no_stream_is_not_asked_again() -> None:
    followed = Followed(_other(405))
    await followed.listened()
    assert followed.lifecycle.has_listener(followed.link)
    followed.lifecycle.listen_again(followed.link)
    await settled()
    await followed.background.close()


async def test_a_listener_that_another_one_replaced_leaves_it_in_place() -> None:
    followed = Followed(asyncio.Event(), _other(405))
    followed.lifecycle.listen(followed.link, CONTEXT)
    await settled()
    await followed.listened()
    assert followed.lifecycle.has_listener(followed.link)


class Interrupted(FakeLink):
    """A session whose stream breaks when the test says so."""

    def __init__(self, client: ClientIdentity) -> None:
        super().__init__(client)
        self.broken = asyncio.Event()
        self.listened = 0

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        self.listened += 1
        ready()
        await self.broken.wait()
        self.broken.clear()
        raise Unreachable("the stream broke")


class Shared(Stage):
    """A pool whose sessions can be interrupted."""

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        link = Interrupted(client)
        self.opened.append(link)
        return link


@pytest.mark.parametrize("by_task", [True, False])
async def test_the_next_request_of_a_shared_session_opens_its_stream_again(
    by_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Shared("PerClient")
    link = await stage.used(ANN)
    monkeypatch.setattr(lifecycle, "REOPENED_AFTER", 0.0)
    for times in (2, 3):
        link.broken.set()
        await settled()
        if by_task:
            assert await stage.used(ANN) is link
        else:
            lease = stage.sessions.try_acquire(ANN)
            assert lease is not None
            assert lease.link is link
            stage.sessions.release(lease)
        await settled()
        assert link.listened == times
    await stage.sessions.close()
    await stage.background.close()


async def test_a_stream_that_ends_at_once_is_not_requested_for_each_call() -> None:
    stage = Shared("PerClient")
    link = await stage.used(ANN)
    link.broken.set()
    await settled()
    for _ in range(3):
        await stage.used(ANN)
        await settled()
    assert link.listened == 1
    await stage.sessions.close()
    await stage.background.close()


async def test_the_end_of_an_earlier_listener_does_not_stop_the_one_that_replaced_it() -> None:
    waiting = [asyncio.Event(), asyncio.Event()]
    followed = Followed(*waiting)
    first = followed.lifecycle.listen(followed.link, CONTEXT)
    second = followed.lifecycle.listen(followed.link, CONTEXT)
    followed.lifecycle.stop_listening(followed.link, first)
    assert followed.lifecycle.has_listener(followed.link)
    followed.lifecycle.stop_listening(followed.link, second)
    assert not followed.lifecycle.has_listener(followed.link)
    await settled()
