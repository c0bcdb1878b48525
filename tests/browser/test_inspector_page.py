"""The page of the MCP Inspector signs in at a proxy in a real browser, and calls a tool."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.conformance_servers import running
from scripts.demo_local import free_ports
from tests.browser.driver import Browser
from tests.peers.protected import TOOLS, Protected, serving_protected
from tests.peers.world import INSPECTOR, NODE
from tests.proxy.runtime.waiting import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]

TOKEN: Final = "token-of-the-page"
CONNECT: Final = """
    const control = document.querySelector("[role=switch][aria-label^=Connect]");
    control?.click();
    return control !== null;
"""
LOG_IN: Final = """
    const login = document.querySelector("[name=login]");
    if (!login) return false;
    login.value = "alice";
    document.querySelector("[name=password]").value = "password-of-alice";
    setTimeout(() => login.form.querySelector("[type=submit]").click());
    return true;
"""
CONSENT: Final = """
    const button = [...document.querySelectorAll("[type=submit]")]
        .find(button => button.innerText === "Continue");
    if (button) setTimeout(() => button.click());
    return button !== undefined;
"""
CLICK: Final = """
    const [text] = arguments;
    const control = [...document.querySelectorAll("button, label")]
        .find(control => control.innerText.trim() === text && !control.disabled);
    control?.click();
    return control !== undefined;
"""
SHOWN: Final = "return document.body.innerText"


@contextmanager
def inspector(url: str, directory: Path) -> Iterator[str]:
    """The URL of the page of an Inspector for one server."""
    page, sandbox, app = free_ports(3)
    command = ["env", f"HOME={directory}", NODE, INSPECTOR, "--web"]
    command += ["--server-url", url, "--transport", "http"]
    settings: dict[str, Any] = {
        "CLIENT_PORT": str(page),
        "MCP_SANDBOX_PORT": str(sandbox),
        "MCP_APP_ORIGIN_PORT": str(app),
        "MCP_AUTO_OPEN_ENABLED": "false",
        "MCP_INSPECTOR_SECRET_STORE": "memory",
        "MCP_INSPECTOR_API_TOKEN": TOKEN,
        "MCP_STORAGE_DIR": os.fspath(directory / "storage"),
    }
    with running(command, directory / "inspector.log", page, **settings):
        yield f"http://127.0.0.1:{page}/?MCP_INSPECTOR_API_TOKEN={TOKEN}"


async def until(browser: Browser, script: str, what: str, *arguments: Any) -> None:
    """Run a script until it returns true. A page that is being replaced runs none."""

    async def succeeded() -> bool:
        try:
            return await browser.run(script, *arguments) is True
        except AssertionError:
            return False

    await eventually(succeeded, what)


async def show(browser: Browser, *texts: str) -> str:
    """Wait until the page shows all texts; return all that it shows."""

    async def looked() -> str | None:
        shown = str(await browser.run(SHOWN))
        return shown if all(text in shown for text in texts) else None

    return await eventually(looked, f"a page with {texts}")


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[Protected]:
    """The proxy in front of one server; its clients need tokens of the provider."""
    with serving_protected(tmp_path) as result:
        yield result


async def test_the_inspectors_page_signs_in_and_lists_and_calls_a_tool(
    browser: Browser, protected: Protected, tmp_path: Path
) -> None:
    with inspector(protected.url, tmp_path) as page:
        await browser.visit(page)
        await until(browser, CONNECT, "the server in the Inspector")
        await until(browser, LOG_IN, "the provider's page")
        assert (await browser.location()).startswith(protected.issuer)
        await until(browser, CONSENT, "the provider's question for consent")
        await show(browser, "Connected", "Authorization complete")
        assert (await browser.location()).startswith(page.partition("?")[0])
        await until(browser, CLICK, "the list of tools", "Tools")
        await show(browser, *TOOLS)
        await until(browser, CLICK, "the tool", "weather_list_cities")
        await show(browser, "List the cities that have a station.")
        await until(browser, CLICK, "the button of the call", "Execute Tool")
        assert "TOOLS/CALL" in await show(browser, "Berlin", "TOOLS/CALL")
