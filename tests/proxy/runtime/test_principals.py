"""Principals: whose a session is, by the credentials of a client or by the word of a gateway."""

from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.raw import META, MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, proxied

pytestmark = LIVE
USER = "X-Auth-Request-User"
FROM_GATEWAY = {"principalFrom": {"header": USER}}
ALLOWED = 200
UNKNOWN = 404


async def _ping(raw: Raw, **headers: str) -> int:
    return (await raw.post(rpc("ping"), **headers)).status_code


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        ("Bearer token", ALLOWED),
        ("bearer token", ALLOWED),
        ("BEARER  token", ALLOWED),
        ("Bearer \t token", ALLOWED),
        ("Bearer Token", UNKNOWN),
        ("Bearer tok en", UNKNOWN),
        ("Basic token", UNKNOWN),
        ("token", UNKNOWN),
    ],
)
async def test_the_case_of_the_scheme_does_not_change_the_principal(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, spelling: str, status: int
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    raw = Raw(running.url, http)
    await raw.initialize(authorization="Bearer token")
    assert await _ping(raw, authorization=spelling) == status


async def test_s8_two_credentials_in_one_request_are_refused(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    answer = await http.post(running.url, headers=twice, content=b"{}")
    assert answer.status_code == 400
    assert "authorization" in answer.json()["error"]["message"]


async def test_a_client_whose_token_is_refreshed_keeps_its_session_and_state(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    server, url = await peer("p", "legacy")
    backend = {"name": "p", "url": url, "prefix": "", "session": {"mode": "PerClient"}}
    running = await proxy(backend, **FROM_GATEWAY)
    raw = Raw(running.url, http)
    await raw.initialize(authorization="Bearer first", **{USER: "ann"})
    call = rpc("tools/call", {"name": "echo", "arguments": {}})
    for token in ("Bearer first", "Bearer second", "bearer third"):
        answer = await raw.post(call, authorization=token, **{USER: "ann"})
        assert "result" in last(answer)
    calls = {r.headers["mcp-session-id"] for r in server.gate.seen if r.rpc == "tools/call"}
    assert len(calls) == 1
    assert await _ping(raw, authorization="Bearer first", **{USER: "bo"}) == UNKNOWN


async def test_a_client_whose_token_is_refreshed_continues_with_its_parked_call(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url, "prefix": ""}, **FROM_GATEWAY)
    raw = Raw(running.url, http)
    about = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "elicit"}
    value = {"name": "elicit", "arguments": {}}
    able: Any = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}

    async def call(token: str, user: str, **more: Any) -> Any:
        request = modern("tools/call", **value, **more, _meta=able)
        headers = {**about, "authorization": token, USER: user}
        return last(await raw.post(request, **headers))

    parked = (await call("Bearer first", "ann"))["result"]
    assert parked["resultType"] == "input_required"
    (key,) = parked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ann"}}}
    retry = {"requestState": parked["requestState"], "inputResponses": answers}
    assert "error" in await call("Bearer first", "bo", **retry)
    assert "result" in await call("Bearer second", "ann", **retry)


@pytest.mark.parametrize("value", [None, ""])
async def test_s8_a_request_that_the_gateway_has_not_marked_is_refused(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, value: str | None
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **FROM_GATEWAY)
    headers = {} if value is None else {USER: value}
    answer = await Raw(running.url, http).initialize(authorization="Bearer a", **headers)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers
    message = answer.json()["error"]["message"]
    assert USER.lower() in message
    assert "principalFrom" in message


async def test_s8_a_request_with_two_users_is_refused(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **FROM_GATEWAY)
    twice = [(USER, "ann"), (USER, "bo")]
    answer = await http.post(running.url, headers=twice, content=b"{}")
    assert answer.status_code == 400


async def test_s8_the_user_header_of_a_gateway_counts_only_if_it_is_configured(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    raw = Raw(running.url, http)
    await raw.initialize(authorization="Bearer a", **{USER: "ann"})
    assert await _ping(raw, authorization="Bearer b", **{USER: "ann"}) == UNKNOWN
    assert await _ping(raw, authorization="Bearer a", **{USER: "bo"}) == ALLOWED


async def test_a_page_sends_its_preflight_without_a_user_and_reads_that_it_needs_one(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    page = "https://app.example.com"
    running = await proxy({"name": "p", "url": url}, allowedOrigins=[page], **FROM_GATEWAY)
    asked = {"origin": page, "access-control-request-method": "POST"}
    assert (await http.request("OPTIONS", running.url, headers=asked)).status_code == 204
    refused = await Raw(running.url, http).initialize(origin=page)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == page


async def test_a_proxy_that_needs_a_user_becomes_ready(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **FROM_GATEWAY)
    answer = await http.get(f"{running.admin}/readyz")
    assert answer.status_code == ALLOWED, answer.text


async def test_the_header_of_a_gateway_and_pages_may_be_options_of_the_command(
    peer: Any, stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    page = "http://localhost:6274"
    options = {"principal_from": USER, "allowed_origins": (page,)}
    running = await stack.enter_async_context(proxied({"name": "p", "url": url}, options=options))
    refused = await Raw(running.url, http).initialize()
    assert refused.status_code == 401
    served = await Raw(running.url, http).initialize(origin=page, **{USER: "ann"})
    assert served.status_code == ALLOWED
    assert served.headers["access-control-allow-origin"] == page
