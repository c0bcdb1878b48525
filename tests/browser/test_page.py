"""The pages in a real browser: current, usable by keyboard, accessible, and inert."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio
from mcp import Client

from mcpproxy.proxy.admin import watchers
from scripts import npm
from tests.browser.driver import Browser
from tests.controller.test_page import a_live_proxy, stored, visiting
from tests.proxy.runtime.issuing import issuing
from tests.proxy.runtime.listing import ListingBackend, Tool, a_tool
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.waiting import eventually

pytestmark = [*LIVE, pytest.mark.browser, pytest.mark.timeout(180)]
TAB, ENTER = "\ue004", "\ue007"
HOSTILE: Final = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "'><svg onload=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "</summary></details></pre><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "javascript:window.hacked=1",
    "\u202eevil\u202c \u2066rtl\u2069 \u05d0\u05d1\u05d2",
    "{{7*7}}${window.hacked=1}",
)
AXE: Final = """
const found = await axe.run(document, {resultTypes: ["violations"]});
return found.violations.map(one => `${one.id}: ${one.nodes.map(n => n.html).slice(0, 3)}`);
"""
TEXT: Final = "return document.body.innerText;"
UNLESS_HACKED: Final = """
const foreign = document.querySelectorAll("iframe, img, svg, object, embed, form, base");
const inline = [...document.querySelectorAll("*")].filter(one =>
  [...one.attributes].some(attribute => attribute.name.startsWith("on")));
const scripts = document.querySelectorAll("script").length;
return {hacked: window.hacked ?? null, foreign: foreign.length, inline: inline.length, scripts};
"""
INERT: Final = {"hacked": None, "foreign": 0, "inline": 0, "scripts": 1}


@dataclass(frozen=True)
class World:
    """A proxy and its backend."""

    proxy: Proxy
    backend: ListingBackend

    @property
    def page(self) -> str:
        """The page of the admin port."""
        return f"{self.proxy.admin}/"


async def _world(stack: AsyncExitStack, *tools: Tool, **spec: Any) -> World:
    backend = ListingBackend(tools)
    base = await stack.enter_async_context(serving(backend))
    running = await stack.enter_async_context(
        proxied({"name": "weather", "url": f"{base}/mcp"}, **spec)
    )
    await running.until("weather", "Healthy")
    return World(running, backend)


@pytest_asyncio.fixture(loop_scope="session")
async def world(stack: AsyncExitStack) -> World:
    """A proxy with 250 tools, of which one was called."""
    tools = [a_tool(f"tool{number:03}") for number in range(250)]
    result = await _world(stack, *tools)
    async with Client(result.proxy.url) as client:
        await client.call_tool("weather_tool001", {"city": "Oslo"})
    return result


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def clean(browser: Browser) -> AsyncIterator[None]:
    """The browser as it was; no page may have violated its policy."""
    await browser.log()
    await browser.resize(1200, 900)
    yield
    await browser.prefer("light")
    await browser.visit("about:blank")
    # The server of a page that is still open may have ended already.
    assert [message for message in await browser.log() if "net::ERR_" not in message] == []


async def _violations(browser: Browser) -> list[str]:
    """Violations that axe-core finds."""
    script = npm.module("axe-core", "axe.min.js").read_text(encoding="utf-8")
    result: list[str] = await browser.run(script + AXE)
    return result


async def _until(browser: Browser, script: str, wanted: Any, what: str) -> None:
    async def there() -> bool:
        return bool(await browser.run(script) == wanted)

    await eventually(there, what)


async def _open_all(browser: Browser) -> None:
    await browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    loaded = (
        "return [...document.querySelectorAll('[data-details]')]"
        ".filter(one => !one.querySelector('pre')).length;"
    )
    await _until(browser, loaded, 0, "all definitions to be shown")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
async def test_the_page_is_accessible(
    browser: Browser, world: World, scheme: str, width: int
) -> None:
    await browser.resize(width, 900)
    await browser.prefer(scheme)
    await browser.visit(world.page)
    assert await _violations(browser) == []
    world.backend.status = 500
    await world.proxy.until("weather", "Unhealthy")
    await browser.visit(world.page)
    await _open_all(browser)
    assert await _violations(browser) == []
    overflow = "return document.documentElement.scrollWidth - window.innerWidth;"
    assert await browser.run(overflow) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_definitions_are_accessible(browser: Browser, world: World, scheme: str) -> None:
    await browser.prefer(scheme)
    await browser.visit(f"{world.page}?offset=200")
    await _open_all(browser)
    assert await _violations(browser) == []
    definition = "page/component?kind=tools&backend=weather&name=weather_tool001"
    await browser.visit(f"{world.page}{definition}")
    assert "inputSchema" in await browser.run(TEXT)
    assert await _violations(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_of_the_endpoint_are_accessible(
    browser: Browser, world: World, stack: AsyncExitStack, scheme: str
) -> None:
    await browser.prefer(scheme)
    await browser.visit(world.proxy.url)
    await _open_all(browser)
    assert "claude mcp add" in await browser.run(TEXT)
    assert await _violations(browser) == []
    issuer = await stack.enter_async_context(issuing())
    closed = await _world(stack, a_tool("x"), **issuer.spec())
    await browser.visit(closed.proxy.url)
    assert "requires credentials" in await browser.run(TEXT)
    assert await _violations(browser) == []
    # Chromium reports the status 401 of the document itself.
    (message,) = await browser.log()
    assert "401" in message


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_of_the_operator_is_accessible_and_filtered_by_keyboard(
    browser: Browser, scheme: str
) -> None:
    await browser.prefer(scheme)
    store = stored(*(a_live_proxy(f"p{n:03}", ready=("True", "False")[n % 2]) for n in range(120)))
    async with visiting(store) as visitor:
        await browser.visit(str(visitor.base_url))
        await _open_all(browser)
        assert await _violations(browser) == []
        await browser.run("document.querySelector('[data-filters]').focus();")
        await browser.write("p11")
        count = "return document.querySelectorAll('#proxies article').length;"
        await _until(browser, count, 10, "the filtered list")


async def test_hostile_names_and_descriptions_are_inert(
    browser: Browser, stack: AsyncExitStack
) -> None:
    long = "x" * 100_000
    tools = [a_tool(text, f"{text} {long}", **{text: {"title": text}}) for text in HOSTILE]
    world = await _world(stack, *tools)
    async with Client(world.proxy.url) as client:
        for text in HOSTILE:
            await client.session.call_tool(f"weather_{text}", {})
    for url in (world.page, f"{world.page}?text=%3Cscript%3Ewindow.hacked=1%3C/script%3E"):
        await browser.visit(url)
        await _open_all(browser)
        assert await browser.run(UNLESS_HACKED) == INERT
    shown = await browser.run(TEXT)
    assert "weather_<script>window.hacked=1</script>" in shown
    assert "\u202e" not in shown


async def test_a_violation_of_the_policy_would_be_noticed(browser: Browser, world: World) -> None:
    await browser.visit(world.page)
    await browser.run(
        "const image = document.createElement('img');"
        "image.src = 'http://127.0.0.1:1/x.png'; document.body.append(image);"
        "const script = document.createElement('script');"
        "script.textContent = 'window.hacked = 1'; document.body.append(script);"
    )
    assert await browser.run("return window.hacked ?? null;") is None
    messages = await browser.log()
    assert sum("Content Security Policy" in message for message in messages) == 2


async def test_pages_forbid_framing(browser: Browser, world: World, stack: AsyncExitStack) -> None:
    from starlette.responses import HTMLResponse

    async def framing(scope: Any, receive: Any, send: Any) -> None:
        page = HTMLResponse(f"<!doctype html><title>x</title><iframe src='{world.page}'></iframe>")
        await page(scope, receive, send)

    await browser.visit(await stack.enter_async_context(serving(framing)))
    messages: list[str] = []

    async def refused() -> bool:
        messages.extend(await browser.log())
        return any("frame-ancestors" in message for message in messages)

    await eventually(refused, "the frame to be refused")


async def test_an_open_page_shows_a_change_and_announces_it(browser: Browser, world: World) -> None:
    await browser.visit(world.page)
    await browser.run("window.same = 1; document.querySelector('summary').focus();")
    assert "Unhealthy" not in await browser.run(TEXT)
    world.backend.status = 500
    state = "return document.querySelector('[data-name=weather]').dataset.state;"
    await _until(browser, state, "Unhealthy, Unreachable", "the new state")
    announced = "return document.getElementById('announcements').textContent;"
    assert "weather: Unhealthy, Unreachable" in await browser.run(announced)
    assert "HTTP 500" in await browser.run(TEXT)
    await browser.run("document.querySelector('#reason-weather').open = true;")
    world.backend.status = 200
    await _until(browser, state, "Healthy", "the state before")
    assert await browser.run("return window.same;") == 1, "the page was not loaded again"


async def test_the_list_is_filtered_by_keyboard(browser: Browser, world: World) -> None:
    await browser.visit(world.page)
    focused = "return document.activeElement.id;"
    for _ in range(30):
        if await browser.run(focused) == "filter-components":
            break
        await browser.press(TAB)
    assert await browser.run(focused) == "filter-components"
    await browser.write("TOOL24")
    count = "return document.querySelectorAll('#components article').length;"
    await _until(browser, count, 10, "the filtered list")
    assert await browser.run(focused) == "filter-components"
    announced = "return document.getElementById('announcements').textContent;"
    assert "10 tools" in await browser.run(announced)
    assert await browser.run("return location.search;") == "?kind=tools&text=TOOL24"
    summary = "return document.activeElement.tagName;"
    while await browser.run(summary) != "SUMMARY":
        await browser.press(TAB)
    await browser.press(ENTER)
    schema = "return document.querySelector('#components pre')?.innerText.includes('inputSchema');"
    await _until(browser, schema, True, "the definition")


async def test_the_parts_of_a_list_are_reached_by_links(browser: Browser, world: World) -> None:
    await browser.visit(world.page)
    await browser.run("window.same = 1; document.querySelector('[rel=next]').click();")
    first = "return document.querySelector('#components .name').innerText;"
    await _until(browser, first, "weather_tool100", "the second part")
    assert await browser.run("return window.same;") == 1
    await browser.visit(f"{world.page}?offset=200")
    assert await browser.run(first) == "weather_tool200"


async def test_the_page_works_without_script(browser: Browser, world: World) -> None:
    await browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        await browser.visit(f"{world.page}?offset=100")
        tree = await browser.tell("DOM.getDocument", depth=-1)
        markup = await browser.tell("DOM.getOuterHTML", nodeId=tree["root"]["nodeId"])
    finally:
        await browser.tell("Emulation.setScriptExecutionDisabled", value=False)
    text = markup["outerHTML"]
    assert 'http-equiv="refresh"' in text
    assert "weather_tool100" in text
    assert "Show the definition" in text
    assert 'class="filter" hidden' in text or 'hidden="" class="filter"' in text


async def _large(stack: AsyncExitStack) -> Proxy:
    """A proxy with 64 backends and 10,048 tools, after 200 calls."""
    tools = [a_tool(f"tool{number:03}", "Does something. " * 10) for number in range(157)]
    backends = []
    for number in range(64):
        base = await stack.enter_async_context(serving(ListingBackend(tools)))
        backends.append({"name": f"b{number:02}", "url": f"{base}/mcp"})
    health = {"interval": "10m", "timeout": "10s"}
    running = await stack.enter_async_context(proxied(*backends, health=health))

    async def listed() -> bool:
        report = running.runtime.report()
        return all(backend.components is not None for backend in report.backends)

    await eventually(listed, "all lists")
    async with Client(running.url) as client:
        for _ in range(200):
            await client.session.call_tool("b00_tool000", {"city": "Oslo"})
    return running


async def test_64_backends_with_10000_tools_are_shown_within_a_second(
    browser: Browser, stack: AsyncExitStack
) -> None:
    running = await _large(stack)
    # The second visit is in the process of the first.
    await browser.visit(f"{running.admin}/")
    before = time.process_time(), await browser.spent()
    await browser.visit(f"{running.admin}/")
    served = time.process_time() - before[0]
    assert "10,048" in await browser.run(TEXT)
    shown = await browser.spent() - before[1]
    assert shown > 0
    assert served + shown < 1.0, (served, shown)


async def test_an_open_page_takes_less_than_a_hundredth_of_a_core(
    browser: Browser, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await _large(stack)
    idle = watchers.KEEP_ALIVE
    monkeypatch.setattr(watchers, "KEEP_ALIVE", 0.1)
    count = "window.refreshes = performance.getEntriesByName(arguments[0]).length;"
    overview = f"{running.admin}/page/overview"

    async def refreshed(times: int) -> int:
        async def enough() -> int:
            result: int = await browser.run(f"{count} return window.refreshes;", overview)
            return result if result >= times else 0

        # Each look costs this process as much as a tenth of a refresh.
        return await eventually(enough, f"{times} refreshes", step=0.5)

    await browser.visit(f"{running.admin}/")
    first = await refreshed(2)
    before = time.process_time(), await browser.spent()
    number = await refreshed(first + 4) - first
    server = (time.process_time() - before[0]) / number
    page = (await browser.spent() - before[1]) / number
    # A page without changes is refreshed with each sign of life of the stream.
    assert max(server, page) < idle / 100, (server, page)
