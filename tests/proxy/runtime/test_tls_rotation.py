"""Authorities and certificates of a backend are replaced while a whole proxy serves."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mcpproxy.proxy.upstream import backend as module
from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.support.authority import Authority
from tests.support.kubelet import Volume

pytestmark = LIVE
HOST = "backend.example"
TOOL = '{"name":"t","inputSchema":{"type":"object"}}'
LOG = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
CALLERS = 4
TLS = {
    "caFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
    "clientCertificateFrom": {"secretRef": {"name": "client"}},
}


@dataclass(frozen=True)
class Pair:
    """Issuers of the certificates that both ends of a connection showed."""

    server: str
    client: str


class Identity:
    """Certificate and trusted issuers of a server, for new connections."""

    def __init__(self, directory: Path) -> None:
        self._chain = directory / "server.pem"
        self.outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.outer.sni_callback = self._choose
        self._inner = self.outer
        self._issuers: dict[ssl.SSLContext, str] = {}
        self.shown: dict[int, Pair] = {}
        """Port of the client → what was shown on its connection."""

    def be(self, issuer: Authority, *trusted: Authority) -> None:
        """A certificate of this issuer; clients need one of the trusted."""
        certificate, key = issuer.issue(HOST)
        self._chain.write_text(key + certificate)
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.outer):
            context.load_cert_chain(self._chain)
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata="".join(item.pem for item in trusted))
            if context is not self.outer:
                self._inner = context
                self._issuers[context] = issuer.name

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._inner

    def made(self, transport: asyncio.BaseTransport) -> None:
        """A connection came about."""
        shown = transport.get_extra_info("peercert")
        issuer = dict(part[0] for part in shown["issuer"])["commonName"]
        server = self._issuers[transport.get_extra_info("ssl_object").context]
        self.shown[transport.get_extra_info("peername")[1]] = Pair(server, issuer)

    @property
    def protocol(self) -> type[HttpToolsProtocol]:
        """HTTP that tells of its connections."""
        identity = self

        class Told(HttpToolsProtocol):
            def connection_made(self, transport: Any) -> None:
                identity.made(transport)
                super().connection_made(transport)

        return Told


class World:
    """A proxy, its mounted values, and a backend that knows on which connection each call came."""

    def __init__(self, directory: Path, era: str) -> None:
        self.old, self.new = Authority("Old"), Authority("New")
        self.identity, self.volume = Identity(directory), Volume(directory / "values")
        self.backend = Backend(era, self._answer, {"tools": [TOOL]})
        self.release = asyncio.Event()
        self.slow: Pair | None = None
        """Certificates of the connection of the waiting call."""
        self.ports: list[int] = []
        """The client's port of each call, in their order."""
        self.url = ""

    def files(self, issuer: Authority, *trusted: Authority) -> dict[str, str]:
        """Return the mounted files for a certificate of this issuer, and the trusted ones."""
        certificate, key = issuer.issue("proxy.example")
        own = {"secret/client/tls.crt": certificate, "secret/client/tls.key": key}
        return {**own, "configmap/ca/ca.crt": "".join(item.pem for item in trusted)}

    def mount(self, issuer: Authority, *trusted: Authority) -> None:
        self.volume.write(self.files(issuer, *trusted))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            port = scope["client"][1]
            scope = {**scope, "headers": [*scope["headers"], (b"x-port", b"%d" % port)]}
        await self.backend(scope, receive, send)

    async def _answer(self, call: Call) -> None:
        port = int(call.received.headers["x-port"])
        if call.message["params"]["arguments"]:
            self.slow = self.identity.shown[port]
            await self.release.wait()
        else:
            self.ports.append(port)
        result = {"jsonrpc": "2.0", "id": call.message["id"], "result": {"content": []}}
        await call.finish(json.dumps(result))

    @asynccontextmanager
    async def proxied(self, directory: Path, **backend: Any) -> AsyncIterator[Proxy]:
        """The proxy, with connections as they are kept in production."""
        served = serving(self, tls=self.identity.outer, http=self.identity.protocol)
        async with served as base:
            resolve = {HOST: base.removeprefix("https://")}
            options = {"values": directory / "values", "resolve": resolve}
            spec = {"name": "t", "url": f"https://{HOST}/mcp", "tls": TLS, **backend}
            async with proxied(spec, options=options) as running:
                self.url = running.url
                yield running

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of the proxy, with a session."""
        async with httpx2.AsyncClient(timeout=30) as http:
            client = Client(http, self.url, "legacy")
            await client.initialize()
            yield client

    async def calling(self, caller: int, stopping: asyncio.Event) -> None:
        """Calls without a pause; fails with the first one that does."""
        async with self.client() as client:
            number = 0
            while not stopping.is_set():
                number += 1
                await call_tool(client, f"{caller}-{number}")

    def settled_on(self, pair: Pair) -> bool:
        """Return True if the last calls all came on connections with these certificates."""
        last = self.ports[-20 * CALLERS :]
        return len(last) == 20 * CALLERS and {self.identity.shown[p] for p in last} == {pair}

    async def settles(self, pair: Pair) -> None:
        """Wait until calls that begin from now on come on such connections alone."""
        self.ports.clear()
        await soon(lambda: self.settled_on(pair), f"connections of {pair}")


async def call_tool(client: Client, number: str, **arguments: Any) -> None:
    """One call that has to succeed."""
    params = {"name": "t_t", "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    *_, last = await client.exchange(json.dumps(message).encode())
    assert "result" in json.loads(last), last


@asynccontextmanager
async def steadily(world: World) -> AsyncIterator[None]:
    """Calls all the time, none of which may fail."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(world.calling(caller, stopping))
        yield
        stopping.set()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are kept as long as ever, but changes are looked for more often."""
    monkeypatch.setattr(module, "REAP_EVERY", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("era", "mode"), [("modern", "Isolated"), ("legacy", "Isolated"), ("legacy", "PerClient")]
)
async def test_connections_that_are_never_idle_move_to_new_certificates_without_failed_calls(
    tmp_path: Path, era: str, mode: str
) -> None:
    world = World(tmp_path, era)
    old, new = world.old, world.new
    world.identity.be(old, old, new)
    world.mount(old, old)
    async with world.proxied(tmp_path, session={"mode": mode}) as running, world.client() as other:
        async with steadily(world):
            await world.settles(Pair("Old", "Old"))
            assert len(set(world.ports)) < len(world.ports) / 2, "connections are used again"
            slow = asyncio.create_task(call_tool(other, "slow", slow=True))
            await soon(lambda: world.slow, "the slow call")
            # The backend begins to know us as another one, then shows another authority itself.
            world.mount(new, old, new)
            await world.settles(Pair("Old", "New"))
            world.identity.be(new, new)
            world.mount(new, new)
            await world.settles(Pair("New", "New"))
        assert not slow.done()
        world.release.set()
        await slow
        assert world.slow == Pair("Old", "Old")
        assert await running.state("t") == "Healthy"


async def test_the_change_stream_is_handed_over_without_a_gap(tmp_path: Path) -> None:
    world = World(tmp_path, "legacy")
    old, new = world.old, world.new
    world.identity.be(old, old, new)
    world.mount(old, old, new)
    async with world.proxied(tmp_path) as running:
        tools = running.runtime.gateway.backends["t"].watch
        await soon(lambda: len(world.backend.streams) == 1, "the stream of changes")
        (before,) = world.backend.sessions
        world.mount(new, new, old)
        await soon(lambda: before not in world.backend.sessions, "the end of the session before")
        await soon(lambda: len(world.backend.streams) == 1, "another stream of changes")
        assert tools.health.finding.state == "Healthy"
        world.backend.lists["tools"].append(TOOL.replace('"t"', '"later"'))
        world.backend.broadcast('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        await soon(lambda: _tools(running) == 2, "the tool that was announced")


async def test_the_separate_session_of_a_client_continues_and_its_stream_stays_open(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, "legacy")
    old, new, backend = world.old, world.new, world.backend
    world.identity.be(old, old, new)
    world.mount(old, old)
    async with world.proxied(tmp_path, session={"mode": "PerClient"}), world.client() as client:
        stream = client.stream()
        assert await anext(stream) == (None, b"200")
        await call_tool(client, "first")
        own = backend.seen[-1].headers["mcp-session-id"]
        await soon(lambda: own in dict(backend.streams), "the stream of the session")
        world.mount(new, old)

        async def anew() -> bool:
            await call_tool(client, "again")
            return world.identity.shown[world.ports[-1]] == Pair("Old", "New")

        await eventually(anew, "a call with the new certificate")
        assert backend.seen[-1].headers["mcp-session-id"] == own
        dict(backend.streams)[own].put_nowait(LOG)
        assert json.loads((await asyncio.wait_for(anext(stream), 15))[1]) == json.loads(LOG)
        await stream.aclose()  # type: ignore[attr-defined]


def _tools(running: Proxy) -> int | None:
    counts = running.runtime.gateway.backends["t"].status().components
    return None if counts is None else counts.tools


async def test_the_last_mount_decides_even_if_it_is_unusable(tmp_path: Path) -> None:
    world = World(tmp_path, "modern")
    world.identity.be(world.old, world.old)
    world.mount(world.old, world.old)
    async with world.proxied(tmp_path) as running, world.client() as client:
        await call_tool(client, "good")
        world.mount(world.new, world.old)
        await running.until("t", "Unhealthy")
        with pytest.raises(AssertionError, match="error"):
            await call_tool(client, "refused")
        world.mount(world.old, world.old)
        await running.until("t", "Healthy")
        await call_tool(client, "good again")
