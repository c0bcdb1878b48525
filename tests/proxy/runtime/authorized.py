"""Proxies with rules of access in front of shelves."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from tests.proxy.runtime.callers import (
    AUTHENTICATION,
    Caller,
    caller,
    token,
)
from tests.proxy.runtime.serving import Proxy, proxied, serving
from tests.proxy.runtime.shelf import Shelf

DEV, OPS = {"groups": ["dev"]}, {"groups": ["ops"]}
ALICE, BOB = token("alice", groups=["dev"]), token("bob", groups=["ops"])
EVERYTHING = {"backends": ["*"]}
READ = {"tools": ["a_get_*"]}


class World:
    """A proxy in front of two shelves, or one."""

    def __init__(self, proxy: Proxy, shelves: list[Shelf], http: httpx2.AsyncClient) -> None:
        self.proxy = proxy
        self.shelves = shelves
        self.http = http

    async def caller(self, era: str, identity: Identity = ANONYMOUS) -> Caller:
        """A caller with an identity."""
        return await caller(self.proxy.url, self.http, era, identity)


@asynccontextmanager
async def worlds(
    *rules: dict[str, Any],
    names: str = "ab",
    backend: dict[str, Any] | None = None,
    authentication: dict[str, Any] | None = AUTHENTICATION,
    shelf: type[Shelf] = Shelf,
    audit: dict[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[World]:
    shelves = [shelf(name) for name in names]
    spec: dict[str, Any] = {"authorization": {"rules": list(rules), **fields}}
    spec |= {"authentication": authentication}
    if audit is not None:
        spec |= {"audit": audit}
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(shelve.gate)) for shelve in shelves]
        pairs = zip(names, urls, strict=True)
        backends = [{"name": n, "url": f"{url}/mcp", **(backend or {})} for n, url in pairs]
        async with proxied(*backends, **spec) as proxy, httpx2.AsyncClient(timeout=30) as http:
            yield World(proxy, shelves, http)
