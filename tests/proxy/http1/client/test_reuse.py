"""Reuse of the connections of a client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.proxy.http1.client import client as client_module
from mcpproxy.proxy.http1.client.client import HttpClient
from tests.proxy.http1.client.test_client import OK, Peer, client_of, get
from tests.proxy.runtime.waiting import soon


async def test_a_connection_is_used_again() -> None:
    peer = Peer(OK)
    async with client_of(peer) as client:
        assert await get(client) == b"ok"
        assert await get(client) == b"ok"
    assert peer.connections == 1


async def test_a_connection_that_was_idle_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "UNCHECKED_FOR", 0.0)
    peer = Peer(OK)
    async with client_of(peer) as client:
        await get(client)
        await get(client)
    assert peer.connections == 1


async def test_a_connection_that_idled_too_long_is_not_used_again() -> None:
    peer = Peer(OK)
    async with client_of(peer) as client:
        client._kept_for = 0.0
        await get(client)
        await get(client)
    assert peer.connections == 2


async def test_a_connection_that_the_peer_closed_while_idle_is_not_used_again() -> None:
    peer = Peer(OK, close=True)
    async with client_of(peer) as client:
        await get(client)
        await soon(lambda: not client._all, "the loss to be noticed")
        assert await get(client) == b"ok"
    assert peer.connections == 2


@asynccontextmanager
async def _answered(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[HttpClient, Any]]:
    """A client with an idle connection, and the socket at its other end."""
    monkeypatch.setattr(client_module, "UNCHECKED_FOR", 0.0)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}/", 5)
        asked = asyncio.create_task(get(client))
        server, _ = await loop.sock_accept(listener)
        with server:
            await loop.sock_recv(server, 65536)
            await loop.sock_sendall(server, OK)
            assert await asked == b"ok"
            assert client._idle
            yield client, server
        client.close()


async def test_a_closed_connection_is_not_used_again_before_the_event_loop_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _answered(monkeypatch) as (client, server):
        server.close()
        # The event loop had no turn since the end of the connection.
        assert client.take() is None


async def test_a_connection_with_a_second_response_is_not_used_again_before_the_loop_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _answered(monkeypatch) as (client, server):
        server.send(OK)
        assert client.take() is None


async def test_a_connection_over_tls_is_used_again_although_bytes_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _answered(monkeypatch) as (client, server):
        (connection,) = client._idle
        transport: Any = connection._transport
        extra = {"socket": transport.get_extra_info("socket"), "sslcontext": object()}
        secure: Any = SimpleNamespace(
            get_extra_info=extra.get, is_closing=lambda: False, abort=lambda: None
        )
        connection.connection_made(secure)
        server.send(OK)
        assert client.take() is connection
        connection.connection_made(transport)
        assert not connection.can_be_reused()
