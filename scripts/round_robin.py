"""Round robin over several ports, for each request: nginx, or a balancer of our own.

python -m scripts.round_robin PORT TARGET [TARGET ...]    runs our own, if nginx is missing
"""

import asyncio
import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx2
import uvicorn
from starlette.types import Message, Receive, Scope, Send

_CONFIG: Final = """
daemon off; pid nginx.pid; worker_processes 1; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 32m; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream instances {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://instances; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 300s;
    }}
  }}
}}
"""
_HOP: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})


def program() -> str:
    """Return the name of the balancer on this machine."""
    return "nginx" if shutil.which("nginx") else "a balancer of our own (there is no nginx)"


def command(directory: Path, port: int, targets: Sequence[int]) -> list[str]:
    """Return the command line, for the root of the repository; nginx has its files in
    `directory`."""
    nginx = shutil.which("nginx")
    if nginx is None:
        numbers = map(str, (port, *targets))
        return [sys.executable, "-m", "scripts.round_robin", *numbers]
    servers = " ".join(f"server 127.0.0.1:{target};" for target in targets)
    config = directory / "nginx.conf"
    config.write_text(_CONFIG.format(servers=servers, port=port), encoding="utf-8")
    return [nginx, "-p", os.fspath(directory), "-c", os.fspath(config), "-e", "stderr"]


class RoundRobin:
    """An ASGI app that sends each request to the next target and relays its response."""

    def __init__(self, targets: Sequence[str], http: httpx2.AsyncClient) -> None:
        """Create the app. Targets are base URLs."""
        self._turn = itertools.cycle(targets)
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request. If the client disconnects, the request to the target ends."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        relaying = asyncio.create_task(self._relay(scope, body, send))
        disconnecting = asyncio.create_task(_disconnected(receive))
        await asyncio.wait((relaying, disconnecting), return_when=asyncio.FIRST_COMPLETED)
        for task in (relaying, disconnecting):
            task.cancel()
        await asyncio.gather(relaying, disconnecting, return_exceptions=True)
        if not relaying.cancelled():
            relaying.result()

    async def _relay(self, scope: Scope, body: bytes, send: Send) -> None:
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        url = next(self._turn) + (f"{path}?{query}" if query else path)
        # httptools keeps the whitespace around a value, which is not part of it (RFC 9110, 5.5).
        headers = [(name, v.strip(b" \t")) for name, v in scope["headers"] if name not in _HOP]
        request = self._http.build_request(scope["method"], url, headers=headers, content=body)
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.TransportError:
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await send(_start(response))
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


def _start(response: httpx2.Response) -> Message:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    forwarded = [pair for pair in headers if pair[0] not in _HOP - {b"content-length"}]
    return {"type": "http.response.start", "status": response.status_code, "headers": forwarded}


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        part = await receive()
        parts.append(part.get("body", b""))
        more = part.get("more_body", False)
    return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve(port: int, targets: Sequence[int]) -> None:
    """Serve until stopped by a signal."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx2.AsyncClient(timeout=None, limits=limits) as http:
        app = RoundRobin([f"http://127.0.0.1:{target}" for target in targets], http)
        config = uvicorn.Config(app, port=port, lifespan="off", log_level="error", ws="none")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    own, *others = map(int, sys.argv[1:])
    asyncio.run(serve(own, others))
