"""Instances of one proxy and strangers at their addresses: who gets what of a client."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from mcpproxy.limits import instances as limits
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.sessions import OPENING_WAIT
from mcpproxy.proxy.downstream.app import Endpoint
from mcpproxy.proxy.downstream.legacy import handover
from mcpproxy.proxy.downstream.legacy.http import LegacyEndpoint
from mcpproxy.proxy.http1.server.request import Request
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import (
    KEY,
    Conduct,
    Stranger,
    close,
    echo,
    hang,
    relay,
    respond,
    stranger_at,
    tls_of_another_key,
)

pytestmark = [*LIVE, pytest.mark.timeout(120)]
TOKEN, COOKIE, SECRET = "Bearer token-of-a-client", "sid=cookie-of-a-client", "argument-of-a-client"
OF_THE_CLIENT = {"authorization": TOKEN, "cookie": COOKIE}
CONDUCTS = {
    "hangs": hang,
    "closes": close,
    "echoes": echo,
    "answers 200": respond(200),
    "answers 404": respond(404),
    "answers 410": respond(410),
}


Behaviour = Callable[["World"], Conduct]


@dataclass
class World:
    """Three instances in front of a backend for each session mode."""

    specs: list[dict[str, Any]]
    counter: Counter
    http: httpx2.AsyncClient
    first: Proxy
    second: Proxy
    third: Proxy

    async def session(self, *instances: Proxy) -> list[Raw]:
        """One session, begun at the first instance, as it is seen at others."""
        begun = Raw(self.first.url, self.http)
        await begun.initialize(authorization=TOKEN)
        clients = [Raw(instance.url, self.http) for instance in instances]
        for client in clients:
            client.session = begun.session
        return clients


def port_of(instance: Proxy) -> int:
    """The port of an instance."""
    return int(instance.base.rpartition(":")[2])


async def called(client: Raw, tool: str, **arguments: Any) -> httpx2.Response:
    """Call a tool with the credentials of a client."""
    request = rpc("tools/call", {"name": tool, "arguments": arguments})
    return await client.post(request, **OF_THE_CLIENT)


def text(answer: httpx2.Response) -> Any:
    """The text of a result."""
    return text_of(last(answer))


def text_of(message: Any) -> Any:
    """The text of a result."""
    return message["result"]["content"][0]["text"]


@asynccontextmanager
async def worlds(reachable: str | None = None, **spec: Any) -> AsyncIterator[World]:
    """Instances with one sealing key; `spec` is that of the backends.

    `reachable` is the host at which they find one another.
    """
    counter, peer = Counter(), Peer("p")
    async with AsyncExitStack() as stack:
        specs = []
        for name, gate, mode in (("p", peer.gate, "Isolated"), ("c", counter.gate, "PerClient")):
            base = await stack.enter_async_context(serving(gate))
            specs.append({"name": name, "url": f"{base}/mcp", "session": {"mode": mode}, **spec})
        options = {"keys": (KEY,), "reachable": reachable}
        three = [
            await stack.enter_async_context(proxied(*specs, options=options)) for _ in range(3)
        ]
        connections = httpx2.Limits(max_keepalive_connections=0)
        http = httpx2.AsyncClient(timeout=30, limits=connections)
        yield World(specs, counter, await stack.enter_async_context(http), *three)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], Limit]:
    """Sets a limit for one test."""

    def limit(name: str, value: float) -> Limit:
        changed: Limit = replace(getattr(limits, name), value=value)
        monkeypatch.setattr(limits, name, changed)
        return changed

    return limit


@pytest.fixture
def impatient(limited: Callable[[str, float], Limit]) -> None:
    """Each request tries an instance that was not reached again."""
    limited("RETRY_FIRST", 0)


@pytest.fixture
def without_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backend opens a session before the response to initialize."""
    monkeypatch.setattr(handover, "OPENING_WAIT", replace(OPENING_WAIT, value=0))


def spied(received: bytes | bytearray, session: str | None) -> list[str]:
    """The parts of a client's requests among the bytes that a stranger has received."""
    parts = {
        TOKEN: TOKEN,
        COOKIE: COOKIE,
        SECRET: SECRET,
        "session id": session or "no session",
        "method": "tools/call",
        "seal": "mcpproxy-",
    }
    return [name for name, part in parts.items() if part.encode() in received]


async def _request_everything(world: World, sessions: list[Raw]) -> None:
    """Send each kind of request that the owner of a session would serve, to another instance."""
    bound, isolated, streaming, ending, notifying, levelling = sessions
    answer = await called(bound, "c_increment", secret=SECRET)
    assert text(answer) == "2"
    assert "set-cookie" not in answer.headers
    for _ in range(2):
        answer = await called(isolated, "p_echo", secret=SECRET)
        assert json.loads(text(answer)) == {"secret": SECRET}
        assert "set-cookie" not in answer.headers
    headers = {"accept": "text/event-stream", "mcp-session-id": streaming.session or ""}
    headers |= OF_THE_CLIENT
    async with world.http.stream("GET", streaming.url, headers=headers) as stream:
        assert stream.status_code == 200
        assert "set-cookie" not in stream.headers
    notification = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    assert (await notifying.post(notification, **OF_THE_CLIENT)).status_code in (202, 404)
    level = rpc("logging/setLevel", {"level": "error"})
    assert "set-cookie" not in (await levelling.post(level, **OF_THE_CLIENT)).headers
    headers = {"mcp-session-id": ending.session or "", **OF_THE_CLIENT}
    assert (await world.http.delete(ending.url, headers=headers)).status_code == 204


async def _attacked(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Stranger:
    """Bytes that a stranger has received at the address of the owner of six sessions."""
    async with worlds() as world:
        sessions = [(await world.session(world.second))[0] for _ in range(6)]
        owner = Raw(world.first.url, world.http)
        owner.session = sessions[0].session
        assert text(await called(owner, "c_increment")) == "1"
        await world.first.stop()
        async with stranger_at(port_of(world.first), behaviour(world), tls) as stranger:
            await _request_everything(world, sessions)
        assert list(world.counter.counts.values()) == [2]
        for client in sessions:
            assert spied(stranger.received, client.session) == []
        return stranger


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("conduct", CONDUCTS.values(), ids=CONDUCTS)
async def test_a_stranger_at_the_address_of_an_instance_gets_nothing_of_a_client(
    conduct: Conduct, limited: Callable[[str, float], Limit]
) -> None:
    def begin(_world: World) -> Conduct:
        if conduct is hang:
            # From now on instances connect only to the stranger, each time in vain.
            limited("CONNECT", 0.05)
        return conduct

    stranger = await _attacked(begin)
    assert stranger.connections >= 5


@pytest.mark.usefixtures("impatient")
async def test_a_stranger_with_another_sealing_key_gets_nothing_of_a_client() -> None:
    stranger = await _attacked(lambda world: respond(200), tls_of_another_key())
    assert stranger.received == b""


@pytest.mark.usefixtures("impatient")
async def test_a_stranger_that_relays_to_another_instance_reads_nothing_and_reaches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = _record_handed_over(monkeypatch)
    stranger = await _attacked(lambda world: relay(port_of(world.third)))
    assert stranger.connections >= 5
    assert served == []


def _record_handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that instances serve for one another, as these come."""
    served: list[Request] = []
    serve = LegacyEndpoint.serve

    def record(front: LegacyEndpoint, inbound: Request, reply: Any) -> Any:
        if inbound.head.context.handed_over:
            served.append(inbound)
        return serve(front, inbound, reply)

    monkeypatch.setattr(LegacyEndpoint, "serve", record)
    return served


async def test_credentials_of_a_client_stay_at_the_instance_that_received_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = _record_handed_over(monkeypatch)
    async with worlds() as world:
        here, there = await world.session(world.first, world.second)
        for number in (1, 3):
            assert text(await called(here, "c_increment")) == str(number)
            assert text(await called(there, "c_increment")) == str(number + 1)
        (stolen,) = await world.session(world.second)
        assert (await stolen.post(rpc("ping"))).status_code == 404
    crossed = {name.decode() for inbound in served for name in inbound.headers}
    assert crossed == {
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "mcp-session-id",
        "mcpproxy-principal",
    }


async def test_headers_that_a_backend_gets_are_sent_to_the_owner_of_its_session() -> None:
    async with worlds(forwardHeaders=["authorization", "x-tenant"]) as world:
        here, there = await world.session(world.first, world.second)
        request = rpc("tools/call", {"name": "c_increment", "arguments": {}})
        for number, client in enumerate((here, there, here, there)):
            answer = await client.post(request, authorization=TOKEN, x_tenant="t", x_other="o")
            assert text(answer) == str(number + 1)
        seen = [entry for entry in world.counter.gate.seen if entry.rpc == "tools/call"]
        assert len(seen) == 4
        for item in seen:
            assert item.headers["authorization"] == TOKEN
            assert item.headers["x-tenant"] == "t"
            assert "x-other" not in item.headers


async def test_a_client_cannot_pass_for_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    served = _record_handed_over(monkeypatch)
    async with worlds() as world:
        (client,) = await world.session(world.second)
        await called(client, "c_increment")
        principal = served[0].head.context.principal
        introduction = rpc("mcpproxy/introduce", {"owner": "127.0.0.1:1#x"})
        pretended = {"mcpproxy_principal": principal, "mcpproxy_handover": "x"}
        assert (await client.post(rpc("ping"), **pretended)).status_code == 404
        answer = await client.post(introduction, **pretended, **OF_THE_CLIENT)
        assert last(answer)["error"]["code"] == -32601
        # Nothing of the body is read before Host is checked.
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(world.second))
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: elsewhere.example\r\nmcpproxy-handover: x\r\n"
            b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
        )
        assert b" 421 " in await asyncio.wait_for(reader.readline(), 15)
        writer.close()


async def test_an_attacker_between_two_instances_can_neither_read_nor_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other instances find the first one at an address where the relay is.
    async with worlds(reachable="127.0.0.2") as world:
        here, there = await world.session(world.first, world.second)
        port, sent = port_of(world.first), bytearray()
        async with stranger_at(port, relay(port, sent), host="127.0.0.2") as stranger:
            for number in (1, 3):
                assert text(await called(here, "c_increment", secret=SECRET)) == str(number)
                assert text(await called(there, "c_increment", secret=SECRET)) == str(number + 1)
            assert stranger.connections == 1
            assert spied(stranger.received, there.session) == []
        served = _record_handed_over(monkeypatch)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        replayed = await asyncio.wait_for(reader.read(), 15)
        writer.close()
        assert spied(replayed, there.session) == []
        assert served == []
        assert text(await called(here, "c_increment")) == "5"


async def test_a_process_at_the_address_of_its_predecessor_gets_nothing_of_its_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worlds() as world:
        bound, isolated = [(await world.session(world.second))[0] for _ in range(2)]
        owner = Raw(world.first.url, world.http)
        owner.session = bound.session
        assert text(await called(owner, "c_increment")) == "1"
        await world.first.stop()
        options = {"keys": (KEY,), "port": port_of(world.first)}
        async with proxied(*world.specs, options=options):
            received = _record_received(monkeypatch, port_of(world.first))
            assert text(await called(bound, "c_increment", secret=SECRET)) == "2"
            assert (await called(isolated, "p_echo")).status_code == 200
        assert received == []


def _record_received(monkeypatch: pytest.MonkeyPatch, port: int) -> list[Request]:
    """The requests of sessions that an instance receives at this port."""
    received: list[Request] = []
    screened = Endpoint.screened

    def record(front: Endpoint, inbound: Request) -> Any:
        here = inbound.headers.get(b"host", b"").endswith(b":%d" % port)
        if here and b"mcp-session-id" in inbound.headers:
            received.append(inbound)
        return screened(front, inbound)

    monkeypatch.setattr(Endpoint, "screened", record)
    return received


def _batch(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**request, "id": number} for number, request in enumerate(requests)]


def _events(answer: httpx2.Response) -> dict[Any, Any]:
    """The messages of a stream by their ids."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if "{" in line]
    return {message["id"]: message for message in map(json.loads, lines)}


@pytest.mark.usefixtures("impatient")
async def test_a_batch_is_served_where_its_session_lives_and_without_state_anywhere() -> None:
    increment = rpc("tools/call", {"name": "c_increment"})
    echoed = rpc("tools/call", {"name": "p_echo", "arguments": {}})
    async with worlds() as world:
        (client,) = await world.session(world.second)
        begun = Raw(world.first.url, world.http)
        await begun.initialize("2025-03-26", authorization=TOKEN)
        client.session = begun.session
        answer = await client.post(_batch(increment, echoed, increment), **OF_THE_CLIENT)
        result = _events(answer)
        counts = {text_of(result[n]) for n in (0, 2)}
        assert counts == {"1", "2"}
        assert "result" in result[1]
        await world.first.stop()
        answer = await client.post(_batch(echoed, rpc("ping")), **OF_THE_CLIENT)
        assert all("result" in message for message in _events(answer).values())
        answer = await client.post(_batch(echoed, increment), **OF_THE_CLIENT)
        assert text_of(_events(answer)[1]) == "3"
        assert list(world.counter.counts.values()) == [3]


@pytest.mark.usefixtures("impatient", "without_records")
async def test_a_batch_about_state_that_was_lost_with_its_owner_gets_404() -> None:
    increment = rpc("tools/call", {"name": "c_increment"})
    async with worlds() as world:
        (client,) = await world.session(world.second)
        begun = Raw(world.first.url, world.http)
        await begun.initialize("2025-03-26", authorization=TOKEN)
        client.session = begun.session
        await world.first.stop()
        answer = await client.post(_batch(rpc("ping"), increment), **OF_THE_CLIENT)
        assert answer.status_code == 404
        assert not world.counter.counts
