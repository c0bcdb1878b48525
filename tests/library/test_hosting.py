"""Servers of the library in web applications, and clients of them within the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, assert_type

import httpx2
import pytest
import uvicorn
from mcp import Client, MCPError
from mcp.server.mcpserver import Context
from mcp_types import CreateMessageResult, SamplingMessage, TextContent
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import mcpproxy
from mcpproxy import Identity, Server, create_proxy
from mcpproxy.proxy.embed import asgi
from tests.library.conftest import ERAS, in_its_own_task, names, text
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
ISSUER = "https://login.example.com"


@asynccontextmanager
async def hosted(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application by uvicorn; gives its URL."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", lifespan="on", ws="none", **options)
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())

    async def started() -> bool:
        if task.done():
            task.result()
        return server.started

    await eventually(started, "uvicorn to listen")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def within(server: Server, path: str = "/tools", **options: Any) -> Starlette:
    """A web application that mounts a server beside a route of its own."""
    app = server.http_app(**options)

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/hello", hello), Mount(path, app)], lifespan=app.lifespan)


@pytest.mark.parametrize("mode", ERAS)
async def test_a_web_application_serves_a_mounted_proxy(
    peer: Any, stack: AsyncExitStack, mode: str
) -> None:
    _, url = await peer()
    base = await stack.enter_async_context(hosted(within(create_proxy(url))))
    client = await stack.enter_async_context(
        in_its_own_task(Client(f"{base}/tools/mcp", mode=mode))
    )
    assert "echo" in await names(client)
    assert text(await client.call_tool("echo", {"text": "hi"}))
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{base}/hello")).text == "hello"
        assert (await http.post(f"{base}/tools/other", json={})).status_code == 404


async def test_an_asgi_server_serves_the_application_itself(stack: AsyncExitStack) -> None:
    server = Server("local")
    server.tool(_add)
    base = await stack.enter_async_context(hosted(server.http_app("/api/mcp")))
    client = await stack.enter_async_context(in_its_own_task(Client(f"{base}/api/mcp")))
    assert text(await client.call_tool("_add", {"a": 1, "b": 2})) == "3"


async def test_streams_reach_clients_of_a_mounted_proxy(stack: AsyncExitStack) -> None:
    server = Server("local")
    server.tool(_add)
    base = await stack.enter_async_context(hosted(within(server), timeout_graceful_shutdown=1))
    changed = asyncio.Event()

    async def receive(message: Any) -> None:
        if type(message).__name__ == "ToolListChangedNotification":
            changed.set()

    client = Client(f"{base}/tools/mcp", mode="legacy", message_handler=receive)
    await stack.enter_async_context(in_its_own_task(client))
    assert await names(client) == ["_add"]

    async def notified() -> bool:
        # The stream of notifications opens some time after initialize.
        server.disable(keys={"tool:_add"})
        server.enable(keys={"tool:_add"})
        return changed.is_set()

    await eventually(notified, "a notification")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)],
)
async def test_a_mounted_proxy_checks_host_and_origin(
    stack: AsyncExitStack, headers: dict[str, str], status: int
) -> None:
    base = await stack.enter_async_context(hosted(within(Server("local"))))
    async with httpx2.AsyncClient() as http:
        refused = await http.post(f"{base}/tools/mcp", json={}, headers=headers)
    assert refused.status_code == status


async def test_allowed_hosts_and_origins_of_a_mounted_proxy_are_served(
    stack: AsyncExitStack,
) -> None:
    app = within(
        Server("local"),
        allowed_hosts=["mcp.example.com"],
        allowed_origins=["https://app.example.com"],
    )
    base = await stack.enter_async_context(hosted(app))
    headers = {"host": "mcp.example.com", "origin": "https://app.example.com"}
    async with httpx2.AsyncClient() as http:
        response = await http.post(f"{base}/tools/mcp", json={}, headers=headers)
    assert response.status_code == 400
    assert response.headers["access-control-allow-origin"] == "https://app.example.com"


async def test_a_mounted_proxy_authenticates_and_publishes_its_metadata(
    stack: AsyncExitStack,
) -> None:
    public = "https://mcp.example.com/tools/mcp"
    server = Server(
        "local", public_url=public, authentication={"jwt": [{"issuer": ISSUER, "jwksUrl": ISSUER}]}
    )
    app = server.http_app()
    metadata = "/.well-known/oauth-protected-resource"
    whole = Starlette(routes=[Mount(metadata, app), Mount("/tools", app)], lifespan=app.lifespan)
    base = await stack.enter_async_context(hosted(whole))
    async with httpx2.AsyncClient() as http:
        refused = await http.post(f"{base}/tools/mcp", json={})
        assert refused.status_code == 401
        assert f"{metadata}/tools/mcp" in refused.headers["www-authenticate"]
        published = (await http.get(f"{base}{metadata}/tools/mcp")).json()
    assert (published["resource"], published["authorization_servers"]) == (public, [ISSUER])


async def test_a_request_before_the_lifespan_names_the_remedy() -> None:
    app = Server("local").http_app()
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    with pytest.raises(RuntimeError, match=r"FastAPI\(lifespan=app\.lifespan\)"):
        await app(scope, _never, _never)


async def test_the_lifespan_of_an_application_is_entered_once() -> None:
    app = Server("local").http_app()
    async with app.lifespan():
        with pytest.raises(RuntimeError, match="already running"):
            async with app.lifespan():
                raise AssertionError


async def test_a_server_that_cannot_start_fails_the_lifespan() -> None:
    sent: list[Any] = []
    app = Server("local").http_app(allowed_hosts=["not a host"])
    with pytest.raises(ValueError, match="allowed host"):
        await app({"type": "lifespan"}, _startup, _keep(sent))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "not a host" in sent[0]["message"]


async def test_a_disconnected_client_ends_its_call(peer: Any, stack: AsyncExitStack) -> None:
    server = Server("local")
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    server.tool(hang)
    base = await stack.enter_async_context(hosted(within(server)))
    async with httpx2.AsyncClient() as http:
        call = asyncio.create_task(http.post(f"{base}/tools/mcp", **_modern_call("hang")))
        await asyncio.wait_for(started.wait(), 10)
        call.cancel()
        await asyncio.wait([call])
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_body_in_parts_without_a_length_is_one_request(stack: AsyncExitStack) -> None:
    server = Server("local")
    server.tool(_add)
    base = await stack.enter_async_context(hosted(within(server)))
    call = _modern_call("_add", a=1, b=2)

    async def parts() -> AsyncIterator[bytes]:
        body = httpx2.Request("POST", base, json=call["json"]).content
        for start in range(0, len(body), 10):
            yield body[start : start + 10]

    async with httpx2.AsyncClient() as http:
        headers = {**call["headers"], "content-type": "application/json"}
        response = await http.post(f"{base}/tools/mcp", content=parts(), headers=headers)
    assert response.json()["result"]["content"][0]["text"] == "3"


@pytest.mark.parametrize(
    "header",
    [(b"x-a", b"1\r\nhost: evil"), (b"x\r\na", b"1"), (b"host:", b"a"), (b"", b"a"), (b"a", b"\0")],
)
async def test_an_ambiguous_header_is_refused(header: tuple[bytes, bytes]) -> None:
    app, sent = Server("local").http_app(), list[Any]()
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": [header]}
    async with app.lifespan():
        await app(scope, _never, _keep(sent))
    assert sent[0]["status"] == 400


async def test_a_client_that_does_not_take_a_response_is_disconnected_in_the_end() -> None:
    protocol, taken = _Talker(), asyncio.Event()

    async def send(event: Any) -> None:
        taken.set()
        await asyncio.Event().wait()

    async def receive() -> Any:
        if protocol.requested:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"{}"}

    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    serving = asyncio.create_task(asgi.serve_request(protocol, scope, receive, send))
    await asyncio.wait_for(taken.wait(), 10)
    assert protocol.transport.get_write_buffer_size() > asgi.MAX_UNSENT
    assert protocol.paused
    protocol.transport.abort()
    with pytest.raises(ConnectionAbortedError, match="before it was complete"):
        await asyncio.wait_for(serving, 10)
    assert protocol.lost


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_connects_within_the_process(peer: Any, mode: str) -> None:
    _, url = await peer()
    proxy = create_proxy(url, name="weather", instructions="Ask me.")
    async with proxy.client(mode=mode) as client:
        assert "echo" in await names(client)
        assert text(await client.call_tool("echo", {"text": "hi"}))
        assert client.server_info is not None
        assert client.server_info.name == "weather"
        assert (client.instructions or "").startswith("Ask me.")


async def test_clients_within_the_process_have_separate_sessions(counter: Any) -> None:
    _, url = counter
    servers = {"counter": {"url": url, "session": {"mode": "PerClient"}}}
    server = create_proxy({"mcpServers": servers})
    async with server.client(mode="legacy") as item, server.client(mode="legacy") as other:
        counts = [await client.call_tool("increment", {}) for client in (item, item, other)]
    assert [text(count) for count in counts] == ["1", "2", "1"]


async def test_a_client_within_the_process_answers_the_server() -> None:
    server = Server("local")

    @server.tool
    async def ask(ctx: Context[Any, Any]) -> str:
        message = SamplingMessage(role="user", content=TextContent(text="Well?"))
        answer = await ctx.session.create_message([message], max_tokens=10)
        return str(getattr(answer.content, "text", None))

    async def sample(context: Any, params: Any) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", content=TextContent(text="Yes."), model="m")

    async with server.client(mode="legacy", sampling_callback=sample) as client:
        assert text(await client.call_tool("ask", {})) == "Yes."


async def test_a_client_within_the_process_has_the_identity_of_the_argument() -> None:
    rules = [{"name": "dev", "who": {"groups": ["dev"]}, "may": [{"tools": ["*"]}]}]
    server = Server("local", authorization={"rules": rules})
    server.tool(_add)
    dev = Identity("jwt", issuer=ISSUER, subject="ann", groups=frozenset({"dev"}))
    async with server.client(identity=dev) as client:
        assert await names(client) == ["_add"]
    async with server.client() as client:
        assert await names(client) == []


async def test_a_namespace_is_a_prefix(peer: Any) -> None:
    _, url = await peer()
    server = Server("outer")
    server.mount(url, namespace="weather")
    assert "weather_echo" in [tool.name for tool in await server.list_tools()]
    with pytest.raises(ValueError, match="'a' and namespace 'b' differ"):
        server.mount(url, "a", namespace="b")


@pytest.mark.parametrize("prefix", ["a b!", "ä", "a" * 33, "a/b"])
async def test_a_prefix_that_cannot_be_part_of_a_name_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a name"):
        Server("outer").mount(Server("inner"), prefix)


async def test_a_strict_list_fails_if_one_backend_is_down(peer: Any) -> None:
    _, url = await peer()
    dead = f"http://127.0.0.1:{free_port()}/mcp"
    proxy = create_proxy({"mcpServers": {"alive": {"url": url}, "dead": {"url": dead}}})
    assert "alive_echo" in [tool.name for tool in await proxy.list_tools()]
    with pytest.raises(MCPError, match="dead is"):
        await proxy.list_tools(strict=True)
    complete = create_proxy({"mcpServers": {"alive": {"url": url}}})
    assert await complete.list_tools(strict=True)


def test_dir_shows_the_names_that_a_program_imports() -> None:
    assert {"Proxy", "Server", "create_proxy", "mount"} < set(dir(mcpproxy))
    assert "import_module" not in dir(mcpproxy)


def test_decorators_keep_the_types_of_functions() -> None:
    server = Server("typed")
    added = assert_type(server.tool(_add)(1, 2), int)
    named = assert_type(server.tool("plus", title="Plus")(_add)(1, 2), int)
    assert added == named == assert_type(server.prompt(_add)(1, 2), int) == 3


def _add(a: int, b: int) -> int:
    return a + b


class _Talker(asyncio.Protocol):
    """A connection of a server that responds to everything with a large body."""

    transport: Any = None
    requested = paused = lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.requested = True
        size = 2 * asgi.MAX_UNSENT
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        self.transport.write(b"a" * size)

    def pause_writing(self) -> None:
        self.paused = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def _modern_call(name: str, **arguments: Any) -> dict[str, Any]:
    """The arguments of a POST that calls a tool in the era without sessions."""
    revision, prefix = "2026-07-28", "io.modelcontextprotocol/"
    meta = {
        f"{prefix}protocolVersion": revision,
        f"{prefix}clientInfo": {"name": "test", "version": "1"},
        f"{prefix}clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        "headers": {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": revision,
            "mcp-method": "tools/call",
            "mcp-name": name,
        },
    }


async def _never(*arguments: Any) -> Any:
    raise AssertionError


async def _startup() -> Any:
    return {"type": "lifespan.startup"}


def _keep(sent: list[Any]) -> Any:
    async def send(event: Any) -> None:
        sent.append(event)

    return send
