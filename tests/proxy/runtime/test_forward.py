"""`forward`: a feature that is false is withdrawn from what the backend sees, in all pairs."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from mcp import Client, MCPError

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import CALM, LIVE, Proxy, Request, proxied, serving
from tests.proxy.runtime.test_asking import User, pairs
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
ASKED = {"roots": "roots", "sampling": "sample", "elicitation": "elicit"}
"""Feature → the tool that asks for it."""
FEATURES = (*ASKED, "logging", "progress")
World = dict[str, tuple[Peer, Proxy]]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def world() -> AsyncIterator[World]:
    """For each era a peer and a proxy that has it once for each feature, without that one."""
    async with AsyncExitStack() as stack:
        result = {}
        for era in ("legacy", "modern"):
            peer = Peer("p", era)
            base = await stack.enter_async_context(serving(peer.gate))
            specs = [
                {"name": name, "url": f"{base}/mcp", "forward": {name: False}} for name in FEATURES
            ]
            running = await stack.enter_async_context(proxied(*specs, **CALM))
            for name in FEATURES:
                await running.until(name, "Healthy")
            result[era] = (peer, running)
        yield result


def _calls(peer: Peer, tool: str) -> list[Request]:
    """The calls of a tool that reached the peer."""
    named = f'"name":"{tool}"'
    return [r for r in peer.gate.seen if r.rpc == "tools/call" and named in r.body.decode()]


async def _fails(client: Client, tool: str) -> bool:
    try:
        return bool((await client.call_tool(tool, {})).is_error)
    except MCPError:
        return True


@pairs
@pytest.mark.parametrize("feature", ASKED)
async def test_a_withdrawn_capability_is_neither_declared_nor_requested_from_the_client(
    world: World, feature: str, mode: str, era: str
) -> None:
    _, running = world[era]
    user = User("Bo")
    async with user.client(running.url, mode) as client:
        seen = json.loads((await client.call_tool(f"{feature}_whoami", {})).content[0].text)  # type: ignore[union-attr]
        assert set(ASKED) & set(seen) == set(ASKED) - {feature}
        assert await _fails(client, f"{feature}_{ASKED[feature]}")
        for other in set(ASKED) - {feature}:
            assert not await _fails(client, f"{feature}_{ASKED[other]}")
    assert user.asked == set(ASKED) - {feature}


@pairs
async def test_withdrawn_logging_is_neither_requested_nor_forwarded(
    world: World, mode: str, era: str
) -> None:
    peer, running = world[era]
    user = User("Bo")
    async with user.client(running.url, mode) as client:
        if mode == "legacy":
            await client.set_logging_level("debug")
        levels = peer.gate.count("logging/setLevel")
        before = len(_calls(peer, "noisy"))
        say = {"say": "x"}
        await client.call_tool("logging_noisy", say, progress_callback=user.on_progress)
        await soon(lambda: len(user.progress) == 2, "progress")
        (call,) = _calls(peer, "noisy")[before:]
    assert user.logs == []
    assert b"logLevel" not in call.body
    assert peer.gate.count("logging/setLevel") == levels


@pairs
async def test_withdrawn_progress_is_neither_requested_nor_forwarded(
    world: World, mode: str, era: str
) -> None:
    peer, running = world[era]
    user = User("Bo")
    async with user.client(running.url, mode) as client:
        if mode == "legacy":
            await client.set_logging_level("debug")
        before = len(_calls(peer, "noisy"))
        say = {"say": "x"}
        await client.call_tool("progress_noisy", say, progress_callback=user.on_progress)
        await soon(lambda: user.logs == ["x"], "the log message")
        (call,) = _calls(peer, "noisy")[before:]
    assert user.progress == []
    assert b"progressToken" not in call.body
