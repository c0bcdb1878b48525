"""Names of two backends that meet: who serves them is what `names.onClash` says."""

from typing import Any

import pytest
from mcp import Client, MCPError

from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
NAME = "a_b_c"


async def _behind(proxy: Any, peer: Any, **spec: Any) -> Any:
    """A proxy of tool b_c with the prefix a, and of tool c with the prefix a_b."""
    backends = []
    for name, prefix, tool in (("one", "a", "b_c"), ("two", "a_b", "c")):
        server, url = await peer(name)
        server.tools = {tool: server.whoami}
        backends.append({"name": name, "prefix": prefix, "url": url})
    running = await proxy(*backends, **spec)
    for name in ("one", "two"):
        await running.until(name, "Healthy")
    return running


async def test_a_conflicting_name_is_served_as_the_spec_defines(proxy: Any, peer: Any) -> None:
    running = await _behind(proxy, peer, names={"onClash": "Fail"})
    async with Client(running.url, mode="legacy") as client:
        assert NAME not in [tool.name for tool in (await client.list_tools()).tools]
        with pytest.raises(MCPError, match=f"the backends one, two all list {NAME}"):
            await client.call_tool(NAME, {})
    report = await running.report()
    assert report.clashes == [
        f"tools: {NAME} is offered by the backends one, two and served by none of them"
    ]
    first = await _behind(proxy, peer, names={"onClash": "First"})
    async with Client(first.url, mode="legacy") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [NAME]
        assert not (await client.call_tool(NAME, {})).is_error


async def test_two_names_that_meet_are_warned_of_and_the_first_backend_serves_them(
    proxy: Any, peer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = await _behind(proxy, peer)
    told = f"tools: {NAME} of backend two is hidden by backend one"
    await soon(lambda: told in caplog.text, "the warning")
    assert (await running.report()).clashes == [told]
    async with Client(running.url, mode="2026-07-28") as client:
        assert not (await client.call_tool(NAME, {})).is_error
