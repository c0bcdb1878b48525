"""Limits on what another instance, or a stranger at its address, makes this one hold."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import pytest_asyncio

from mcpproxy.limits import instances as limits
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens import session_token
from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.legacy import http
from mcpproxy.proxy.downstream.legacy import sessions as live
from mcpproxy.proxy.downstream.legacy.http import LegacyEndpoint
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry, SessionState
from mcpproxy.proxy.downstream.peers.forwarding import PeerSilent, PeerUnavailable
from mcpproxy.proxy.downstream.peers.session_sync import SessionSync
from mcpproxy.proxy.downstream.stream_shares import OpenStreams
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.byhand import served as served_by_hand
from tests.proxy.downstream.peers.instances import Pair, an_inbound, client_hello, limit, sealer
from tests.proxy.http1.server.served import Gate, Served
from tests.proxy.runtime.waiting import soon


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def pairs(served: Served) -> AsyncIterator[tuple[Pair, Clock]]:
    """Two instances with one sealing key, and the clock of the one that connects."""
    clock = Clock()
    pair = Pair(served, clock)
    await pair.start(sealer(), sealer())
    try:
        yield pair, clock
    finally:
        await pair.stop()


@pytest_asyncio.fixture
async def pair(served: Served) -> AsyncIterator[Pair]:
    """Two instances with one sealing key."""
    async with pairs(served) as (result, _):
        yield result


class Silence:
    """A server that accepts connections and says nothing; `seen` holds what came."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what comes."""
        self.connections += 1
        while await reader.read(65536):
            pass


def _hello(pair: Pair) -> bytes:
    return client_hello(pair.other.credentials.own.name_of(pair.owner.owner))


async def test_a_stalled_handshake_ends_at_its_deadline(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "HANDSHAKE", 0.2)
    before = changed.reached
    client = await pair.accepted.client()
    await client.send(_hello(pair))
    with contextlib.suppress(ConnectionError):
        # What the server says in its first flight, then the end.
        await client.rest()
    assert changed.reached == before + 1
    assert (await pair.tell())[0] == 200


async def test_connections_beyond_the_limit_of_handshakes_are_closed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "HANDSHAKES", 2)
    before = changed.reached
    for _ in range(2):
        client = await pair.accepted.client()
        await client.send(_hello(pair))
        # A byte of the server's flight: the handshake has begun.
        await client.reader.readexactly(1)
    client = await pair.accepted.client()
    await client.send(_hello(pair))
    assert await client.broken()
    assert changed.reached == before + 1


async def test_a_handshake_ends_when_the_server_stops(pair: Pair) -> None:
    client = await pair.accepted.client()
    await client.send(_hello(pair))
    await client.reader.readexactly(1)
    await pair.accepted.server.drain(0)
    with contextlib.suppress(ConnectionError):
        await client.rest()
    with pytest.raises(PeerUnavailable):
        await pair.tell()


async def test_an_address_that_accepts_silently_counts_as_terminated(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, "CONNECT", 0.2)
    silence = Silence()
    async with served_by_hand(silence.serve) as port:
        with pytest.raises(PeerUnavailable):
            await pair.other.send(f"127.0.0.1:{port}#x", "POST", an_inbound(), b"{}")
    assert silence.connections == 1


async def test_an_unreachable_instance_is_not_connected_to_by_every_waiting_request(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, "CONNECT", 0.2)
    silence = Silence()
    async with served_by_hand(silence.serve) as port:
        owner = f"127.0.0.1:{port}#x"
        told = (pair.other.send(owner, "POST", an_inbound(), b"{}") for _ in range(50))
        failed = await asyncio.gather(*told, return_exceptions=True)
    assert all(isinstance(error, PeerUnavailable) for error in failed)
    assert silence.connections == limits.CONNECTING.value


async def test_an_unreachable_instance_is_tried_again_after_growing_intervals(
    served: Served,
) -> None:
    async with pairs(served) as (pair, clock):
        connections = 0

        async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            writer.transport.abort()

        async with served_by_hand(closing) as port:
            tried = []
            for second in range(400):
                clock.now, before = float(second), connections
                with pytest.raises(PeerUnavailable):
                    await pair.other.send(f"127.0.0.1:{port}#x", "POST", an_inbound(), b"{}")
                if connections > before:
                    tried.append(second)
        assert tried == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


async def test_requests_beyond_the_share_of_an_instance_get_503(
    pair: Pair, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "FORWARDED", 1)
    before = changed.reached
    gate = pair.app.handlers["/mcp"] = Gate()
    first, second = await served.client(), await served.client()
    await first.send(b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
    await gate.entered.wait()
    assert (await second.ask("/mcp", b"{}")).status == 503
    gate.opened.set()
    assert (await first.answer()).body == b'"late"'
    assert (await second.ask("/mcp", b"{}")).status == 200
    assert changed.reached == before + 1


async def test_the_instance_used_longest_ago_is_forgotten(
    pair: Pair, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "KNOWN", 1)
    before = changed.reached
    assert (await pair.tell())[0] == 200
    with pytest.raises(PeerUnavailable):
        await pair.other.send("127.0.0.1:9#x", "POST", an_inbound(), b"{}")
    # Its connection went with it, and it gets another one.
    await soon(lambda: not pair.server.connections, "the connection to end")
    gate = pair.app.handlers["/mcp"] = Gate()
    client = await served.client()
    await client.send(b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
    await gate.entered.wait()
    with pytest.raises(HttpError) as refused:
        await pair.other.send("127.0.0.1:9#x", "POST", an_inbound(), b"{}")
    assert refused.value.status == 503
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert changed.reached == before + 3


async def test_a_silent_instance_ends_the_request_and_not_the_session(
    pair: Pair, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "SILENCE", 0.2)
    before = changed.reached
    gate = pair.app.handlers["/mcp"] = Gate()
    client = await served.client()
    assert (await client.ask("/mcp", b"{}")).status == 504
    assert gate.entered.is_set()

    async def begins(inbound: Request, reply: ResponseWriter) -> None:
        await reply.event(b"{}")
        await gate(inbound, reply)

    pair.app.handlers["/mcp"] = begins
    await client.send(b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
    assert (await client.head()).status == 200
    # An answer that has begun is seen to break off.
    with contextlib.suppress(ConnectionError):
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    gate.opened.set()
    assert changed.reached == before + 2


async def test_an_instance_that_never_confirms_a_session_does_not_delay_requests(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "ANSWER", 0.2)
    before = changed.reached
    gate = pair.app.handlers["/mcp"] = Gate()
    session, session_token = (
        SessionState(),
        SessionToken(ClientIdentity("2025-11-25", session="s"), 0, pair.owner.owner),
    )
    acquaintance = SessionSync(SessionRegistry(sealer(), "here", 1.0), pair.other)
    assert not await acquaintance.fetch_session_state(session_token, an_inbound(), session)
    # It is asked again.
    assert not session.is_synced(0.0)
    gate.opened.set()
    assert changed.reached == before + 1


async def test_a_log_level_that_arrives_before_an_older_answer_stays(pair: Pair) -> None:
    session = SessionState()

    async def answers_late(inbound: Request, reply: ResponseWriter) -> None:
        session.log_level = "error"
        await reply.finish(b'{"jsonrpc":"2.0","id":"introduce","result":{"level":"debug"}}')

    pair.app.handlers["/mcp"] = answers_late
    token = SessionToken(ClientIdentity("2025-11-25", session="s"), 0, pair.owner.owner)
    sync = SessionSync(SessionRegistry(sealer(), "here", 1.0), pair.other)
    assert await sync.fetch_session_state(token, an_inbound(), session)
    assert session.is_synced(asyncio.get_running_loop().time())
    assert session.log_level == "error"


async def test_an_oversized_session_state_of_an_instance_is_abandoned(pair: Pair) -> None:
    async def answers_much(inbound: Request, reply: ResponseWriter) -> None:
        await reply.finish(b" " * (limits.ANSWER_SIZE.value + 1))

    pair.app.handlers["/mcp"] = answers_much
    with pytest.raises(PeerSilent):
        await pair.tell()


async def test_a_request_that_breaks_off_ends_no_session_while_its_instance_lives(
    pair: Pair, served: Served
) -> None:
    async def breaks_off(inbound: Request, reply: ResponseWriter) -> None:
        for connection in list(pair.server.connections):
            connection.abort()

    pair.app.handlers["/mcp"] = breaks_off
    client = await served.client()
    assert (await client.ask("/mcp", b"{}")).status == 502
    with pytest.raises(PeerSilent):
        await pair.tell()


async def test_a_client_that_leaves_before_the_answer_begins_is_seen_to_leave_by_the_owner(
    pair: Pair, served: Served
) -> None:
    left, entered = asyncio.Event(), asyncio.Event()

    async def waits(inbound: Request, reply: ResponseWriter) -> None:
        reply.on_disconnect(left.set)
        entered.set()
        await left.wait()

    pair.app.handlers["/mcp"] = waits
    client = await served.client()
    await client.send(b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
    await entered.wait()
    client.reset()
    async with asyncio.timeout(10):
        await left.wait()


def test_a_session_is_shared_with_a_bounded_number_of_instances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = limit(monkeypatch, "SHARED_WITH", 2)
    monkeypatch.setattr(live, "SHARED_WITH", changed)
    before, session = changed.reached, SessionState()
    for owner in ("a", "b", "a", "c"):
        session.share_with(owner)
    assert list(session.shared_with) == ["a", "c"]
    assert changed.reached == before + 1


async def test_opened_session_ids_are_cached_in_a_bounded_number(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = limit(monkeypatch, "TICKETS", 2)
    monkeypatch.setattr(http, "TICKETS", changed)
    before, keys, no_gateway = changed.reached, sealer(), cast("Any", None)
    front = LegacyEndpoint(
        no_gateway, keys, SessionRegistry(keys, "here", 1.0), pair.other, OpenStreams()
    )
    for number in range(5):
        client = ClientIdentity("2025-11-25", session=f"session-{number}")
        token = session_token.encode_session_token(
            keys, SessionToken(client, int(time.time()), "here")
        ).encode()
        for _ in range(2):
            assert front._opened(token, "").client == client
        assert len(front._tokens) <= 2
    assert changed.reached == before + 2
