"""Fixtures of tests against a whole runtime."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.runtime.asserting import Enterprise, asserting
from tests.proxy.runtime.granting import SECRET, Grants, granting
from tests.proxy.runtime.identities import Stage
from tests.proxy.runtime.issuing import IssuerServer, issuing
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import CALM, Proxy, proxied, serving
from tests.support.authority import Mounted

Start = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="session")
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends everything that a test started, in reverse order."""
    async with AsyncExitStack() as result:
        yield result


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def eras() -> AsyncIterator[dict[str, tuple[Peer, Proxy]]]:
    """For each era a peer and a proxy in front of it, for tests that change neither."""
    async with AsyncExitStack() as stack:
        result = {}
        for era in ("legacy", "modern", "dual"):
            peer = Peer("p", era)
            base = await stack.enter_async_context(serving(peer.gate))
            # Tests leave calls in flight, for which a proxy that ends would wait.
            options = {"drain": 1}
            proxy = proxied({"name": "p", "url": f"{base}/mcp"}, options=options, **CALM)
            peer.url = f"{base}/mcp"
            result[era] = (peer, await stack.enter_async_context(proxy))
        yield result


@pytest.fixture
def shared(eras: dict[str, tuple[Peer, Proxy]], era: str) -> tuple[Peer, Proxy]:
    """The peer of the test's era, as it was at first, and the proxy in front of it."""
    peer, proxy = eras[era]
    for event in (peer.started, peer.cancelled, peer.release):
        event.clear()
    return peer, proxy


@pytest.fixture
def peer(stack: AsyncExitStack) -> Start:
    """Starts a peer of an era; gives it and its URL."""

    async def start(name: str = "peer", era: str = "dual", port: int = 0) -> tuple[Peer, str]:
        result = Peer(name, era)
        base = await stack.enter_async_context(serving(result.gate, port))
        return result, f"{base}/mcp"

    return start


@pytest.fixture
def proxy(stack: AsyncExitStack) -> Start:
    """Starts a proxy in front of backends."""

    async def start(*backends: dict[str, Any], **spec: Any) -> Proxy:
        return await stack.enter_async_context(proxied(*backends, **spec))

    return start


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client."""
    async with httpx2.AsyncClient(timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def issuer(stack: AsyncExitStack) -> IssuerServer:
    """An issuer of tokens."""
    return await stack.enter_async_context(issuing())


@pytest.fixture
def guarded(peer: Start, proxy: Start, issuer: IssuerServer) -> Start:
    """Starts a peer and a proxy that accepts tokens of the issuer."""

    async def start(**more: Any) -> tuple[Peer, Proxy]:
        server, url = await peer("p")
        spec = issuer.spec()
        spec["authentication"] |= more.pop("authentication", {})
        backend = {"name": "p", "url": url, "prefix": "", **more.pop("backend", {})}
        return server, await proxy(backend, **spec, **more)

    return start


@pytest_asyncio.fixture(loop_scope="session")
async def grants(stack: AsyncExitStack) -> Grants:
    """An authorization server for backends."""
    return await stack.enter_async_context(granting())


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """The values of a proxy, with the secret of its client."""
    values = Mounted(tmp_path)
    values.write("secret/as/secret", SECRET)
    return values


@pytest.fixture
def stage(stack: AsyncExitStack, grants: Grants, mounted: Mounted) -> Stage:
    """Parts of a proxy with an authorization server."""
    return Stage(stack, grants, mounted)


@pytest_asyncio.fixture(loop_scope="session")
async def enterprise(
    stage: Stage, issuer: IssuerServer, stack: AsyncExitStack
) -> AsyncIterator[Enterprise]:
    """An identity provider, and a backend whose authorization server trusts it."""
    async with asserting(issuer) as provider:
        yield Enterprise(stage, provider, stack)
