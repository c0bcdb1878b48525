"""Responses to requests of sessions: their events are kept once they are resumable."""

from collections.abc import Callable

import pytest

from mcpproxy.proxy.downstream.legacy.event_store import EventStore, StreamLog
from mcpproxy.proxy.downstream.legacy.sse_response import SseResponse
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.http1.server.served import Gate, Served, request
from tests.proxy.runtime.waiting import soon

PRIMING = b"id: s-0\r\nretry: 5\r\ndata: \r\n\r\n"


@pytest.fixture
def open_log() -> Callable[[], StreamLog]:
    store = EventStore()
    return lambda: store.open("s", "session")


async def _kept(log: StreamLog) -> list[bytes]:
    """The messages of a log that has ended."""
    assert log.ended_at is not None
    return [message async for _, message in log.after(-1)]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_that_is_not_resumable_has_no_ids(served: Served, streamed: bool) -> None:
    async def answer(_: Request, reply: ResponseWriter) -> None:
        SseResponse(reply).finish(b"1", streamed=streamed)

    served.app.handlers["/"] = answer
    response = await (await served.client()).ask()
    kind = "text/event-stream" if streamed else "application/json"
    assert response.headers["content-type"] == kind
    assert response.body == (b"event: message\r\ndata: 1\r\n\r\n" if streamed else b"1")


async def test_events_of_a_resumable_response_have_ids_and_are_kept(
    served: Served, open_log: Callable[[], StreamLog]
) -> None:
    logs: list[StreamLog] = []

    def opened() -> StreamLog:
        logs.append(open_log())
        return logs[-1]

    async def answer(_: Request, reply: ResponseWriter) -> None:
        response = SseResponse(reply)
        assert response.takes_parts
        await response.resumable(opened, 5)
        await response.resumable(opened, 5)
        assert len(logs) == 1
        assert not response.takes_parts
        await response.event(b"1")
        response.finish(b"2")

    served.app.handlers["/"] = answer
    body = (await (await served.client()).ask()).body
    assert body == PRIMING + b"".join(
        b"id: s-%b\r\nevent: message\r\ndata: %b\r\n\r\n" % (n, n) for n in (b"1", b"2")
    )
    assert await _kept(logs[0]) == [b"", b"1", b"2"]


async def test_messages_after_a_pause_or_a_disconnect_are_kept(
    served: Served, open_log: Callable[[], StreamLog]
) -> None:
    gate, logs = Gate(), []
    gone: list[bool] = []

    async def answer(_: Request, reply: ResponseWriter) -> None:
        response = SseResponse(reply)
        await response.pause()
        assert reply.untouched
        logs.append(open_log())
        await response.resumable(lambda: logs[0], 5)
        gate.entered.set()
        await gate.opened.wait()
        gone.extend((reply.is_gone, response.is_gone))
        await response.event(b"1")
        response.finish(b"2")
        gate.left.set()

    served.app.handlers["/"] = answer
    client = await served.client()
    await client.send(request())
    await gate.entered.wait()
    client.reset()
    await soon(lambda: served.connection().lost, "the disconnect")
    gate.opened.set()
    await gate.left.wait()
    assert gone == [True, False]
    assert await _kept(logs[0]) == [b"", b"1", b"2"]


async def test_a_pause_closes_the_stream_of_a_resumable_response(
    served: Served, open_log: Callable[[], StreamLog]
) -> None:
    logs: list[StreamLog] = []

    async def answer(_: Request, reply: ResponseWriter) -> None:
        response = SseResponse(reply)
        logs.append(open_log())
        await response.resumable(lambda: logs[0], 5)
        await response.pause()
        await response.event(b"1")
        response.close()

    served.app.handlers["/"] = answer
    assert (await (await served.client()).ask()).body == PRIMING
    await soon(lambda: logs[0].ended_at is not None, "the end of the log")
    assert await _kept(logs[0]) == [b"", b"1"]
