"""Requests to a proxy with authentication: who is served, and what others are told."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.authentication.tokens import OTHER_RSA, Issuer
from tests.proxy.runtime.issuing import (
    METADATA,
    METADATA_PATH,
    PUBLIC_URL,
    IssuerServer,
    issuing,
)
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import ACCEPT, MODERN, Raw, modern, rpc
from tests.proxy.runtime.serving import CALM, LIVE, proxied, serving

pytestmark = LIVE
CALL = rpc("tools/call", {"name": "echo", "arguments": {}})
SCOPED = {"resourceMetadata": {"scopesSupported": ["mcp:tools", "mcp:read"]}}
PAGE = "https://app.example.com"


def _challenge(answer: httpx2.Response) -> str:
    challenge: str = answer.headers["www-authenticate"]
    return challenge


MODERN_HEADERS = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
BODIES = {
    "initialize": ("POST", {}, json.dumps(rpc("initialize", {})).encode()),
    "a call": ("POST", {}, json.dumps(CALL).encode()),
    "a call with a session": ("POST", {"mcp-session-id": "x"}, json.dumps(CALL).encode()),
    "a notification": ("POST", {}, b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
    "a response": ("POST", {}, b'{"jsonrpc":"2.0","id":1,"result":{}}'),
    "a batch": ("POST", {}, json.dumps([CALL, CALL]).encode()),
    "a modern list": ("POST", MODERN_HEADERS, json.dumps(modern("tools/list")).encode()),
    "server/discover": (
        "POST",
        {**MODERN_HEADERS, "mcp-method": "server/discover"},
        json.dumps(modern("server/discover")).encode(),
    ),
    "a listen": (
        "POST",
        {**MODERN_HEADERS, "mcp-method": "subscriptions/listen"},
        json.dumps(modern("subscriptions/listen")).encode(),
    ),
    "an unknown revision": ("POST", {"mcp-protocol-version": "2099-01-01"}, b"{}"),
    "another media type": ("POST", {"content-type": "text/plain"}, b"x"),
    "no JSON": ("POST", {}, b"{"),
    "a stream": ("GET", {"accept": "text/event-stream", "mcp-session-id": "x"}, b""),
    "a resumed stream": ("GET", {"accept": "text/event-stream", "last-event-id": "x"}, b""),
    "the end of a session": ("DELETE", {"mcp-session-id": "x"}, b""),
    "OPTIONS of no page": ("OPTIONS", {}, b""),
    "HEAD": ("HEAD", {}, b""),
    "PUT": ("PUT", {}, b"{}"),
}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def closed() -> Any:
    """A proxy that refuses everything here, and what its backend has seen."""
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        server = Peer("p")
        base = await stack.enter_async_context(serving(server.gate))
        spec = issuer.spec()
        spec["authentication"] |= SCOPED
        backend = {"name": "p", "url": f"{base}/mcp", "prefix": ""}
        running = await stack.enter_async_context(proxied(backend, **spec, **CALM))
        yield issuer, server, running


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/tools", "/%6dcp"])
async def test_s16_every_request_without_a_token_is_refused(
    closed: Any, http: httpx2.AsyncClient, body: str, path: str
) -> None:
    _, server, running = closed
    seen = len(server.gate.seen)
    method, headers, content = BODIES[body]
    usual = {"accept": ACCEPT, "content-type": "application/json"}
    answer = await http.request(
        method, f"{running.base}{path}", headers={**usual, **headers}, content=content
    )
    assert answer.status_code == 401
    assert _challenge(answer) == (
        f'Bearer resource_metadata="{METADATA}", scope="mcp:read mcp:tools"'
    )
    assert "tools/call" not in [request.rpc for request in server.gate.seen[seen:]]


async def test_s14_the_challenge_does_not_depend_on_the_request(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    _, _, running = closed
    evil = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "forwarded": "host=e"}
    answer = await http.post(running.url, headers={**evil, "host": "localhost"}, content=b"{}")
    assert _challenge(answer).startswith(f'Bearer resource_metadata="{METADATA}"')


async def test_a_token_in_the_query_is_ignored(closed: Any, http: httpx2.AsyncClient) -> None:
    issuer, _, running = closed
    token = issuer.issuer.token()
    for name in ("access_token", "token"):
        answer = await http.post(f"{running.url}?{name}={token}", content=b"{}")
        assert answer.status_code == 401
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await http.post(running.url, headers=form, content=f"access_token={token}")
    assert answer.status_code == 401


async def test_an_api_key_in_another_header_is_ignored(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    issuer, _, running = closed
    headers = {"x-api-key": issuer.issuer.token(), "proxy-authorization": issuer.token()}
    assert (await http.post(running.url, headers=headers, content=b"{}")).status_code == 401


@pytest.mark.parametrize(
    "chunks", [[b'{"jsonrpc":"2.0",', b'"id":1,"method":"ping"}'], [b"x" * 70_000, b"y"]]
)
async def test_a_chunked_body_is_refused_like_any_other(
    closed: Any, http: httpx2.AsyncClient, chunks: list[bytes]
) -> None:
    _, _, running = closed

    async def body() -> Any:
        for chunk in chunks:
            yield chunk

    headers = {"content-type": "application/json", "accept": ACCEPT}
    answer = await http.post(running.url, headers=headers, content=body())
    assert answer.status_code == 401


async def test_a_refused_request_says_which_rule_it_breaks(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    issuer, _, running = closed
    forged = Issuer(issuer.url, PUBLIC_URL, key=OTHER_RSA).token()
    answer = await http.post(
        running.url, headers={"authorization": f"Bearer {forged}"}, content=b"{}"
    )
    assert answer.status_code == 401
    assert _challenge(answer).endswith(
        ', error="invalid_token", error_description="the signature of the token is wrong"'
    )
    assert answer.json()["error"]["message"] == "the signature of the token is wrong"


async def test_two_tokens_in_one_request_are_refused(closed: Any, http: httpx2.AsyncClient) -> None:
    issuer, _, running = closed
    twice = [("authorization", issuer.token()), ("authorization", issuer.token("bo"))]
    answer = await http.post(running.url, headers=twice, content=b"{}")
    assert answer.status_code == 400
    assert 'error="invalid_request"' in _challenge(answer)


@pytest.mark.parametrize(
    "path",
    [
        METADATA_PATH,
        f"{METADATA_PATH}/tools",
        f"{METADATA_PATH}/tools/",
        f"{METADATA_PATH}/mcp",
        f"/tools{METADATA_PATH}",
        f"/mcp{METADATA_PATH}",
    ],
)
async def test_s14_the_metadata_is_published_at_every_form_of_its_url(
    closed: Any, http: httpx2.AsyncClient, path: str
) -> None:
    issuer, _, running = closed
    answer = await http.get(f"{running.base}{path}", headers={"origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert answer.json() == {
        "resource": PUBLIC_URL,
        "authorization_servers": [issuer.url],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["mcp:read", "mcp:tools"],
    }
    head = await http.head(f"{running.base}{path}")
    assert (head.status_code, head.content) == (200, b"")


async def test_pages_may_ask_for_the_metadata_with_any_header(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    _, _, running = closed
    asked = {
        "origin": PAGE,
        "access-control-request-method": "GET",
        "access-control-request-headers": "mcp-protocol-version",
    }
    answer = await http.request("OPTIONS", f"{running.base}{METADATA_PATH}", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == "*"
    posted = await http.post(f"{running.base}{METADATA_PATH}", content=b"{}")
    assert posted.status_code == 405


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resources", "/.well-known/x", "/"])
async def test_other_paths_publish_nothing(
    closed: Any, http: httpx2.AsyncClient, path: str
) -> None:
    _, _, running = closed
    assert (await http.get(f"{running.base}{path}")).status_code == 404


async def test_the_metadata_is_not_for_foreign_hosts_and_the_public_host_is_admitted(
    closed: Any, http: httpx2.AsyncClient
) -> None:
    issuer, _, running = closed
    url = f"{running.base}{METADATA_PATH}"
    assert (await http.get(url, headers={"host": "evil.example"})).status_code == 421
    assert (await http.get(url, headers={"host": "mcp.example.com"})).status_code == 200
    raw = Raw(f"{running.base}/tools", http)
    answer = await raw.initialize(authorization=issuer.token(), host="mcp.example.com")
    assert answer.status_code == 200


async def test_a_page_reads_the_challenge_of_its_refused_request(
    guarded: Any, issuer: IssuerServer, http: httpx2.AsyncClient
) -> None:
    _, running = await guarded(allowedOrigins=[PAGE])
    asked = {"origin": PAGE, "access-control-request-method": "POST"}
    preflight = await http.request("OPTIONS", running.url, headers=asked)
    assert preflight.status_code == 204
    expired = issuer.token(exp=1)
    for headers in ({}, {"authorization": expired}):
        answer = await http.post(running.url, headers={"origin": PAGE, **headers}, content=b"{}")
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "www-authenticate" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example.com/tools"},
        {"aud": None},
        {"exp": 1},
        {"iss": "https://other.example.com"},
    ],
)
async def test_s13_a_token_for_another_resource_is_refused(
    closed: Any, http: httpx2.AsyncClient, claims: dict[str, Any]
) -> None:
    issuer, _, running = closed
    raw, token = Raw(running.url, http), issuer.token(**claims)
    assert (await raw.initialize(authorization=token)).status_code == 401
    about = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
    assert (await raw.post(modern("tools/list"), authorization=token, **about)).status_code == 401
