"""Proxies as processes of their own, several with one sealing key."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from tests.proxy.runtime.gauges import gauges
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually
from tests.support.builders import a_manifest

COMMAND = str(Path(sys.executable).with_name("mcpproxy"))


@dataclass
class Instance:
    """One process that runs."""

    process: asyncio.subprocess.Process
    port: int
    admin: int
    log: Path

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def resident(self) -> int:
        """Memory that it holds, in KiB (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1])

    def descriptors(self) -> int:
        """Return the number of its open files and sockets (Linux)."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def open_now(self) -> dict[str, float]:
        """Return the gauges of its metrics."""
        return await gauges(f"http://127.0.0.1:{self.admin}")

    async def streams(self) -> float:
        """Return the number of streams of changes that clients hold open."""
        return (await self.open_now())["mcpproxy_client_streams"]


@asynccontextmanager
async def instances(
    directory: Path, count: int, backends: list[dict[str, Any]], **spec: Any
) -> AsyncIterator[list[Instance]]:
    """So many proxies of these backends, ready; they are killed at the end."""
    manifest, keys = prepared(directory, backends, **spec)
    async with AsyncExitStack() as stack:
        results = []
        for number in range(count):
            instance = await started(manifest, keys, directory / f"{number}.log")
            stack.push_async_callback(instance.kill)
            results.append(instance)
        for instance in results:
            await eventually(partial(is_ready, instance), "an instance to be ready")
        yield results


def prepared(directory: Path, backends: list[dict[str, Any]], **spec: Any) -> tuple[Path, Path]:
    """Write the manifest of a proxy and its sealing keys; return their paths."""
    manifest = directory / "mcpproxy.json"
    manifest.write_text(json.dumps(a_manifest(backends=backends, **spec)), encoding="utf-8")
    keys = directory / "sealing"
    keys.mkdir(exist_ok=True)
    (keys / "current").write_bytes(bytes(range(32)))
    return manifest, keys


async def started(manifest: Path, keys: Path, log: Path) -> Instance:
    """Start one process."""
    port, admin = free_port(), free_port()
    arguments = ["-f", manifest, "--port", port, "--admin-port", admin, "--sealing-keys", keys]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            COMMAND, "run", *map(str, arguments), stderr=errors
        )
    return Instance(process, port, admin, log)


async def is_ready(instance: Instance) -> bool:
    """Return True if it is ready. Raise AssertionError if it has ended."""
    assert instance.process.returncode is None, instance.log.read_text()
    async with httpx2.AsyncClient() as http:
        try:
            answer = await http.get(f"http://127.0.0.1:{instance.admin}/readyz")
        except httpx2.TransportError:
            return False
    return answer.status_code == 200
