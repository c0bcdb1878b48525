"""Plain round robin in front of several instances: nginx, or where it is missing our own."""

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.proxy.byhand import served
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually

_CONFIG = """
daemon off; pid nginx.pid; worker_processes 1; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 32m; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream instances {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://instances; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 300s;
    }}
  }}
}}
"""


@asynccontextmanager
async def balanced(directory: Path, ports: list[int]) -> AsyncIterator[str]:
    """The MCP endpoint behind which the instances are."""
    program = shutil.which("nginx")
    if program is None:
        async with _forwarded(ports) as port:
            yield f"http://127.0.0.1:{port}/mcp"
        return
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{one};" for one in ports)
    config = directory / "nginx.conf"
    config.write_text(_CONFIG.format(servers=servers, port=port), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(directory), "-c", str(config), "-e", "stderr"
    )
    try:
        await eventually(lambda: _listens(process, port), "nginx to serve")
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


@asynccontextmanager
async def _forwarded(ports: list[int]) -> AsyncIterator[int]:
    """Each connection goes to the next instance; clients are to open one for each request."""
    turn = itertools.cycle(ports)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", next(turn))
        await asyncio.gather(_copied(reader, back), _copied(there, writer))

    async with served(forward) as port:
        yield port


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    target.close()
