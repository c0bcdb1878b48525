"""Notifications of clients reach the backends that their senders may use, and no others."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from tests.proxy.runtime.callers import AUTHENTICATION, Caller, caller, rule, sign_in, token
from tests.proxy.runtime.raw import last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving

pytestmark = LIVE
DEV = token("alice", groups=["dev"])
MALLORY = token("mallory", groups=["none"])
WHOLE = rule("dev", {"groups": ["dev"]}, {"backends": ["a"]})
ONE_TOOL = rule("dev", {"groups": ["dev"]}, {"tools": ["*get"]})


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


@dataclass
class Lenient:
    """A server that serves every message, also requests without an id."""

    served: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    allows: bool = True

    async def serve(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        if request.headers.get("mcp-protocol-version", "") >= "2026":
            return Response("Bad Request: Unsupported protocol version", 400)
        message = json.loads(await request.body())
        self.served.append(message)
        if "id" not in message:
            return Response(status_code=202)
        names = ("get", "erase")
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "lenient", "version": "1"},
            },
            "tools/list": {
                "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]
            },
            "tools/call": {"content": []},
        }
        result = results.get(message["method"], {})
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def decide(self, request: Request) -> Response:
        """Answer a request for a decision."""
        self.asked.append(json.loads(await request.body())["input"])
        return JSONResponse({"result": self.allows})

    def got(self, method: str) -> list[Any]:
        """The params of the messages with a method."""
        return [message.get("params") for message in self.served if message["method"] == method]


@dataclass
class World:
    """A proxy, and callers of it."""

    proxy: Proxy
    http: httpx2.AsyncClient

    async def __call__(self, identity: Any = DEV) -> Caller:
        """Return a caller with an identity."""
        return await caller(self.proxy.url, self.http, "legacy", identity)


@asynccontextmanager
async def world(
    server: Lenient, *backends: str, mode: str | None = "PerClient", **spec: Any
) -> AsyncIterator[World]:
    """A proxy of these backends, which are one server; gives what makes callers."""
    app = Starlette(routes=[Route("/mcp", server.serve, methods=["GET", "POST", "DELETE"])])
    app.add_route("/decide", server.decide, methods=["POST"])
    async with serving(app) as url:
        entries = [
            {"name": name, "url": f"{url}/mcp", **({"session": {"mode": mode}} if mode else {})}
            for name in backends
        ]
        if "authorization" in spec:
            spec["authentication"] = AUTHENTICATION
            if spec["authorization"].get("external"):
                spec["authorization"]["external"] = {"url": f"{url}/decide"}
        async with proxied(*entries, **spec) as proxy, httpx2.AsyncClient(timeout=30) as http:
            yield World(proxy, http)


async def _notify(client: Caller, method: str, /, **params: Any) -> httpx2.Response:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return await client.raw.post(message, **client.headers)


@pytest.mark.parametrize("mode", ["PerClient", None])
@pytest.mark.parametrize("rules", [{}, {"authorization": {"rules": [WHOLE]}}])
@pytest.mark.parametrize("method", ["tools/call", "completion/complete", "tasks/get", "tools/list"])
async def test_a_request_without_an_id_reaches_no_backend(
    mode: str | None, rules: dict[str, Any], method: str
) -> None:
    server = Lenient()
    async with world(server, "a", mode=mode, **rules) as make:
        alice = await make()
        assert last(await alice.send("tools/call", name="a_get", arguments={}))["result"]
        server.served.clear()
        response = await _notify(alice, method, name="erase", arguments={})
        assert response.status_code == 400
        assert f"{method} is a request; send it with an id" in response.text
        batch = [{"jsonrpc": "2.0", "method": method, "params": {"name": "erase"}}, rpc("ping", {})]
        await alice.raw.post(batch, **alice.headers)
        assert server.got(method) == []


async def test_a_caller_who_may_use_nothing_notifies_no_backend_and_opens_no_session() -> None:
    server = Lenient()
    async with world(server, "a", authorization={"rules": [WHOLE]}) as make:
        mallory, alice = await make(MALLORY), await make(DEV)
        server.served.clear()
        for method in ("vendor/run", "notifications/vendor", "notifications/roots/list_changed"):
            await _notify(mallory, method, name="a_get")
        assert server.served == []
        assert (await _notify(mallory, "vendor/run")).status_code == 400
        assert (await _notify(alice, "vendor/run", x=1)).status_code == 202
        assert server.got("vendor/run") == [{"x": 1}]


async def test_a_notification_of_an_extension_may_name_what_its_sender_may_use() -> None:
    server = Lenient()
    async with world(server, "a", "b", authorization={"rules": [ONE_TOOL]}) as make:
        alice = await make(DEV)
        await alice.send("tools/call", name="a_get", arguments={})
        server.served.clear()
        assert (await _notify(alice, "vendor/run", name="a_get")).status_code == 202
        assert server.got("vendor/run") == [{"name": "get"}]
        for params in (
            {"name": "a_erase"},
            {"name": "a_get", "uri": "x://y"},
            {"name": "a_get", "uri": ["x://y"]},
            {"name": ["a_get"]},
            {},
        ):
            assert (await _notify(alice, "vendor/run", **params)).status_code == 400
        assert len(server.got("vendor/run")) == 1


async def test_a_notification_of_an_extension_names_no_tool_that_is_hidden() -> None:
    server = Lenient()
    tools = {"tools": {"exclude": ["erase"]}}
    app = Starlette(routes=[Route("/mcp", server.serve, methods=["GET", "POST", "DELETE"])])
    async with serving(app) as url, httpx2.AsyncClient(timeout=30) as http:
        entry = {"name": "a", "url": f"{url}/mcp", "session": {"mode": "PerClient"}, **tools}
        async with proxied(entry) as proxy:
            client = await caller(proxy.url, http, "legacy", DEV)
            assert (await _notify(client, "vendor/run", name="a_erase")).status_code == 400
            assert (await _notify(client, "vendor/run", name="a_get")).status_code == 202
            assert server.got("vendor/run") == [{"name": "get"}]


async def test_without_rules_a_notification_of_an_extension_reaches_all_backends_as_it_is() -> None:
    server = Lenient()
    async with world(server, "a", "b") as make:
        client = await make(DEV)
        for backend in "ab":
            await client.send("tools/call", name=f"{backend}_get", arguments={})
        assert (await _notify(client, "vendor/hello", name="Ann")).status_code == 202
        assert server.got("vendor/hello") == [{"name": "Ann"}] * 2


async def test_a_notification_of_a_denied_extension_reaches_no_backend() -> None:
    server = Lenient()
    async with world(server, "a", extensions={"deny": ["example.com/vendor"]}) as make:
        client = await make(DEV)
        response = await _notify(client, "vendor/run")
        assert response.status_code == 400
        assert "spec.extensions.deny denies its extension" in response.text
        assert server.got("vendor/run") == []


async def test_the_external_service_decides_on_notifications_of_extensions() -> None:
    server = Lenient()
    external = {"rules": [WHOLE], "external": {"url": "set below"}}
    async with world(server, "a", authorization=external) as make:
        alice = await make(DEV)
        assert (await _notify(alice, "vendor/run", name="a_get")).status_code == 202
        (asked,) = server.asked
        assert (asked["method"], asked["params"]) == ("vendor/run", {"name": "a_get"})
        server.allows = False
        assert (await _notify(alice, "vendor/run", name="a_get")).status_code == 400
        assert len(server.got("vendor/run")) == 1


async def test_notifications_of_extensions_are_counted_and_recorded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = Lenient()
    limits = {"rules": [{"name": "few", "calls": 1, "window": "3600s", "per": "Principal"}]}
    async with world(
        server, "a", limits=limits, audit={}, authorization={"rules": [WHOLE]}
    ) as make:
        alice = await make(DEV)
        for status in (202, 400):
            assert (await _notify(alice, "vendor/run", name="a_get")).status_code == status
        assert len(server.got("vendor/run")) == 1
        await _notify(await make(MALLORY), "vendor/run", name="a_get")
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines() if "audit" in line]
    assert [(record["decision"], record["outcome"]) for record in records] == [
        ("allowed", "ok"),
        ("denied", "limited"),
        ("denied", "rule"),
    ]
    assert {(record["method"], record["name"]) for record in records} == {("vendor/run", "a_get")}


async def test_another_instance_forwards_a_notification_to_the_same_backends_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other instance gets the message of the client, for the calls that it runs."""
    server = Lenient()
    async with world(server, "a", "b", authorization={"rules": [ONE_TOOL]}) as make:
        gateway, alice = make.proxy.runtime.gateway, await make(DEV)
        for name in "ab":
            await alice.send("tools/call", name=f"{name}_get", arguments={})
        client = gateway.routing.restrict(ClientIdentity("2025-11-25", identity=DEV))
        sent: list[Any] = []

        async def notify(name: str, client: Any, message: Any, **_: Any) -> None:
            sent.append((name, jsonrpc.decode(message["params"])))

        for backend in gateway.backends.values():
            monkeypatch.setattr(backend.clients, "notify", partial(notify, backend.name))
        message = jsonrpc.decode_object(jsonrpc.notification("vendor/run", {"name": "a_get"}))
        await gateway.notify_backends(client, message, running_only=True)
        assert sent == [("a", {"name": "get"})]
        hidden = jsonrpc.decode_object(jsonrpc.notification("vendor/run", {"name": "a_erase"}))
        for refused in (hidden, jsonrpc.decode_object(jsonrpc.notification("vendor/run"))):
            with contextlib.suppress(RpcError):
                await gateway.notify_backends(client, refused, running_only=True)
        assert len(sent) == 1
