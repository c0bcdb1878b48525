"""Reuse of the connections of a client."""

import asyncio
import socket

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


async def test_a_closed_connection_is_not_used_again_before_the_event_loop_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
        # The event loop had no turn since the end of the connection.
        assert client.take() is None
        client.close()
