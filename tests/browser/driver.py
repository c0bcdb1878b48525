"""The few commands of the WebDriver protocol (W3C) that the tests need."""

import asyncio
import time
from base64 import b64decode
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

    async def press(self, *keys: str) -> None:
        """Press and release keys, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        await command(self._http, f"{self._session}/actions", actions=[source])

    async def write(self, text: str) -> None:
        """Type a text."""
        await self.press(*text)

    async def resize(self, width: int, height: int) -> None:
        """Give the window a size in pixels."""
        await command(self._http, f"{self._session}/window/rect", width=width, height=height)

    async def tell(self, method: str, **parameters: Any) -> Any:
        """The result of a command of Chromium's own protocol."""
        path = f"{self._session}/goog/cdp/execute"
        return await command(self._http, path, cmd=method, params=parameters)

    async def prefer(self, scheme: str) -> None:
        """Prefer the color scheme light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.tell("Emulation.setEmulatedMedia", features=[feature])

    async def spent(self) -> float:
        """Seconds that the process of the page has computed."""
        await self.tell("Performance.enable")
        metrics = (await self.tell("Performance.getMetrics"))["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "ProcessTime"))

    async def log(self) -> list[str]:
        """Errors and warnings of pages since the last look, such as violations of their policy."""
        entries = await command(self._http, f"{self._session}/se/log", type="browser")
        return [entry["message"] for entry in entries]

    async def image(self) -> bytes:
        """The window as PNG."""
        answer = await self._http.get(f"{self._session}/screenshot")
        return b64decode(answer.json()["value"])


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
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
                **capabilities,
            }
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
