"""A session that two instances serve: the other one is told what the client changes at its owner.

Connections between instances fail for a moment, and owners drop sessions that they do not use.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from mcpproxy.limits import instances as limits
from mcpproxy.proxy.downstream.peers import session_sync
from mcpproxy.proxy.downstream.peers.forwarding import PeerUnavailable, _Peer
from tests.proxy.runtime.extended import Extended
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import CALM, LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = [*LIVE, pytest.mark.timeout(60)]
UPDATED = "notifications/resources/updated"
CANCELLED = {"code": -32800, "message": "the request was cancelled"}


@dataclass
class Two:
    """An owner of a session, another instance, and the network between them."""

    peer: Peer
    owner: Proxy
    other: Proxy
    at_owner: Raw
    at_other: Raw

    def registry(self, instance: Proxy) -> Any:
        """The sessions of an instance."""
        front = instance.runtime._front
        assert front is not None
        return front.live

    async def echo(self) -> None:
        """Call a tool at the other instance."""
        answer = await self.at_other.post(rpc("tools/call", {"name": "p_echo", "arguments": {}}))
        assert "result" in last(answer), answer.text

    async def slow(self) -> "asyncio.Task[httpx2.Response]":
        """Begin a call at the other instance that ends only when it is cancelled."""
        self.peer.started.clear()
        request = rpc("tools/call", {"name": "p_slow", "arguments": {}}, 77)
        call = asyncio.create_task(self.at_other.post(request))
        await asyncio.wait_for(self.peer.started.wait(), 10)
        return call

    async def cancel(self) -> None:
        """Cancel that call at the owner."""
        told = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        answer = await self.at_owner.post({**told, "params": {"requestId": 77}})
        assert answer.status_code == 202


class Network:
    """Connections between instances, which fail while `is_broken`, and then hang if `hangs`."""

    is_broken = hangs = False
    tried = 0
    """Number of connections that hang."""


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request synchronizes its session, and tries an instance again that has failed."""
    monkeypatch.setattr(session_sync, "SYNC_EVERY", 0.0)
    monkeypatch.setattr(session_sync, "RETRY_EVERY", 0.02)
    monkeypatch.setattr(limits, "RETRY_FIRST", replace(limits.RETRY_FIRST, value=0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network between all instances."""
    result, connect = Network(), _Peer._connect

    async def connected(peer: _Peer, *about: Any) -> Any:
        if result.hangs:
            result.tried += 1
            await asyncio.Event().wait()
        if result.is_broken:
            raise PeerUnavailable("the network is broken")
        return await connect(peer, *about)

    monkeypatch.setattr(_Peer, "_connect", connected)
    return result


@asynccontextmanager
async def two(network: Network, backend: Any = None) -> AsyncIterator[Two]:
    """A session at its owner and at another instance."""
    peer = Peer("p")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(backend or peer.gate))
        options = {"keys": (KEY,), "drain": 1}
        backends = {"name": "p", "url": f"{base}/mcp"}
        pair = [
            await stack.enter_async_context(proxied(backends, options=options, **CALM))
            for _ in range(2)
        ]
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        clients = [Raw(instance.url, http) for instance in pair]
        await clients[0].initialize()
        clients[1].session = clients[0].session
        yield Two(peer, pair[0], pair[1], clients[0], clients[1])


async def _is_cancelled(call: "asyncio.Task[httpx2.Response]") -> None:
    answer = await asyncio.wait_for(call, 10)
    assert last(answer)["error"] == CANCELLED


async def test_a_cancellation_arrives_although_the_owner_has_dropped_the_session(
    network: Network,
) -> None:
    async with two(network) as stage:
        await stage.echo()
        now = asyncio.get_running_loop().time()
        stage.registry(stage.owner).reap(now + 2000, 86400.0)
        call = await stage.slow()
        await stage.cancel()
        await _is_cancelled(call)


async def test_a_cancellation_arrives_after_an_earlier_change_has_not(network: Network) -> None:
    async with two(network) as stage:
        await stage.echo()
        call = await stage.slow()
        network.is_broken = True
        assert (await stage.at_owner.post(rpc("logging/setLevel", {"level": "error"}))).is_success
        network.is_broken = False
        await stage.cancel()
        await _is_cancelled(call)


async def test_the_end_of_a_session_reaches_an_instance_that_missed_it(network: Network) -> None:
    async with two(network) as stage:
        await stage.echo()
        network.is_broken = True
        headers = {"mcp-session-id": stage.at_owner.session or ""}
        ended = await stage.at_owner.http.request("DELETE", stage.owner.url, headers=headers)
        assert ended.status_code == 204
        network.is_broken = False
        answer = await stage.at_other.post(rpc("tools/call", {"name": "p_echo"}))
        assert answer.status_code == 404


async def test_an_owner_unreachable_at_first_sends_changes_later(
    network: Network,
) -> None:
    async with two(network) as stage:
        network.is_broken = True
        await stage.echo()
        network.is_broken = False

        async def knows() -> bool:
            await stage.echo()
            live = stage.registry(stage.owner).find(_name(stage))
            return live is not None and bool(live.shared_with)

        await eventually(knows, "the owner to know of the other instance")
        call = await stage.slow()
        await stage.cancel()
        await _is_cancelled(call)


async def test_no_request_waits_for_an_owner_that_was_unavailable(network: Network) -> None:
    async with two(network) as stage:
        network.is_broken = True
        await stage.echo()
        network.hangs = True

        async def tried() -> bool:
            async with asyncio.timeout(5):
                await stage.echo()
            return bool(network.tried)

        await eventually(tried, "another attempt to reach the owner")
        await stage.echo()
        assert network.tried == 1


def _name(stage: Two) -> str:
    """The name of the session inside of the instances."""
    (name,) = stage.registry(stage.other)._live
    assert isinstance(name, str)
    return name


async def test_changes_made_without_the_owner_go_to_the_owner_later(network: Network) -> None:
    """Its stream at the other instance ends, so that the client opens it at the owner."""
    resource = json.dumps({"uri": "file:///a", "name": "a"})
    able = {"resources": {"subscribe": True}}
    backend = Extended("legacy", resources=[resource], capabilities=able).backend
    async with two(network, backend) as stage:
        listed = last(await stage.at_owner.post(rpc("resources/list")))["result"]["resources"]
        uri = listed[0]["uri"]
        network.is_broken = True
        headers = {"accept": "text/event-stream", "mcp-session-id": stage.at_other.session or ""}
        http, url = stage.at_other.http, stage.other.url
        async with http.stream("GET", url, headers=headers) as stream:
            assert stream.status_code == 200
            for change in (
                rpc("resources/subscribe", {"uri": uri}),
                rpc("logging/setLevel", {"level": "error"}),
            ):
                assert "result" in last(await stage.at_other.post(change))
            network.is_broken = False
            async with asyncio.timeout(10):
                await stream.aread()
        live = stage.registry(stage.owner).find(_name(stage))
        assert (live.log_level, list(live.subscriptions)) == ("error", [uri])
        assert not stage.registry(stage.other).find(_name(stage)).subscriptions
        events: list[str] = []

        async def read() -> None:
            async with http.stream("GET", url, headers=headers) as again:
                async for line in again.aiter_lines():
                    events.append(line)  # noqa: PERF401 - a list is extended only at the end

        reading = asyncio.create_task(read())
        await soon(lambda: live.stream, "the stream at the owner")
        backend.broadcast(
            json.dumps({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": "file:///a"}})
        )
        await soon(lambda: UPDATED in "".join(events), "the change")
        reading.cancel()
