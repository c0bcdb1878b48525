"""Browsers that visit the endpoint get a page; MCP clients get what the specification demands."""

import html
from base64 import b64encode
from contextlib import AsyncExitStack
from hashlib import sha256
from re import search
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.runtime.issuing import METADATA, PUBLIC_URL, issuing
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import MODERN
from tests.proxy.runtime.serving import CALM, LIVE, proxied, serving

pytestmark = LIVE
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: AsyncExitStack) -> httpx2.AsyncClient:
    """A client."""
    return await stack.enter_async_context(httpx2.AsyncClient(timeout=20))


@pytest.mark.parametrize("era", ["legacy", "modern", "dual"])
async def test_a_browser_gets_a_page_that_says_how_to_connect_a_client(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, era: str
) -> None:
    _, url = await peer("p", era)
    running = await proxy({"name": "p", "url": url})
    for address in (running.url, f"{running.url}/"):
        answer = await http.get(address, headers={"accept": BROWSER})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["vary"] == "Accept"
        assert f"claude mcp add --transport http tools {running.url}" in answer.text
    assert "p_echo" not in answer.text


async def test_the_page_has_one_style_and_no_script(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    answer = await http.get(running.url, headers={"accept": BROWSER})
    style = search(r"<style>(.*)</style>", answer.text)
    assert style is not None
    digest = b64encode(sha256(style[1].encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none';"
        " base-uri 'none'; form-action 'none'"
    )
    assert "<script" not in answer.text


async def test_the_page_names_the_public_url(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, publicUrl="https://mcp.example.com/tools")
    answer = await http.get(running.url, headers={"accept": BROWSER})
    assert "https://mcp.example.com/tools" in answer.text
    assert running.url not in answer.text


async def test_a_hostile_host_is_inert_on_the_page(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedHosts=["*"])
    host = "a&'(b)*$;=~"
    answer = await http.get(running.url, headers={"accept": BROWSER, "host": host})
    assert answer.status_code == 200
    assert host not in answer.text
    assert host in html.unescape(answer.text)


CLIENTS = {
    "a stream": ({"accept": "text/event-stream"}, 400),
    "a stream or a page": ({"accept": "text/html, text/event-stream"}, 400),
    "anything": ({"accept": "*/*"}, 400),
    "JSON": ({"accept": "application/json"}, 406),
    "no page": ({"accept": "text/html;q=0"}, 406),
    "a session": ({"accept": BROWSER, "mcp-session-id": "x"}, 404),
    "a resumed stream": ({"accept": BROWSER, "last-event-id": "x"}, 400),
    "the modern era": ({"accept": BROWSER, "mcp-protocol-version": MODERN}, 405),
    "the legacy era": ({"accept": BROWSER, "mcp-protocol-version": "2025-11-25"}, 400),
}


@pytest.mark.parametrize("request_of", CLIENTS)
async def test_a_get_of_a_client_is_answered_as_before(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, request_of: str
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    headers, status = CLIENTS[request_of]
    answer = await http.get(running.url, headers=headers)
    assert answer.status_code == status
    assert "html" not in answer.headers.get("content-type", "")


async def test_other_methods_paths_hosts_and_origins_have_no_page(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    accept = {"accept": BROWSER}
    assert (await http.head(running.url, headers=accept)).status_code == 405
    assert (await http.get(f"{running.base}/", headers=accept)).status_code == 404
    evil = await http.get(running.url, headers={**accept, "host": "evil.example"})
    assert (evil.status_code, evil.headers["content-type"]) == (421, "application/json")
    foreign = await http.get(running.url, headers={**accept, "origin": "https://evil.example"})
    assert foreign.status_code == 403


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def closed() -> Any:
    """A proxy with authentication, and its issuer."""
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        base = await stack.enter_async_context(serving(Peer("secretive").gate))
        backend = {"name": "secretive", "url": f"{base}/mcp"}
        yield issuer, await stack.enter_async_context(proxied(backend, **issuer.spec(), **CALM))


async def test_s16_a_browser_without_credentials_learns_only_how_to_sign_in(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    _, running = closed
    for _ in range(2):
        answer = await http.get(running.url, headers={"accept": BROWSER})
        assert answer.status_code == 401
        assert METADATA in answer.headers["www-authenticate"]
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "requires credentials" in answer.text
        for fact in ("secretive", "tools", "team", PUBLIC_URL, running.url, "127.0.0.1"):
            assert fact not in answer.text


async def test_a_browser_with_wrong_credentials_gets_the_refusal(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    issuer, running = closed
    wrong = {"accept": BROWSER, "authorization": "Bearer wrong"}
    answer = await http.get(running.url, headers=wrong)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
    right = {"accept": BROWSER, "authorization": issuer.token()}
    answer = await http.get(running.url, headers=right)
    assert answer.status_code == 200
    assert PUBLIC_URL in answer.text


async def test_s16_a_client_without_credentials_gets_json(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    _, running = closed
    for accept in ("text/event-stream", "*/*", "application/json, text/event-stream"):
        answer = await http.get(running.url, headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
