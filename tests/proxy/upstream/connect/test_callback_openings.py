"""Sessions that callbacks open, and where a task continues."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from mcpproxy.proxy.core.errors import BackendError, ProtocolError, TimedOut
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.connect.http_connector import HttpConnector
from mcpproxy.proxy.upstream.transports.session import Rest, UpstreamSession
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.era_servers import (
    LEGACY,
    MODERN,
    Answer,
    Server,
    connector_of,
    dropped,
    error,
    initialized,
    legacy,
    modern,
    open_stream,
    silent,
    status,
)

STEPS = ["initialize", "notifications/initialized"]
Ended = tuple[UpstreamSession | None, Rest | None]


async def _opened(connector: HttpConnector) -> Ended:
    """Open a session by callbacks, and return the arguments of the last one."""
    ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    assert connector.begin_open(LEGACY, lambda link, rest: ended.set_result((link, rest)))
    return await asyncio.wait_for(ended, 5.0)


@asynccontextmanager
async def _known(server: Server) -> AsyncIterator[HttpConnector]:
    """Yield a connector that knows the era of the server; earlier requests are not recorded."""
    async with connector_of(server) as connector:
        await connector.open(LEGACY)
        server.asked.clear()
        yield connector


async def _finished(
    connector: HttpConnector, before_task: Callable[[], object] = lambda: None
) -> UpstreamSession:
    """The session that a task opens where callbacks could not."""
    link, rest = await _opened(connector)
    before_task()
    assert link is None
    assert rest is not None
    return await rest()


HEADERS = {"mcp-session-id": "s-1"}
EVENTS = "text/event-stream"


def _event(message: Any) -> bytes:
    return b"event: message\ndata: " + bytes(initialized(message).body) + b"\n\n"


def _as_event(method: str, message: Any) -> Response:
    """Responds to `initialize` with an event stream of one event."""
    return Response(_event(message), media_type=EVENTS, headers=HEADERS)


def _in_open_stream(method: str, message: Any) -> Response:
    """Responds to `initialize` in an event stream that stays open."""

    async def events() -> Any:
        yield _event(message)
        await asyncio.Event().wait()

    return StreamingResponse(events(), media_type=EVENTS, headers=HEADERS)


def _with_malformed_id(method: str, message: Any) -> Response:
    """Responds to `initialize` in such a stream, with a session id that is malformed."""
    response = _in_open_stream(method, message)
    response.headers["mcp-session-id"] = "not visible"
    return response


def _after_another(method: str, message: Any) -> Response:
    """Responds to `initialize` after another message."""
    other = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
    return Response(other + _event(message), media_type=EVENTS, headers=HEADERS)


class Numbered:
    """Gives each session another id, and another name of the server from the third on."""

    number = 0

    def __call__(self, method: str, message: Any) -> Response:
        self.number += 1
        revision = "2025-11-25" if self.number < 3 else "2025-06-18"
        return initialized(message, revision, f"s-{self.number}")


@pytest.mark.parametrize("initialize", [legacy, _as_event], ids=["json", "events"])
async def test_a_session_is_opened_without_a_task(initialize: Answer) -> None:
    server = Server(status(404), initialize)
    async with _known(server) as connector:
        link, rest = await _opened(connector)
        assert rest is None
        assert link is not None
        assert (link.stateful, link.server.revision, server.asked) == (True, "2025-11-25", STEPS)


async def test_each_session_has_its_own_id_and_the_description_that_came_with_it() -> None:
    async with connector_of(Server(status(404), Numbered())) as connector:
        await connector.open(LEGACY)
        described = []
        for _ in range(3):
            link, _ = await _opened(connector)
            assert link is not None
            record = connector.record_of(link)
            assert record is not None
            described.append((record.id, record.revision, link.server.revision))
    assert described == [
        (b"s-2", "2025-11-25", "2025-11-25"),
        (b"s-3", "2025-06-18", "2025-06-18"),
        (b"s-4", "2025-06-18", "2025-06-18"),
    ]


async def test_sessions_share_the_cached_heads_of_their_requests() -> None:
    async with connector_of(Server(status(404), Numbered())) as connector:
        sizes = []
        for _ in range(5):
            link = await connector.open(LEGACY)
            await link.close()
            sizes.append(len(connector._endpoint._heads))
    # The heads of initialize, and of initialized in two revisions.
    assert sizes == [2, 2, 3, 3, 3]


async def test_a_task_continues_with_a_response_that_callbacks_cannot_read() -> None:
    server = Server(status(404), _after_another)
    async with _known(server) as connector:
        assert (await _finished(connector)).stateful
    assert server.asked == STEPS, "initialize was sent once"


async def test_a_task_sends_initialized_if_the_stream_of_initialize_takes_the_connection() -> None:
    server = Server(status(404), _in_open_stream)
    async with _known(server) as connector:
        assert (await _finished(connector)).stateful
    assert server.asked == STEPS


async def test_a_session_is_opened_again_when_the_backend_closes_the_connection() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        server.initialize = dropped
        repair = functools.partial(setattr, server, "initialize", legacy)
        assert (await _finished(connector, repair)).stateful
    assert server.asked == ["initialize", *STEPS]


async def test_a_backend_that_refuses_the_era_is_asked_for_the_other_one() -> None:
    server = Server(modern, legacy)
    async with _known(server) as connector:
        server.initialize = error(-32022, 400)
        assert (await _finished(connector)).server.modern


@pytest.mark.parametrize("answer", [status(500), error(-32603), status(200, "<html>")])
async def test_a_session_that_is_refused_is_not_opened(answer: Answer) -> None:
    server = Server(status(404), legacy)
    async with connector_of(server, protocol="legacy") as connector:
        await connector.open(LEGACY)
        server.initialize = answer
        with pytest.raises(BackendError):
            await _finished(connector)


async def test_a_malformed_session_id_is_an_error_of_the_backend() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        server.initialize = lambda _, message: initialized(message, session="a b")
        with pytest.raises(ProtocolError, match="visible ASCII"):
            await _finished(connector)


async def test_a_backend_that_does_not_respond_to_initialize_is_given_up() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        server.initialize = silent
        connector._time_limit = TimeLimit(0.05)
        with pytest.raises(TimedOut):
            await _finished(connector)


ODD_ANSWERS: dict[str, Callable[[str, Any], Response]] = {
    "silent": silent,
    "open stream": open_stream,
    "400": status(400),
    "500": status(500),
}


@pytest.mark.parametrize("case", ODD_ANSWERS)
async def test_a_session_is_open_regardless_of_the_response_to_initialized(case: str) -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        connector._initialized_limit = TimeLimit(0.05)
        server.others["notifications/initialized"] = ODD_ANSWERS[case]
        link, rest = await _opened(connector)
        assert (link is not None, rest) == (True, None)
    assert server.asked == STEPS


async def test_initialized_is_sent_again_when_its_connection_breaks() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        server.others["notifications/initialized"] = dropped
        assert (await _finished(connector, server.others.clear)).stateful
    assert server.asked == [*STEPS, "notifications/initialized"]


async def test_callbacks_open_no_session_before_the_era_of_the_backend_is_known() -> None:
    async with connector_of(Server(modern, legacy)) as connector:
        assert not connector.begin_open(LEGACY, lambda link, rest: None)
        await connector.open(MODERN)
        assert not connector.begin_open(MODERN, lambda link, rest: None)


async def test_callbacks_open_no_session_without_a_free_connection() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        connector._endpoint.client._idle.clear()
        assert not connector.begin_open(LEGACY, lambda link, rest: None)
    assert server.asked == []


async def test_a_response_with_a_malformed_session_id_is_closed() -> None:
    server = Server(status(404), legacy)
    async with _known(server) as connector:
        server.initialize = _with_malformed_id
        for opening in (_finished(connector), connector.open(LEGACY)):
            with pytest.raises(ProtocolError, match="visible ASCII"):
                await opening
        client = connector._endpoint.client
        await soon(lambda: len(client._all) == len(client._idle), "no connection in use")
