"""A backend that forgets its sessions: no client sees more of it than that its state is gone."""

from collections import Counter
from typing import Any

import pytest
from mcp import Client
from starlette.responses import Response

from tests.proxy.runtime.forgetful import TOOLS, Forgetful
from tests.proxy.runtime.serving import BUSY, LIVE, serving
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
WAYS = {
    "404": (404, None),
    "400": (400, None),
    "400 with an error": (400, -32000),
    "401": (401, None),
    "403": (403, None),
    "410": (410, None),
    "200 with an error": (200, -32600),
    "200 with invalid params": (200, -32602),
    "200 with an error of its own": (200, -32001),
}
MODES = ["Isolated", "PerClient", "Reused"]


async def _told(client: Client) -> str:
    result = await client.call_tool("p_count", {})
    assert not result.is_error
    text: str = result.content[0].text  # type: ignore[union-attr]
    return text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
async def test_a_forgotten_session_is_replaced_after_any_form_of_refusal(
    proxy: Any, stack: Any, way: str, mode: str
) -> None:
    server = Forgetful(*WAYS[way])
    base = await stack.enter_async_context(serving(server))
    session = {"mode": mode, "stateless": True} if mode == "Reused" else {"mode": mode}
    running = await proxy(
        {"name": "p", "url": f"{base}/mcp", "session": session},
        health={"interval": "1h", "unhealthyAfter": 1},
    )
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        await _told(client)
        for _ in range(2):
            server.forget()
            executed = server.executed
            assert await _told(client) == "1"
            assert server.executed == executed + 1
    assert await running.state("p") == "Healthy"


@pytest.mark.parametrize("way", WAYS)
async def test_a_check_finds_out_that_its_session_is_lost_and_gets_a_new_one(
    proxy: Any, stack: Any, way: str
) -> None:
    server = Forgetful(*WAYS[way])
    base = await stack.enter_async_context(serving(server))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    await running.until("p", "Healthy")
    server.forget()
    server.tools = [*TOOLS, {"name": "another", "inputSchema": {"type": "object"}}]
    async with Client(running.url, mode="legacy") as client:

        async def listed() -> bool:
            result = await client.list_tools()
            return "p_another" in {tool.name for tool in result.tools}

        await eventually(listed, "the new list")
    assert await running.state("p") == "Healthy"


async def test_an_error_of_a_tool_is_forwarded_and_executed_once(proxy: Any, stack: Any) -> None:
    server = Forgetful(200, -32600)
    base = await stack.enter_async_context(serving(server))
    running = await proxy(
        {"name": "p", "url": f"{base}/mcp"}, health={"interval": "1h", "unhealthyAfter": 1}
    )
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        before = server.asked.count("prompts/get")
        with pytest.raises(Exception, match="prompts/get fails"):
            await client.get_prompt("p_none")
        assert server.asked.count("prompts/get") == before + 1


async def test_a_backend_that_refuses_pings_alone_is_healthy_and_keeps_its_session(
    proxy: Any, stack: Any
) -> None:
    server = Forgetful()
    server.pings_known = False
    base = await stack.enter_async_context(serving(server))
    running = await proxy({"name": "p", "url": f"{base}/mcp"}, **BUSY)
    await running.until("p", "Healthy")

    async def pinged() -> bool:
        return server.asked.count("ping") >= 4

    await eventually(pinged, "some checks")
    assert server.opened == 1
    assert await running.state("p") == "Healthy"


async def test_a_backend_whose_sessions_respond_only_with_errors_is_not_healthy(
    proxy: Any, stack: Any
) -> None:
    server = Forgetful(200, -32603)
    base = await stack.enter_async_context(serving(server))
    running = await proxy({"name": "p", "url": f"{base}/mcp"})
    await running.until("p", "Healthy")
    server.forget()
    server._served = lambda session, method, own: server._refused(own)  # type: ignore[method-assign]
    await running.until("p", "Unhealthy")


class ShortLived(Forgetful):
    """Forgets each session after four requests, though there are four lists and `initialized`."""

    def __init__(self, *refusal: Any) -> None:
        super().__init__(*refusal)
        self.capabilities = {"tools": {}, "prompts": {}, "resources": {}}
        self.served: Counter[str] = Counter()

    def _served(self, session: str, method: str, own: Any) -> Response:
        self.served[session] += 1
        lists = {
            "prompts/list": {"prompts": [{"name": "greet"}]},
            "resources/list": {"resources": [{"uri": "x://one", "name": "one"}]},
            "resources/templates/list": {"resourceTemplates": []},
        }
        if method in lists:
            answer = self._result(own, lists[method])
        else:
            answer = super()._served(session, method, own)
        if self.served[session] == 4:
            del self.sessions[session]
        return answer


@pytest.mark.parametrize("way", ["404", "400 with an error", "200 with an error"])
async def test_lists_that_a_lost_session_leaves_out_are_fetched_over_another_one(
    proxy: Any, stack: Any, way: str
) -> None:
    server = ShortLived(*WAYS[way])
    base = await stack.enter_async_context(serving(server))
    running = await proxy(
        {"name": "p", "url": f"{base}/mcp"}, health={"interval": "1h", "unhealthyAfter": 1}
    )
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["p_count"]
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["p_greet"]
        assert len((await client.list_resources()).resources) == 1
    report = await running.report()
    assert not any(backend.message for backend in report.backends)
