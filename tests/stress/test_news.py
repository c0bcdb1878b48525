"""A tool added on a backend is seen by clients of a process in under a second."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.stress.chatter import Chatter
from tests.stress.instances import Instance, instances

pytestmark = [*LIVE, pytest.mark.timeout(120), pytest.mark.slow]
eras = pytest.mark.parametrize("era", ["legacy", "modern"])
WITHIN = 1.0
ADDED = json.dumps({"name": "added", "inputSchema": {"type": "object"}})
CHANGED = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})


async def _started(stack: AsyncExitStack, directory: Path, era: str) -> tuple[Chatter, Instance]:
    chatter = Chatter(era, "a")
    base = await stack.enter_async_context(serving(chatter.backend))
    spec = {"name": "a", "url": f"{base}/mcp"}
    (proxy,) = await stack.enter_async_context(instances(directory, 1, [spec]))
    await soon(lambda: chatter.backend.streams, "the proxy to listen to the backend")
    return chatter, proxy


def _add(chatter: Chatter) -> None:
    chatter.backend.lists["tools"].append(ADDED)
    chatter.backend.broadcast(CHANGED)


async def _listening(proxy: Instance) -> bool:
    return await proxy.streams() == 1


async def _lists_it(client: Client) -> bool:
    return "a_added" in [tool.name for tool in (await client.list_tools()).tools]


@eras
async def test_a_legacy_client_is_notified_of_a_new_tool_on_its_stream(
    tmp_path: Path, era: str
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy = await _started(stack, tmp_path, era)
        told = asyncio.Event()

        async def handle(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/tools/list_changed":
                told.set()

        client = Client(proxy.url, mode="legacy", message_handler=handle)
        await stack.enter_async_context(client)
        assert not await _lists_it(client)
        await eventually(lambda: _listening(proxy), "the client to listen")
        _add(chatter)
        async with asyncio.timeout(WITHIN):
            await told.wait()
            assert await _lists_it(client)


@eras
async def test_a_listening_modern_client_is_notified_of_a_new_tool(
    tmp_path: Path, era: str
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy = await _started(stack, tmp_path, era)
        client = await stack.enter_async_context(Client(proxy.url, mode="2026-07-28"))
        assert not await _lists_it(client)
        events = await stack.enter_async_context(client.listen(tools_list_changed=True))
        _add(chatter)
        async with asyncio.timeout(WITHIN):
            event = await anext(aiter(events))
            assert "Tools" in type(event).__name__
            assert await _lists_it(client)
