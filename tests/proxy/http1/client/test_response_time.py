"""Callbacks for responses that do not come in time."""

import asyncio

from mcpproxy.proxy.http1.client.client import HttpClient
from tests.proxy.byhand import served
from tests.proxy.http1.client.test_client import OK, Peer, get
from tests.proxy.runtime.waiting import soon

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def test_a_callback_is_called_once_if_its_response_is_late() -> None:
    async with served(Peer(OK, b"HTTP/1.1 200 OK\r\n").serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/", 5, response_time=0.05)
        await get(client)
        connection = client.take()
        assert connection is not None
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
    async with served(Peer(OK).serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/", 5, response_time=30)
        await get(client)
        connection = client.take()
        assert connection is not None
        assert list(client._overdue.running) == [connection]
        answered = asyncio.Event()
        connection.begin(REQUEST, answered.set)
        await answered.wait()
        assert not client._overdue.running
        client.close()


async def test_a_lost_connection_is_not_waited_for() -> None:
    async with served(Peer(OK).serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/", 5, response_time=30)
        await get(client)
        connection = client.take()
        assert connection is not None
        connection.abort()
        await soon(lambda: connection not in client._all, "the loss to be noticed")
        assert not client._overdue.running
