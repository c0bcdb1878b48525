"""The library calls backends with the identity that a manifest states."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from mcp import Client

from mcpproxy.library.create import create_proxy
from mcpproxy.proxy.config.options import RuntimeOptions
from tests.library.conftest import served
from tests.proxy.runtime.granting import CLIENT, SECRET, demanding, granting
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE
from tests.support.authority import Mounted
from tests.support.builders import a_manifest

pytestmark = LIVE


@pytest_asyncio.fixture(loop_scope="session")
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends everything that a test started, in reverse order."""
    async with AsyncExitStack() as result:
        yield result


async def test_a_proxy_of_the_library_gets_tokens_as_a_pod_does(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = await stack.enter_async_context(granting())
    backend = await stack.enter_async_context(demanding(Peer("p").gate, grants))
    Mounted(tmp_path / "values").write("secret/as/secret", SECRET)
    # As in a pod, whose values are in a fixed directory.
    options = functools.partial(RuntimeOptions, values=tmp_path / "values")
    monkeypatch.setattr("mcpproxy.library.server.RuntimeOptions", options)
    entry = {"name": "p", "url": backend.url, "prefix": ""}
    entry["auth"] = {"clientCredentials": grants.spec()}  # type: ignore[assignment]
    manifest = tmp_path / "proxy.yaml"
    manifest.write_text(json.dumps(a_manifest(backends=[entry])))
    async with served(create_proxy(manifest)) as url, Client(url) as client:
        result = await client.call_tool("echo", {"who": "x"})
    assert not result.is_error
    assert backend.calls == [(CLIENT, "x")]
