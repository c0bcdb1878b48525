"""The images in docs/images: `python -m tests.browser.screenshots`, as in `make screenshots`.

They show real pages of a real proxy and of the operator's page, with made-up servers.
"""

import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mcp import Client

from tests.browser.driver import Browser, driven
from tests.controller.test_page import a_live_proxy, stored, visiting
from tests.proxy.runtime.listing import ListingBackend, Tool, a_tool
from tests.proxy.runtime.serving import Proxy, free_port, proxied, serving

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZE: Final = (1000, 760)
POD: Final = "tools-6c9f7d5b44-x2x7q"
URL: Final = "https://mcp.example.com/mcp"
WEATHER: Final = (
    a_tool("get_forecast", "The forecast for a city, for up to ten days."),
    a_tool("get_alerts", "Warnings that are in effect for a region."),
)
CALENDAR: Final = (
    a_tool("add_event", "Adds an event to the calendar of the user."),
    a_tool("list_events", "The events between two dates."),
)


async def _service(stack: AsyncExitStack, tools: tuple[Tool, ...]) -> str:
    base = await stack.enter_async_context(serving(ListingBackend(tools)))
    return urlsplit(base).netloc


async def _proxy(stack: AsyncExitStack) -> Proxy:
    """A proxy with two healthy backends and one that is unreachable."""
    addresses = {
        "weather": await _service(stack, WEATHER),
        "calendar": await _service(stack, CALENDAR),
        "search": f"127.0.0.1:{free_port()}",
    }
    places = {f"{name}.team.svc": address for name, address in addresses.items()}
    backends: list[dict[str, Any]] = [
        {"name": name, "service": {"name": name, "port": 8080}} for name in addresses
    ]
    backends[2]["optional"] = True
    running = await stack.enter_async_context(
        proxied(*backends, options={"resolve": places}, publicUrl=URL)
    )
    for name, state in (("weather", "Healthy"), ("calendar", "Healthy"), ("search", "Unhealthy")):
        await running.until(name, state)
    async with Client(running.url) as client:
        await client.call_tool("weather_get_forecast", {"city": "Oslo"})
        await client.call_tool("calendar_list_events", {})
    return running


def _listed(name: str, namespace: str, status: str, reason: str, message: str) -> dict[str, Any]:
    """An MCPProxy on the operator's page."""
    ready = {"type": "Ready", "status": status, "reason": reason, "message": message}
    return a_live_proxy(name, namespace, conditions=[ready], pods="2/2", url=URL)


async def _take(browser: Browser, url: str, name: str, script: str = "return null;") -> None:
    await browser.visit(url)
    await browser.run(script)
    (IMAGES / f"{name}.png").write_bytes(await browser.image())


async def main() -> None:
    """Write all images."""
    IMAGES.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        profile = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = await stack.enter_async_context(driven(profile))
        await browser.resize(*SIZE)
        running = await _proxy(stack)
        page = f"{running.admin}/"
        await _take(browser, page, "page")
        await browser.prefer("dark")
        below = "document.getElementById('live-calls').previousElementSibling.scrollIntoView();"
        await _take(browser, page, "page-dark", below)
        await browser.prefer("light")
        store = stored(
            _listed("assistant", "support", "True", "Serving", "3 of 3 backends are being served"),
            _listed("tools", "team", "False", "BackendsUnhealthy", "weather: TimedOut"),
            _listed("search", "research", "True", "Serving", "5 of 5 backends are being served"),
        )
        async with visiting(store) as visitor:
            await _take(browser, str(visitor.base_url), "operator")


if __name__ == "__main__":
    # The page shows the name of its machine or pod.
    socket.gethostname = lambda: POD
    asyncio.run(main())
