"""A person runs `mcpproxy`, signs in at the URL that it prints, and uses the tools behind it."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.proxy.runtime.serving import free_port, serving
from tests.proxy.upstream.sign_in.signing import Authority
from tests.terminal.pseudo_terminal import COMMAND

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE: Final = 120.0
"""Seconds for a process to start, and for a sign-in, on a busy machine."""
_URL: Final = re.compile(r"sign in at (http://\S+)")
_FAILED: Final = "the sign-in failed"
_STEP: Final = 0.2
DENIED: Final = (
    "the sign-in failed: the authorization server reports access_denied;"
    " restart mcpproxy to sign in again"
)


class Guarded:
    """A server of the SDK that demands tokens, and its authorization server at the same origin."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.refused: set[str] = set()
        """Tokens that were revoked."""
        self.tokens: list[str] = []
        """The credentials of all requests, in their order."""
        server = MCPServer("weather", log_level="WARNING")

        @server.tool()
        def forecast(city: str) -> str:
            return f"sunny in {city}"

        self._mcp: ASGIApp = server.streamable_http_app()
        self._authority = self.authority.app()

    @property
    def url(self) -> str:
        """URL of the MCP endpoint."""
        return f"{self.authority.base}/mcp"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._mcp(scope, receive, send)
        elif scope["path"] != "/mcp":
            await self._authority(scope, receive, send)
        elif self._is_accepted(dict(scope["headers"]).get(b"authorization", b"").decode()):
            await self._mcp(scope, receive, send)
        else:
            metadata = f"{self.authority.base}/.well-known/oauth-protected-resource/mcp"
            challenge = {"WWW-Authenticate": f'Bearer resource_metadata="{metadata}"'}
            await Response(status_code=401, headers=challenge)(scope, receive, send)

    def _is_accepted(self, credentials: str) -> bool:
        token = credentials.removeprefix("Bearer ")
        self.tokens.append(token)
        issued = {f"access-token-{number + 1}" for number in range(len(self.authority.forms))}
        return token in issued - self.refused


@dataclass
class Running:
    """A running `mcpproxy`, and what it has printed."""

    url: str
    printed: str = ""
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Read the output to its end."""
        while line := await stream.readline():
            self.printed += line.decode()
            self._more.set()

    async def sign_in_url(self, number: int = 1) -> str:
        """Return the URL that was printed for the sign-in with this number."""
        while len(urls := _URL.findall(self.printed)) < number:
            await self._wait()
        return str(urls[number - 1])

    async def started(self) -> None:
        """Wait until the proxy serves."""
        while "serving at" not in self.printed:
            await self._wait()

    async def _wait(self) -> None:
        self._more.clear()
        await self._more.wait()

    async def tools(self) -> list[str]:
        """Return the names of the tools once the sign-in is over, or why it failed."""
        async with Client(self.url, mode="auto") as client:
            while True:
                try:
                    listed = await client.list_tools(cache_mode="bypass")
                    return [tool.name for tool in listed.tools]
                except MCPError as error:
                    if _FAILED in str(error):
                        return [str(error)]
                # The proxy waits for the sign-in for some seconds; on a busy machine, it may wait
                # for the servers, too.
                await asyncio.sleep(_STEP)

    async def call(self) -> Any:
        """Return the result of the tool, or why the call failed."""
        async with Client(self.url, mode="auto") as client:
            try:
                return (await client.call_tool("forecast", {"city": "Oslo"})).structured_content
            except MCPError as error:
                return str(error)


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[Guarded]:
    """The server, at work."""
    result = Guarded()
    async with serving(result) as base:
        result.authority.base = base
        yield result


@asynccontextmanager
async def _running(guarded: Guarded, place: Path) -> AsyncIterator[Running]:
    """Run `mcpproxy` with a file that names the server; its browser does nothing."""
    file, port = place / "mcp.json", free_port()
    server = {"url": guarded.url, "oauth": {}}
    file.write_text(json.dumps({"mcpServers": {"weather": server}}), encoding="utf-8")
    options = ("--sign-in", "auto", "--transport", "http", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "run", str(file), *options, "--log-format", "text"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(place / "state"), "BROWSER": "true"},
    )
    running = Running(f"http://127.0.0.1:{port}/mcp")
    assert process.stderr is not None
    reading = asyncio.create_task(running.read(process.stderr))
    try:
        async with asyncio.timeout(PATIENCE):
            await running.started()
            yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def _visit(url: str) -> httpx2.Response:
    """Follow the redirects of a URL, as a browser does whose user signs in at once."""
    async with httpx2.AsyncClient(follow_redirects=True) as http:
        return await http.get(url)


async def _signed_in(running: Running, number: int = 1) -> list[str]:
    """Sign in at the printed URL, and return the names of the tools."""
    listing = asyncio.create_task(running.tools())
    response = await _visit(await running.sign_in_url(number))
    assert response.text.startswith("mcpproxy has the response")
    return await listing


def _stored(place: Path) -> Path:
    (file,) = (place / "state").rglob("*.json")
    return file


async def test_a_person_signs_in_once_and_uses_the_tools_also_after_a_restart(
    guarded: Guarded, tmp_path: Path
) -> None:
    async with _running(guarded, tmp_path) as running:
        assert await _signed_in(running) == ["forecast"]
        assert await running.call() == {"result": "sunny in Oslo"}
    assert "access-token-1" not in running.printed, "the log has no token"
    async with _running(guarded, tmp_path) as restarted:
        assert await restarted.tools() == ["forecast"]
        assert await restarted.call() == {"result": "sunny in Oslo"}
    assert not _URL.search(restarted.printed)
    assert len(guarded.authority.visits) == len(guarded.authority.forms) == 1


async def test_a_stored_token_that_expired_without_a_refresh_token_leads_to_another_sign_in(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.authority.issues_refresh = False
    async with _running(guarded, tmp_path) as running:
        assert await _signed_in(running) == ["forecast"]
    file = _stored(tmp_path)
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert "refresh_token" not in stored["tokens"]
    # As if its time had passed.
    file.write_text(json.dumps({**stored, "expires": 1.0}), encoding="utf-8")
    guarded.tokens.clear()
    async with _running(guarded, tmp_path) as restarted:
        assert await _signed_in(restarted) == ["forecast"]
    assert [form["grant_type"] for form in guarded.authority.forms] == ["authorization_code"] * 2
    assert "access-token-1" not in guarded.tokens, "an expired token is not sent"


async def test_a_stored_token_that_was_revoked_leads_to_another_sign_in(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.authority.issues_refresh = False
    async with _running(guarded, tmp_path) as running:
        assert await _signed_in(running) == ["forecast"]
    guarded.refused.add("access-token-1")
    async with _running(guarded, tmp_path) as restarted:
        assert await _signed_in(restarted) == ["forecast"]
    assert guarded.tokens[-1] == "access-token-2"


async def test_consent_that_is_denied_is_the_reason_of_each_failure(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.authority.error = "access_denied"
    async with _running(guarded, tmp_path) as running:
        listing = asyncio.create_task(running.tools())
        await _visit(await running.sign_in_url())
        (why,) = await listing
        assert why.endswith(f"backend weather: {DENIED}")
        assert DENIED in await running.call()
    assert len(guarded.authority.visits) == 1, "nobody is asked twice"
    assert not guarded.authority.forms


async def test_a_response_with_another_state_is_refused_and_the_right_one_accepted_afterwards(
    guarded: Guarded, tmp_path: Path
) -> None:
    async with _running(guarded, tmp_path) as running:
        listing = asyncio.create_task(running.tools())
        url = await running.sign_in_url()
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        forged = await _visit(f"{redirect}?code=stolen&state=forged")
        assert (forged.status_code, forged.text.strip()) == (
            400,
            "This is not the expected response.",
        )
        await _visit(url)
        assert await listing == ["forecast"]
    (form,) = guarded.authority.forms
    assert form["code"] == "the-code"
