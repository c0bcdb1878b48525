"""Requests to another instance that is closing the connection at that moment."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mcpproxy.proxy.downstream.peers.forwarding import PeerUnavailable
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.downstream.peers.instances import Pair, an_inbound, sealer
from tests.proxy.http1.server.served import Served


@pytest_asyncio.fixture
async def pair(served: Served) -> AsyncIterator[Pair]:
    """Two instances with one sealing key."""
    pair = Pair(served)
    await pair.start(sealer(), sealer())
    try:
        yield pair
    finally:
        await pair.stop()


def _close_idle(pair: Pair) -> None:
    """Close what the owner has open; the other instance doesn't know it before its next turn."""
    for connection in list(pair.server.connections):
        connection.drain()


async def test_a_request_that_the_owner_did_not_read_is_sent_again(pair: Pair) -> None:
    assert (await pair.tell())[0] == 200
    _close_idle(pair)
    assert (await pair.tell())[0] == 200
    assert len(pair.app.served) == 2


async def test_a_request_of_a_client_that_the_owner_did_not_read_is_sent_again(pair: Pair) -> None:
    client = await pair.served.client()
    assert (await client.ask("/mcp")).status == 200
    _close_idle(pair)
    answer = await client.ask("/mcp")
    assert (answer.status, len(pair.app.served)) == (200, 2)


async def test_a_request_that_an_ending_owner_did_not_read_has_not_run(pair: Pair) -> None:
    assert (await pair.tell())[0] == 200
    sent = asyncio.create_task(pair.tell())
    # The request is on its way when the owner stops.
    await asyncio.sleep(0)
    _close_idle(pair)
    await pair.accepted.server.drain(0)
    with pytest.raises(PeerUnavailable) as caught:
        await sent
    assert not caught.value.may_have_run
    assert len(pair.app.served) == 1


async def test_a_request_that_the_owner_has_read_may_have_run(pair: Pair) -> None:
    assert (await pair.tell())[0] == 200

    async def end(_inbound: Request, _reply: ResponseWriter) -> None:
        for connection in list(pair.server.connections):
            connection.abort()
        await pair.accepted.server.drain(0)

    pair.app.handlers["/mcp"] = end
    with pytest.raises(PeerUnavailable) as caught:
        await pair.other.send(pair.owner.owner, "POST", an_inbound(), b"{}")
    assert caught.value.may_have_run
