"""Processes that share the watch of a backend, one of which is killed."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts.ports import ports_in_a_row
from tests.proxy.runtime.crews import COMMAND
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.watchers import WatchedBackend
from tests.support.builders import a_manifest

pytestmark = [*LIVE, pytest.mark.slow, pytest.mark.timeout(120)]
COUNT = 5
SECONDS = 40.0
"""Bound for instances to start, and for another one to watch after a kill (about 20 s)."""


class Process:
    """`mcpproxy run` as one instance of several."""

    def __init__(self, process: asyncio.subprocess.Process, admin: int) -> None:
        self.process = process
        self._admin = admin

    async def _get(self, http: httpx2.AsyncClient, path: str) -> str:
        try:
            return (await http.get(f"http://127.0.0.1:{self._admin}{path}")).text
        except httpx2.TransportError:
            return ""

    async def watches(self, http: httpx2.AsyncClient) -> bool:
        """Return True if this instance watches the backend."""
        text = await self._get(http, "/metrics")
        return re.search(r'^mcpproxy_backend_watches\{backend="p"\} 1', text, re.M) is not None

    async def tools(self, http: httpx2.AsyncClient) -> int:
        """The number of tools that this instance offers."""
        report = json.loads(await self._get(http, "/status") or "{}")
        (backend,) = report.get("backends", [{}])
        return int((backend.get("components") or {}).get("tools") or 0)


async def _started(directory: Path, number: int, url: str, ports: range) -> Process:
    manifest = directory / f"{number}.json"
    content = a_manifest(backends=[{"name": "p", "url": url}])
    await asyncio.to_thread(manifest.write_text, json.dumps(content), encoding="utf-8")
    port, admin = ports[number], ports[COUNT + number]
    arguments: list[Any] = ["-f", manifest, "--port", port, "--admin-port", admin]
    arguments += ["--sealing-keys", directory / "keys"]
    for other in ports[:COUNT]:
        arguments += ["--instances", f"127.0.0.1:{other}"]
    process = await asyncio.create_subprocess_exec(
        COMMAND, "run", *map(str, arguments), stderr=asyncio.subprocess.DEVNULL
    )
    return Process(process, admin)


async def _until(look: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(int(SECONDS / 0.1)):
        if await look():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"in vain waited for {what}")


async def test_a_change_while_a_killed_watcher_is_replaced_reaches_all(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "current").write_bytes(KEY)
    first = ports_in_a_row(2 * COUNT)
    ports = range(first, first + 2 * COUNT)
    backend = WatchedBackend("legacy")
    async with AsyncExitStack() as stack:
        url = f"{await stack.enter_async_context(serving(backend))}/mcp"
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=10))
        running: list[Process] = []
        try:
            for number in range(COUNT):
                running += [await _started(tmp_path, number, url, ports)]

            async def watchers() -> list[Process]:
                return [each for each in running if await each.watches(http)]

            chosen: list[Process] = []

            async def one_watches() -> bool:
                chosen[:] = await watchers()
                return len(chosen) == 1 and backend.streams == 1

            async def all_list_one() -> bool:
                return all([await each.tools(http) == 1 for each in running])

            async def all_list_two() -> bool:
                return all([await each.tools(http) == 2 for each in running])

            await _until(all_list_one, "all instances to list the tool")
            await _until(one_watches, "one instance to watch")
            (watcher,) = chosen
            running.remove(watcher)
            watcher.process.kill()
            await watcher.process.wait()
            # Nobody watches, so no announcement of this tool arrives.
            backend.peer.tools["meanwhile"] = backend.peer.echo
            await _until(one_watches, "another instance to watch")
            await _until(all_list_two, "all instances to list the new tool")
        finally:
            for each in running:
                each.process.kill()
                await each.process.wait()
