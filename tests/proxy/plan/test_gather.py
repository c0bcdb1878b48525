"""Plans of real servers over HTTP."""

from typing import Any

from mcpproxy.proxy.plan.document import exit_code
from mcpproxy.proxy.plan.gather import planned
from mcpproxy.proxy.runtime import Options
from mcpproxy.proxy.targets import from_backends
from tests.proxy.runtime.serving import LIVE, free_port

pytestmark = LIVE


async def test_the_tools_of_a_real_server_are_planned_under_its_prefix(peer: Any) -> None:
    _, url = await peer("p")
    plan = await planned(from_backends([{"name": "p", "url": url}]), Options(), 30)
    assert "p_echo" in [tool["name"] for tool in plan["tools"]]
    assert (exit_code(plan), plan["unreachable"]) == (0, [])


async def test_a_server_that_is_not_there_is_named(peer: Any) -> None:
    _, url = await peer("p")
    gone = f"http://127.0.0.1:{free_port()}/mcp"
    backends = [{"name": "p", "url": url}, {"name": "gone", "url": gone}]
    plan = await planned(from_backends(backends), Options(), 30)
    assert (exit_code(plan), plan["unreachable"]) == (1, ["gone"])
