"""Responses that pages of other origins may read (Fetch standard, section 3.2)."""

from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.http1.server.request import MAX_BODY
from tests.proxy.runtime.raw import MODERN, Raw, last, rpc
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE
PAGE = "https://app.example.com"
OTHER = "https://other.example.com"
ORIGIN = "access-control-allow-origin"
_PREFIX = "access-control-"


def _cors(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(_PREFIX)}


def _readable(answer: httpx2.Response) -> bool:
    exposed = answer.headers.get("access-control-expose-headers", "").split(", ")
    names = {"mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after"}
    varies = answer.headers.get("vary") == "origin"
    return answer.headers.get_list(ORIGIN) == [PAGE] and names <= set(exposed) and varies


async def _preflight(
    url: str, http: httpx2.AsyncClient, wanted: str, origin: str = PAGE, **headers: str
) -> httpx2.Response:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": wanted,
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.request("OPTIONS", url, headers={**asked, **named})


async def test_a_page_of_an_admitted_origin_passes_its_preflight(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedOrigins=[PAGE])
    wanted = "authorization, content-type, Mcp-Param-Region, mcp-session-id, last-event-id"
    answer = await _preflight(running.url, http, wanted)
    assert answer.status_code == 204
    assert _readable(answer)
    result = _cors(answer)
    assert result["access-control-allow-methods"] == "GET, POST, DELETE"
    assert result["access-control-allow-headers"] == wanted.lower()
    assert int(result["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in result


@pytest.mark.parametrize("origin", [OTHER, "null", "http://app.example.com", f"{PAGE}:8443"])
async def test_s1_a_page_of_another_origin_gets_no_header_that_lets_it_read(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, origin: str
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedOrigins=[PAGE])
    for answer in (
        await _preflight(running.url, http, "content-type", origin),
        await Raw(running.url, http).initialize(origin=origin),
    ):
        assert answer.status_code == 403
        assert not _cors(answer)


async def test_a_page_may_send_headers_of_mcp_and_those_that_backends_get_and_no_others(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    backend = {"name": "p", "url": url, "forwardHeaders": ["X-Tenant"]}
    identity = {"header": "x-user"}
    running = await proxy(backend, allowedOrigins=[PAGE], principalFrom=identity)
    wanted = "x-tenant, x-user, cookie, mcpproxy-handover, mcp-bad/name, traceparent, , mcp-name"
    answer = await _preflight(running.url, http, wanted)
    allowed = answer.headers["access-control-allow-headers"]
    assert allowed == "x-tenant, traceparent, mcp-name"


@pytest.mark.parametrize(("origins", "admitted"), [([PAGE], True), (["*"], False)])
async def test_only_a_named_page_reaches_a_private_address(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, origins: list[str], admitted: bool
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedOrigins=origins)
    asked = {"access_control_request_private_network": "true"}
    answer = await _preflight(running.url, http, "content-type", **asked)
    assert answer.status_code == 204
    assert ("access-control-allow-private-network" in answer.headers) == admitted


async def test_a_page_reads_every_answer_of_both_eras_also_errors_and_streams(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url, "prefix": ""}, allowedOrigins=[PAGE])
    raw = Raw(running.url, http)
    result = [await raw.initialize(origin=PAGE)]
    result.append(await raw.post(rpc("tools/list"), origin=PAGE))
    echo = rpc("tools/call", {"name": "echo", "arguments": {}})
    # The same head twice: what was read of it before keeps its headers.
    result += [await raw.post(echo, origin=PAGE) for _ in range(2)]
    noisy = rpc("tools/call", {"name": "noisy", "arguments": {}})
    result.append(await raw.post(noisy, origin=PAGE))
    assert "result" in last(result[-1])
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "server/discover", "origin": PAGE}
    result.append(await raw.post(rpc("server/discover"), **headers))
    assert result[-1].status_code == 400
    result.append(await raw.post("not json", origin=PAGE))
    result.append(await raw.post(rpc("ping"), origin=PAGE, mcp_session_id="none"))
    assert result[-1].status_code == 404
    for method in ("PUT", "DELETE"):
        result.append(await http.request(method, running.url, headers={"origin": PAGE}))
    result.append(await http.post(f"{running.base}/other", headers={"origin": PAGE}))
    result.append(await http.post(running.url, headers={"origin": PAGE, "content-type": "a/b"}))
    result.append(await http.post(running.url, headers={"origin": PAGE, "host": "other.example"}))
    large = b" " * (MAX_BODY + 1)
    result.append(await http.post(running.url, headers={"origin": PAGE}, content=large))
    assert result[-1].status_code == 413
    async with http.stream(
        "GET",
        running.url,
        headers={
            "origin": PAGE,
            "accept": "text/event-stream",
            "mcp-session-id": raw.session or "",
        },
    ) as stream:
        assert stream.status_code == 200
        result.append(stream)
    for answer in result:
        assert _readable(answer), (answer.request.method, answer.status_code, answer.headers)


async def test_programs_and_own_pages_get_no_cors_headers(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, allowedOrigins=[PAGE])
    for headers in ({}, {"origin": running.base}):
        answer = await Raw(running.url, http).initialize(**headers)
        assert answer.status_code == 200
        assert not _cors(answer)
        assert "vary" not in answer.headers
