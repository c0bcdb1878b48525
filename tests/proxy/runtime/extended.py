"""Backends with extensions, by hand, and clients that speak of them."""

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.serving import Proxy, proxied, serving

TASKS = "io.modelcontextprotocol/tasks"
APPS = "io.modelcontextprotocol/ui"
SKILLS = "io.modelcontextprotocol/skills"
Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes params; gives a result, or an error in the member `error`."""


def tool(name: str, **members: Any) -> str:
    """A tool as JSON."""
    return json.dumps({"name": name, "inputSchema": {"type": "object"}, **members})


@dataclass
class Extended:
    """A backend that answers by a handler for each method."""

    era: str = "modern"
    extensions: dict[str, Any] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    tools: list[str] = field(default_factory=lambda: [tool("t")])
    resources: list[str] = field(default_factory=list)
    capabilities: dict[str, Any] = field(default_factory=dict)
    """Besides extensions."""
    hangs: set[str] = field(default_factory=set)
    """Methods that are never answered."""
    backend: Backend = field(init=False)

    def __post_init__(self) -> None:
        """Make the server."""
        lists = {"tools": self.tools, "resources": self.resources}
        offered = {"extensions": self.extensions} if self.extensions else {}
        offered |= self.capabilities
        self.backend = Backend(self.era, self._answer, lists, capabilities=offered)

    async def _answer(self, call: Call) -> None:
        method = call.message["method"]
        if method in self.hangs:
            await asyncio.Event().wait()
        handler = self.handlers.get(method)
        unknown = {"error": {"code": -32601, "message": f"method not found: {method}"}}
        result = handler(call.message.get("params", {})) if handler else unknown
        answer = result if "error" in result else {"result": result}
        await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], **answer}))

    def headers(self, method: str) -> list[dict[str, str]]:
        """The headers of all requests of a method."""
        return [item.headers for item in self.backend.seen if item.message["method"] == method]

    def params(self, method: str) -> list[dict[str, Any]]:
        """The params of all requests of a method, without `_meta`."""
        results = [item.message for item in self.backend.seen if item.message["method"] == method]
        return [{k: v for k, v in m.get("params", {}).items() if k != "_meta"} for m in results]

    def declared(self, method: str) -> list[Any]:
        """The extensions that clients declared with requests of a method."""
        key = "io.modelcontextprotocol/clientCapabilities"
        results = [item.message for item in self.backend.seen if item.message["method"] == method]
        return [m["params"]["_meta"][key].get("extensions") for m in results]


@dataclass
class Asker:
    """A client that speaks plain JSON."""

    client: Client
    extensions: dict[str, Any]
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def messages(self, method: str, params: dict[str, Any] | None = None) -> list[Any]:
        """All messages of the answer to a request."""
        value = dict(params or {})
        if self.client.era == "modern":
            value["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {"extensions": self.extensions},
            }
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": value}
        return [json.loads(m) for m in await self.client.exchange(json.dumps(message).encode())]

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response to a request."""
        result: dict[str, Any] = (await self.messages(method, params))[-1]
        return result

    async def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a request that succeeds."""
        answer = await self.ask(method, params)
        assert "result" in answer, answer
        actual: dict[str, Any] = answer["result"]
        return actual

    async def error(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The error of a request that fails."""
        answer = await self.ask(method, params)
        assert "error" in answer, answer
        result: dict[str, Any] = answer["error"]
        return result


@dataclass
class World:
    """Backends behind proxies."""

    stack: AsyncExitStack
    http: httpx2.AsyncClient
    specs: list[dict[str, Any]] = field(default_factory=list)

    async def add(self, name: str, extended: Extended, **fields: Any) -> Extended:
        """Serve a backend."""
        url = await self.stack.enter_async_context(serving(extended.backend)) + "/mcp"
        self.specs.append({"name": name, "url": url, **fields})
        return extended

    async def proxy(self, **spec: Any) -> Proxy:
        """A proxy in front of all of them."""
        return await self.stack.enter_async_context(proxied(*self.specs, **spec))

    async def asker(
        self, running: Proxy, era: str = "modern", who: str = "ann", **extensions: Any
    ) -> Asker:
        """A client that declares these extensions, all three when none is named."""
        client = Client(self.http, running.url, era, {"authorization": f"Bearer {who}"})
        declared = extensions or {"extensions": {TASKS: {}, APPS: {}, SKILLS: {}}}
        if era == "legacy":
            await client.initialize(json.dumps({"extensions": declared["extensions"]}))
        return Asker(client, declared["extensions"])


async def settled(running: Proxy) -> None:
    """Wait until all backends have listed what they have."""
    for backend in running.runtime.gateway.backends.values():
        await backend.watch.settled.wait()


def a_skill(path: str, *files: str) -> dict[str, Any]:
    """A skill as a backend lists it."""
    uris = [f"skill://{path}/{name}" for name in ("SKILL.md", *files)]
    resources = [{"uri": uri, "digest": "sha256:" + "0" * 64, "size": 7} for uri in uris]
    front = {"name": path.rpartition("/")[2], "description": f"Reads skill://{path}/SKILL.md."}
    return {"uri": uris[0], "frontmatter": front, "resources": resources}


def with_skills(era: str, *pages: list[dict[str, Any]], **extension: Any) -> Extended:
    """A backend with pages of skills."""

    def listed(params: dict[str, Any]) -> dict[str, Any]:
        page = int(params.get("cursor", 0))
        more = {"nextCursor": str(page + 1)} if page + 1 < len(pages) else {}
        return {"skills": pages[page], "ttlMs": 60000, "cacheScope": "public", **more}

    def got(params: dict[str, Any]) -> dict[str, Any]:
        for skill in (skill for page in pages for skill in page):
            if skill["uri"] == params["uri"]:
                return {"skill": skill, "ttlMs": 60000, "cacheScope": "public"}
        return {"error": {"code": -32602, "message": "unknown skill"}}

    return Extended(
        era,
        {SKILLS: extension},
        {
            "skills/list": listed,
            "skills/get": got,
            "resources/directory/read": lambda params: {
                "resources": [{"uri": params["uri"] + "/x.md", "name": "x.md"}],
                "nextCursor": "theirs",
            },
            "resources/read": lambda params: {
                "contents": [{"uri": params["uri"], "text": "# skill://git/SKILL.md\r\n"}]
            },
        },
    )
