"""The GET stream, on which a backend sends messages that belong to no request."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.limits.sessions import STANDING_MESSAGES
from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports import event_stream
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamRequest
from tests.proxy.upstream.transports.test_multiplexed import Listener

CHANGED = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'


class Stream:
    """A 200 response that ends after these chunks."""

    status = 200
    media_type = b"text/event-stream"

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = [*chunks, b""]

    async def next_chunk(self) -> bytes:
        return self._chunks.pop(0)

    def close(self) -> None:
        """Do nothing: nothing is open."""


async def test_an_endless_stream_of_notifications_yields_to_other_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            waits.append(seconds)

    async def get(_: Any) -> Stream:
        return Stream(CHANGED * 50, CHANGED * 100, CHANGED)

    monkeypatch.setattr(event_stream, "asyncio", SimpleNamespace(sleep=sleep))
    rate = event_stream.new_line_rate()
    endpoint: Any = SimpleNamespace(
        get=get,
        events=lambda response: event_stream.SseMessageReader(response, rate),
        unrelated_rate=SharedRate(STANDING_MESSAGES.value, 0, lambda: 1000.0),
        standalone=event_stream.StandaloneActivity(),
    )
    link = HttpLegacySession(endpoint, ServerDescription("2025-06-18", {}), None, TaskSet())
    received: list[Message] = []

    async def announced(message: Message) -> None:
        received.append(message)

    await asyncio.wait_for(link.listen(Listener(), announced, lambda: None), 5)
    assert len(received) == 151
    # The clock stands still, so each wait follows all earlier ones, on whichever stream.
    assert waits == pytest.approx([n / STANDING_MESSAGES.value for n in (50, 100, 150, 151)])


def _sending_session(get: Callable[[Any], Awaitable[Stream]]) -> HttpLegacySession:
    """A session that sends every request at once, with the GET streams of `get`."""
    endpoint: Any = SimpleNamespace(
        by_client=False,
        get=get,
        send=lambda body, headers, done: object(),
        events=lambda response: event_stream.SseMessageReader(
            response, event_stream.new_line_rate()
        ),
        unrelated_rate=SharedRate(STANDING_MESSAGES.value, 0, lambda: 1000.0),
        standalone=event_stream.StandaloneActivity(),
    )
    return HttpLegacySession(endpoint, ServerDescription("2025-06-18", {}), b"s", TaskSet())


async def test_a_message_during_a_call_never_goes_to_a_later_request_of_the_proxy() -> None:
    async def get(_: Any) -> Stream:
        return Stream(b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n')

    link = _sending_session(get)
    caller, lister = Listener(), Listener()
    for listener, method in ((caller, "tools/call"), (lister, "tools/list")):
        request = UpstreamRequest(Raw(b"1"), method, {}, repeatable=listener is lister)
        exchange = link.send(request, listener.client, lambda: None, lambda: None)
        assert exchange is not None
        exchange.caller = listener

    async def announced(message: Message) -> None:
        raise AssertionError(message)

    await link.listen(Listener(), announced, lambda: None)
    assert (caller.received, lister.received) == (["notifications/message"], [])


@pytest.mark.parametrize("broken", [False, True])
async def test_a_call_with_progress_waits_for_a_stream_again_once_the_stream_has_ended(
    broken: bool,
) -> None:
    opened = asyncio.Event()

    async def get(_: Any) -> Stream:
        await opened.wait()
        if broken:
            raise Unreachable("no stream")
        return Stream(CHANGED)

    link = _sending_session(get)
    request = UpstreamRequest(Raw(b"1"), "tools/call", {"_meta": Raw(b'{"progressToken":1}')})

    def is_sent() -> bool:
        return link.send(request, Listener().client, lambda: None, lambda: None) is not None

    async def announced(message: Message) -> None:
        assert is_sent()

    assert not is_sent()
    listening = asyncio.create_task(link.listen(Listener(), announced, lambda: None))
    await asyncio.sleep(0)
    assert is_sent()
    opened.set()
    await asyncio.wait((listening,), timeout=5)
    assert isinstance(listening.exception(), Unreachable) is broken
    assert not is_sent()
