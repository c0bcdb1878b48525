"""The few commands of the WebDriver protocol (W3C) that the tests need."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from scripts.demo_local import free_ports

DRIVER: Final = "chromedriver"
SECONDS: Final = 60.0
START_SECONDS: Final = 30.0
STEP: Final = 0.05
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One browser with one tab."""

    def __init__(self, http: httpx2.AsyncClient, session: str) -> None:
        self._http = http
        self._session = session

    async def visit(self, url: str) -> None:
        """Open a page."""
        await command(self._http, f"{self._session}/url", url=url)

    async def location(self) -> str:
        """The URL of the page, also of one that could not be loaded."""
        answer = await self._http.get(f"{self._session}/url")
        return str(answer.json()["value"])

    async def run(self, script: str, *arguments: Any) -> Any:
        """The value of the body of an async function that runs in the page.

        What it throws is an object with the member `thrown`.
        """
        whole = (
            "const done = arguments[arguments.length - 1];"
            f"(async function () {{ {script} }}).apply(null, arguments)"
            ".then(done, error => done({thrown: String(error)}));"
        )
        path = f"{self._session}/execute/async"
        return await command(self._http, path, script=whole, args=list(arguments))


async def command(http: httpx2.AsyncClient, path: str, **members: Any) -> Any:
    """The value that a command of the protocol gives."""
    answer = await http.post(path, json=members)
    value = answer.json()["value"]
    assert answer.status_code == 200, value
    return value


@asynccontextmanager
async def driven(profile: Path, **capabilities: Any) -> AsyncIterator[Browser]:
    """A browser from its start to its end, with these capabilities of WebDriver."""
    [port] = free_ports(1)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        DRIVER, f"--port={port}", stdout=quiet, stderr=quiet
    )
    base = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=base, timeout=SECONDS, trust_env=False) as http:
        try:
            await _started(http)
            options = {"args": [*_FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, **capabilities}
            opened = await command(http, "/session", capabilities={"alwaysMatch": wanted})
            session = f"/session/{opened['sessionId']}"
            await command(http, f"{session}/timeouts", script=int(SECONDS * 1000))
            yield Browser(http, session)
            await http.delete(session)
        finally:
            process.terminate()
            await process.wait()


async def _started(http: httpx2.AsyncClient) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await _serves(http):
        assert time.monotonic() < deadline, "chromedriver does not serve"
        await asyncio.sleep(STEP)


async def _serves(http: httpx2.AsyncClient) -> bool:
    try:
        answer = await http.get("/status")
    except httpx2.TransportError:
        return False
    return bool(answer.json()["value"]["ready"])
