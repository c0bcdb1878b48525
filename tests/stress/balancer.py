"""Plain round robin in front of several instances: nginx, or where it is missing our own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scripts import round_robin
from scripts.machine import ROOT
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually


@asynccontextmanager
async def balanced(directory: Path, ports: list[int]) -> AsyncIterator[str]:
    """The MCP endpoint behind which the instances are."""
    port = free_port()
    command = round_robin.command(directory, port, ports)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        await eventually(lambda: _listens(process, port), "the balancer to serve")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    assert process.returncode is None
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
