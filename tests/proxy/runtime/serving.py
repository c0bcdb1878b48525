"""Real servers and a real proxy in this process, on ports of the loopback interface."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import uvicorn
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcpproxy.api import manifest
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.runtime import Runtime
from mcpproxy.proxy.sockets import AdminServer
from scripts.ports import ports_in_a_row
from tests.proxy.runtime.waiting import BOUND, eventually, soon
from tests.support.builders import an_mcpproxy

INTERVAL = "200ms"
CALM: Final = {"health": {"interval": "1m"}}
"""Spec of a proxy that many tests share: its checks would take more time than the tests."""
BUSY: Final = {"health": {"interval": "50ms", "timeout": "2s", "unhealthyAfter": 1}}
"""Spec of a proxy whose checks are counted or awaited."""
LIVE = [
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
    pytest.mark.asyncio(loop_scope="session"),
]
"""Marks of every module here: one event loop, so that tests can share servers."""
MODERN = b"2026-07-28"
GRACE: Final = 0.25
"""Seconds that a server which ends gives its connections: only streams are open by then."""


def bound(port: int = 0) -> socket.socket:
    """A socket that listens."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except (OSError, OverflowError):
        sock.close()
        raise
    sock.listen(128)
    sock.setblocking(False)
    return sock


def free_port() -> int:
    """A port that nobody uses now, and that no connection will get meanwhile."""
    return ports_in_a_row(1)


class PromptServer(uvicorn.Server):
    """uvicorn's server, which ends as soon as its connections do and not some tenths later."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await soon(lambda: not (state.connections or state.tasks), "the end", 0.002)
                for server in self.servers:
                    await server.wait_closed()
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


class PromptAdminServer(AdminServer, PromptServer):
    """The server of the admin port, which ends at once when it is told to."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._ending = asyncio.Event()

    def end(self) -> None:
        super().end()
        self._ending.set()

    async def main_loop(self) -> None:
        await self._ending.wait()


@asynccontextmanager
async def serving(
    app: Any, port: int = 0, tls: ssl.SSLContext | None = None, http: Any = "auto"
) -> AsyncIterator[str]:
    """Serve an ASGI app, over TLS where that is given; gives its base URL.

    `http` is uvicorn's protocol class.
    """
    sock = bound(port)
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="none",
        # On a busy machine, connections must not end between two requests.
        timeout_keep_alive=60,
        http=http,
    )
    config.load()
    config.ssl = tls
    server = PromptServer(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        # What was accepted just now belongs to the server before it closes: Python 3.11 would
        # lose it.
        asyncio.get_running_loop().remove_reader(sock)
        await asyncio.sleep(0)
        await server.shutdown(sockets=[sock])
        sock.close()


@dataclass
class Request:
    """One HTTP request as a backend got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def rpc(self) -> str | None:
        """The JSON-RPC method."""
        result = json.loads(self.body) if self.body else {}
        method: str | None = result.get("method") if isinstance(result, dict) else None
        return method


@dataclass
class Gate:
    """An app seen through a gate: records requests, pretends to be of one era, or fails."""

    app: ASGIApp
    era: str = "dual"
    status: int | None = None
    """Answer everything with this HTTP status."""
    seen: list[Request] = field(default_factory=list)

    def count(self, method: str) -> int:
        """Return the number of requests of this JSON-RPC method."""
        return sum(request.rpc == method for request in self.seen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = Request(scope["method"], scope["path"], headers)
        self.seen.append(request)

        async def recorded() -> Message:
            message = await receive()
            request.body += message.get("body", b"")
            return message

        refusal = self._refusal(dict(scope["headers"]).get(b"mcp-protocol-version", b""), scope)
        await (refusal or self.app)(scope, recorded, send)

    def _refusal(self, version: bytes, scope: Scope) -> ASGIApp | None:
        if self.status is not None:
            return PlainTextResponse("no", self.status)
        if self.era == "legacy" and version >= MODERN:
            return PlainTextResponse("Bad Request: Unsupported protocol version", 400)
        if self.era == "modern" and scope["method"] != "POST":
            return PlainTextResponse("", 405, headers={"Allow": "POST"})
        if self.era == "modern" and version < MODERN:
            error = {"code": -32020, "message": "MCP-Protocol-Version: 2026-07-28 required"}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)
        return None


@dataclass
class Proxy:
    """A proxy that runs."""

    runtime: Runtime
    base: str
    admin: str
    serving: "asyncio.Task[None]"

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        return f"{self.base}/mcp"

    async def report(self) -> PodReport:
        """Return its report."""
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"{self.admin}/status")
        return PodReport.model_validate_json(answer.content)

    async def state(self, backend: str) -> str:
        """The state of one backend."""
        report = await self.report()
        return next(result.state for result in report.backends if result.name == backend)

    async def until(self, backend: str, state: str) -> None:
        """Wait until a backend is in a state."""

        async def there() -> bool:
            # The report of the admin port says the same, but takes a client and a connection.
            reports = self.runtime.report().backends
            is_there = any(item.name == backend and item.state == state for item in reports)
            return is_there and await self.state(backend) == state

        await eventually(there, f"{backend} to be {state}")

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self.runtime.stop()
        await self.serving


def configuration(*backends: dict[str, Any], **spec: Any) -> ProxyConfig:
    """A configuration of these backends, checked often: what the pods of such a proxy mount."""
    health = {"interval": INTERVAL, "timeout": "2s", "unhealthyAfter": 1}
    spec = {"health": health, **spec, "backends": list(backends)}
    mounted = json.loads(manifest.runtime_manifest(an_mcpproxy(**spec)))
    return ProxyConfig(manifest.parse(mounted), "0" * 64, Path.cwd())


@asynccontextmanager
async def proxied(
    *backends: dict[str, Any], options: dict[str, Any] | None = None, **spec: Any
) -> AsyncIterator[Proxy]:
    """A proxy in front of these backends, from its first round on."""
    chosen = {"port": free_port(), "admin_port": free_port(), **(options or {})}
    port, admin = chosen["port"], chosen["admin_port"]
    value = RuntimeOptions(**chosen)
    runtime = Runtime(configuration(*backends, **spec), value, admin_server=PromptAdminServer)
    serves = asyncio.Event()
    task = asyncio.create_task(runtime.serve_http(serves.set))
    proxy = Proxy(runtime, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", task)
    try:
        await _first(serves, task)
        await runtime.gateway.aggregate.settled()
        yield proxy
    finally:
        await proxy.stop()


async def _first(event: asyncio.Event, task: "asyncio.Task[None]") -> None:
    """Wait for an event, or raise what the task of which it is expected raised."""
    waiting = asyncio.create_task(event.wait())
    async with asyncio.timeout(BOUND):
        await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
