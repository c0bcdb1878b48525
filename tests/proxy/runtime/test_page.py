"""The page of the admin port: what it shows, to whom, and what it never shows."""

import asyncio
import html
import json
import re
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp import Client

from mcpproxy.limits.audit import SHOWN_COMPONENT
from mcpproxy.proxy.admin.app import AdminApp
from mcpproxy.proxy.admin.page.data import PAGE_SIZE
from mcpproxy.proxy.config.options import AdminPage
from tests.proxy.runtime.listing import ListingBackend, a_tool
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, proxied, serving
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
SECRET = "hunter2"


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: AsyncExitStack) -> httpx2.AsyncClient:
    """A client."""
    return await stack.enter_async_context(httpx2.AsyncClient(timeout=20))


async def _listing(stack: AsyncExitStack, *tools: dict[str, Any]) -> tuple[ListingBackend, str]:
    backend = ListingBackend(tools or (a_tool("forecast"),))
    return backend, f"{await stack.enter_async_context(serving(backend))}/mcp"


async def _text(http: httpx2.AsyncClient, url: str) -> str:
    """The text of a part of a page, without markup."""
    answer = await http.get(url)
    assert answer.status_code == 200, answer.text
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


async def test_the_page_shows_the_state_and_the_backends(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack)
    dead = f"http://127.0.0.1:{free_port()}/mcp"
    running = await proxy(
        {"name": "weather", "url": url}, {"name": "dead", "url": dead, "optional": True}
    )
    await running.until("dead", "Unhealthy")
    page = await _text(http, f"{running.admin}/")
    assert "team/tools" in page
    assert "Ready: True" in page
    assert "Serving" in page
    assert "1 of 2 backends are being served" in page
    assert f"{running.base}/mcp" in page
    assert "Unreachable" in page
    assert "The proxy could not connect, or the connection failed" in page
    assert "claude mcp add --transport http tools" in page
    assert "This page is about" in page


async def test_ready_has_the_status_and_the_reason_of_the_condition(
    proxy: Any, http: httpx2.AsyncClient
) -> None:
    running = await proxy({"name": "dead", "url": f"http://127.0.0.1:{free_port()}/mcp"})
    await running.until("dead", "Unhealthy")
    page = await _text(http, f"{running.admin}/page/overview")
    assert "Ready: False" in page
    assert "BackendsUnhealthy" in page


@pytest.mark.slow
async def test_addresses_have_no_query_and_no_arguments(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack)
    program = {"command": "/usr/bin/false", "args": ["--token", SECRET], "env": []}
    running = await proxy(
        {"name": "a", "url": f"{url}?key={SECRET}"},
        {"name": "b", "url": f"{url}/{SECRET}abc0123456789"},
        {"name": "c", "stdio": program},
    )
    page = await _text(http, f"{running.admin}/")
    assert f"{url}\n" in page or url in page
    assert "program false" in page
    assert SECRET not in (await http.get(f"{running.admin}/")).text


async def test_the_page_shows_calls_without_their_arguments(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    backend, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    assert "There were no calls yet" in await _text(http, f"{running.admin}/page/overview")
    async with Client(running.url) as client:
        await client.call_tool("weather_forecast", {"city": SECRET})
    assert backend.calls[0]["arguments"] == {"city": SECRET}
    markup = (await http.get(f"{running.admin}/page/overview")).text
    assert "weather_forecast" in markup
    assert "tools/call" in markup
    assert SECRET not in markup


async def test_responses_forbid_everything_but_files_of_the_page(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    paths = ("/", "/page/overview", "/page/components", "/page/page.js", "/page/none")
    for path in paths:
        answer = await http.get(running.admin + path)
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        own = dict.fromkeys(("script-src", "style-src", "img-src", "connect-src"), "'self'")
        nothing = ("default-src", "frame-ancestors", "base-uri", "form-action")
        assert policy == {**own, **dict.fromkeys(nothing, "'none'")}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


async def test_the_page_can_only_be_read(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    for path in ("/", "/page/overview", "/page/page.css"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert (await http.request(method, running.admin + path)).status_code == 405
        head = await http.head(running.admin + path)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80"])
async def test_s2_a_page_at_a_rebound_name_gets_nothing(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient, host: str
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    for path in ("/", "/page/overview", "/page/components", "/page/watch", "/page/page.js"):
        answer = await http.get(running.admin + path, headers={"host": host})
        assert answer.status_code == 421
        assert "weather" not in answer.text


async def test_components_are_marked_where_clients_see_them_differently(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, first = await _listing(stack, a_tool("b_same"), a_tool("old_name"))
    _, second = await _listing(stack, a_tool("same"), a_tool("only"))
    renamed = {"overrides": [{"name": "old_name", "rename": "new_name"}]}
    running = await proxy(
        {"name": "a", "prefix": "", "url": first, "tools": renamed},
        {"name": "b", "url": second},
        names={"onClash": "First"},
    )
    await running.until("b", "Healthy")
    page = await _text(http, f"{running.admin}/page/components")
    assert re.search(r"new_name\s+Overridden\s+old_name of a", page)
    assert re.search(r"b_same\s+Conflict: served by a\s+same of b", page)
    assert "4 tools" in page


async def test_a_component_that_is_not_approved_is_marked_as_withheld(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack)
    approved = {"approved": {"tools": {"weather_other": "0" * 64}}, "onDrift": "Withhold"}
    running = await proxy({"name": "weather", "url": url}, catalog=approved)
    await running.until("weather", "Healthy")
    page = await _text(http, f"{running.admin}/page/components")
    assert "Withheld: not approved" in page


async def test_the_list_is_filtered_and_divided(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack, *(a_tool(f"tool{number:03}") for number in range(250)))
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    base = f"{running.admin}/page/components"
    first = await _text(http, base)
    assert first.count("Definition") == PAGE_SIZE
    assert "1 to 100 of 250" in first
    assert "tool099" in first
    assert "tool100" not in first
    last = await _text(http, f"{base}?offset=200")
    assert last.count("Definition") == 50
    assert "201 to 250 of 250" in last
    some = await _text(http, f"{base}?text=TOOL24")
    assert some.count("Definition") == 10
    assert await _text(http, f"{base}?text=weather&offset=99999999")
    for odd in ("offset=-1", "offset=x", "offset=%C2%B2", "kind=x", "text=%00%FF"):
        assert (await http.get(f"{base}?{odd}")).status_code == 200


async def test_a_definition_is_shown_whole_and_inert(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    hostile = '"><img src=x onerror=alert(1)>\u202e\n<script>alert(1)</script>'
    _, url = await _listing(stack, a_tool("forecast", hostile, **{"</pre>": {"type": "null"}}))
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    query = "kind=tools&backend=weather&name=weather_forecast"
    answer = await http.get(f"{running.admin}/page/definition?{query}")
    assert not re.search(r"<(img|script)|</pre>.*</pre>", answer.text, re.S)
    assert "\u202e" not in answer.text
    shown = await _text(http, f"{running.admin}/page/component?{query}")
    assert '"inputSchema": {' in shown
    missing = await http.get(f"{running.admin}/page/definition?{query}x")
    assert missing.status_code == 404


async def test_a_definition_beyond_the_limit_is_cut_with_a_note(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack, a_tool("forecast", "x" * (SHOWN_COMPONENT.value + 1000)))
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    before = SHOWN_COMPONENT.reached
    query = "kind=tools&backend=weather&name=weather_forecast"
    answer = await http.get(f"{running.admin}/page/definition?{query}")
    assert "… 1,000 more characters" in answer.text
    assert len(answer.content) < 2 * SHOWN_COMPONENT.value + 10_000
    assert SHOWN_COMPONENT.reached > before


async def test_deep_json_is_shown_without_indentation(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    deep: Any = [[]] * 20_000
    for _ in range(300):
        deep = [deep]
    _, url = await _listing(stack, a_tool("forecast", "x", city={"enum": deep}))
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    query = "kind=tools&backend=weather&name=weather_forecast"
    answer = await http.get(f"{running.admin}/page/definition?{query}")
    assert answer.status_code == 200
    assert len(answer.content) < 200_000


async def test_an_overlong_name_creates_no_link(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await _listing(stack, a_tool("n" * 100_000))
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    answer = await http.get(f"{running.admin}/page/components")
    assert "The name is too long to show its definition" in answer.text
    assert len(answer.content) < 10_000


async def test_an_open_page_is_notified_of_changes(
    stack: AsyncExitStack, proxy: Any, http: httpx2.AsyncClient
) -> None:
    backend, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    await running.until("weather", "Healthy")
    async with http.stream("GET", f"{running.admin}/page/watch") as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["backends"][0]["state"] == "Healthy"
        backend.status = 500
        async with asyncio.timeout(20):
            async for line in lines:
                if line and json.loads(line)["backends"][0]["state"] == "Unhealthy":
                    break
    assert "HTTP 500" in await _text(http, f"{running.admin}/page/overview")
    backend.status = 200
    await running.until("weather", "Healthy")
    page = await _text(http, f"{running.admin}/page/overview")
    assert re.search(r"Last error\s+Unreachable: .*HTTP 500", page)


def _visitor(
    running: Proxy, page: AdminPage, address: str, local: str = "10.0.0.1"
) -> httpx2.AsyncClient:
    """A visitor of the admin port at `local`, from an address."""
    app = AdminApp(running.runtime, page).app
    transport = httpx2.ASGITransport(app=app, client=(address, 1))
    return httpx2.AsyncClient(transport=transport, base_url=f"http://{local}:9090")


async def test_visitors_from_other_machines_get_nothing_by_default(
    stack: AsyncExitStack, proxy: Any
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    async with _visitor(running, "local", "10.0.0.9") as visitor:
        for path in ("/", "/page/overview", "/page/components", "/page/watch", "/page/page.js"):
            answer = await visitor.get(path, headers={"x-forwarded-for": "127.0.0.1"})
            assert answer.status_code == 403
            assert "weather" not in answer.text
        assert (await visitor.get("/status")).status_code == 200
    async with _visitor(running, "local", "127.0.0.6") as mesh:
        assert (await mesh.get("/")).status_code == 403
    async with _visitor(running, "local", "::ffff:127.0.0.1", "127.0.0.1") as visitor:
        assert (await visitor.get("/")).status_code == 200


async def test_visitors_from_other_machines_are_admitted_on_request(
    stack: AsyncExitStack, proxy: Any
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    async with _visitor(running, "all", "10.0.0.9") as visitor:
        assert (await visitor.get("/")).status_code == 200
        assert (await visitor.get("/", headers={"host": "evil.example"})).status_code == 421


UNVISITED = """
import asyncio, sys
from tests.proxy.runtime.serving import proxied, free_port
import httpx2

PAGES = ("mcpproxy.pages", "mcpproxy.proxy.admin.page", "mcpproxy.client_snippets")

def imported():
    return [name for name in sys.modules if name.startswith(PAGES)]

async def main():
    async with proxied({"name": "a", "url": f"http://127.0.0.1:{free_port()}/mcp"}) as running:
        async with httpx2.AsyncClient() as http:
            for path in ("livez", "readyz", "metrics", "status"):
                await http.get(f"{running.admin}/{path}")
            before = imported()
            await http.get(f"{running.admin}/")
            print(before, bool(imported()))

asyncio.run(main())
"""


@pytest.mark.slow
async def test_nothing_of_the_page_is_imported_before_the_first_visit() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UNVISITED), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().strip() == "[] True"


async def _large(stack: AsyncExitStack) -> Proxy:
    """A proxy with 64 backends and 10,048 tools."""
    tools = [a_tool(f"tool{number:03}", "Does something. " * 10) for number in range(157)]
    backends = [
        {"name": f"b{number:02}", "url": (await _listing(stack, *tools))[1]} for number in range(64)
    ]
    running = await stack.enter_async_context(proxied(*backends))

    async def listed() -> bool:
        report = running.runtime.report()
        return all(backend.components is not None for backend in report.backends)

    await eventually(listed, "all lists")
    return running


@pytest.mark.slow
async def test_64_backends_with_10000_tools_are_rendered_within_a_second(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    running = await _large(stack)
    await http.get(f"{running.admin}/")
    spent = []
    for path in ("/", "/page/components?text=tool150", "/page/components?offset=9900"):
        before = time.process_time()
        answer = await http.get(running.admin + path)
        spent.append(time.process_time() - before)
        assert answer.status_code == 200
        assert len(answer.content) < 1_000_000
    assert "10,048" in await _text(http, f"{running.admin}/page/components")
    assert max(spent) < 1.0, spent


async def test_a_web_page_that_rebinds_its_name_reads_neither_status_nor_metrics(
    stack: AsyncExitStack, proxy: Any
) -> None:
    _, url = await _listing(stack)
    running = await proxy({"name": "weather", "url": url})
    foreign, laptop = {"host": "a.example:90"}, _visitor(running, "local", "127.0.0.1", "127.0.0.1")
    # In a cluster, the port is at the address of the pod, and names are those of Services.
    async with laptop as visitor, _visitor(running, "local", "10.0.0.9") as in_cluster:
        for path in ("/status", "/metrics"):
            answer = await visitor.get(path, headers=foreign)
            assert (answer.status_code, "weather" in answer.text) == (421, False)
            for host in ("localhost:9090", "[::1]:9090", "127.0.0.1", "127.0.0.1:9090"):
                assert (await visitor.get(path, headers={"host": host})).status_code == 200
            assert (await in_cluster.get(path, headers=foreign)).status_code == 200
        assert (await visitor.get("/livez", headers=foreign)).status_code == 200
