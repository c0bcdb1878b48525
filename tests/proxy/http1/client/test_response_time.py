"""Callbacks for responses that do not come in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.connection import ClientConnection
from tests.proxy.byhand import served
from tests.proxy.http1.client.test_client import OK, Peer, get
from tests.proxy.runtime.waiting import soon

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@asynccontextmanager
async def taken(
    response_time: float, *answers: bytes
) -> AsyncIterator[tuple[HttpClient, ClientConnection]]:
    """A client that has had a response, and its connection, which is taken for the next request."""
    async with served(Peer(*answers).serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/", 5, response_time=response_time)
        await get(client)
        connection = client.take()
        assert connection is not None
        yield client, connection


async def test_a_callback_is_called_once_if_its_response_is_late() -> None:
    async with taken(0.05, OK, b"HTTP/1.1 200 OK\r\n") as (client, connection):
        calls: list[float] = []
        began = asyncio.get_running_loop().time()
        response = connection.begin(REQUEST, lambda: calls.append(connection.loop.time()))
        await soon(lambda: calls, "the callback")
        assert calls[0] - began >= 0.049
        assert (response.status, response.complete, connection.lost) == (0, False, False)
        client.close()
        await soon(lambda: connection not in client._all, "the connection to be closed")
        assert len(calls) == 1


async def test_a_response_in_time_ends_the_wait_for_it() -> None:
    async with taken(30, OK) as (client, connection):
        assert list(client._overdue.running) == [connection]
        answered = asyncio.Event()
        connection.begin(REQUEST, answered.set)
        await answered.wait()
        assert not client._overdue.running
        client.close()


async def test_a_lost_connection_is_not_waited_for() -> None:
    async with taken(30, OK) as (client, connection):
        connection.abort()
        await soon(lambda: connection not in client._all, "the loss to be noticed")
        assert not client._overdue.running
