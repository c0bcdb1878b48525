"""Statuses with which the endpoint refuses requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from mcpproxy.proxy.http1.server import request_parser
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import ACCEPT, MODERN, Raw, error, last, modern, rpc
from tests.proxy.runtime.serving import CALM, LIVE, Proxy, proxied, serving
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared() -> AsyncIterator[tuple[Peer, Proxy]]:
    """A legacy peer and a proxy in front of it, for all tests here."""
    async with AsyncExitStack() as stack:
        peer = Peer("p", "legacy")
        base = await stack.enter_async_context(serving(peer.gate))
        backend = {"name": "p", "url": f"{base}/mcp"}
        running = await stack.enter_async_context(proxied(backend, **CALM))
        yield peer, running


@pytest.fixture
def server(shared: tuple[Peer, Proxy]) -> Peer:
    """The peer."""
    return shared[0]


@pytest.fixture
def running(shared: tuple[Peer, Proxy]) -> Proxy:
    """The proxy."""
    return shared[1]


@pytest_asyncio.fixture(loop_scope="session")
async def raw(running: Proxy, stack: AsyncExitStack) -> Raw:
    """A client of the proxy."""
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
    return Raw(running.url, http)


async def test_s1_a_foreign_origin_is_refused_with_any_method(raw: Raw) -> None:
    for method in ("POST", "GET", "DELETE", "OPTIONS"):
        answer = await raw.http.request(method, raw.url, headers={"origin": "https://evil.com"})
        assert answer.status_code == 403
        answer = await raw.http.request(method, raw.url, headers={"origin": "http://localhost:9"})
        assert answer.status_code == 403
    own = raw.url.removesuffix("/mcp")
    assert (await raw.post(rpc("ping"), origin=own)).status_code == 400


async def test_s2_a_foreign_host_is_refused_with_any_method(raw: Raw) -> None:
    for method in ("POST", "GET", "DELETE"):
        answer = await raw.http.request(method, raw.url, headers={"host": "evil.com"})
        assert answer.status_code == 421


async def test_s4_a_body_beyond_the_limit_is_refused(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_parser, "MAX_BODY", 1000)
    body = json.dumps(rpc("ping", {"x": "y" * 2000})).encode()
    assert (await raw.post(body)).status_code == 413

    async def parts() -> Any:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    headers = {"accept": ACCEPT, "content-type": "application/json"}
    chunked = await raw.http.post(raw.url, content=parts(), headers=headers)
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b"{", -32700),
        (b"\xff", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 5000, -32700),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    ],
)
@pytest.mark.parametrize("version", [None, MODERN])
async def test_s4_a_body_that_is_not_a_message_is_a_bad_request(
    raw: Raw, body: bytes, code: int, version: str | None
) -> None:
    assert error(await raw.post(body, mcp_protocol_version=version)) == (400, code)


async def test_s4_huge_numbers_and_deep_arguments_break_nothing(raw: Raw) -> None:
    await raw.initialize()
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    for arguments in (b'{"n":%b}' % (b"9" * 5000), deep):
        body = (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
            b'{"name":"p_echo","arguments":%b}}' % arguments
        )
        answer = await raw.post(body)
        assert answer.status_code < 500
        answer = await raw.post(body, mcp_protocol_version=MODERN, mcp_method="tools/call")
        assert answer.status_code < 500


@pytest.mark.parametrize("version", [None, MODERN])
async def test_unsupported_types_are_refused(raw: Raw, version: str | None) -> None:
    for content_type in ("text/plain", None, "application/jsonx"):
        answer = await raw.post(b"{}", content_type=content_type, mcp_protocol_version=version)
        assert answer.status_code == 415
    for accept in ("application/json", "text/event-stream", "text/html"):
        answer = await raw.post(rpc("ping"), accept=accept, mcp_protocol_version=version)
        assert answer.status_code == 406


async def test_another_path_is_not_found(running: Proxy, raw: Raw) -> None:
    for path in ("/", "/mcp/x", "/mcpx", "/status", "/readyz"):
        assert (await raw.http.get(running.base + path)).status_code == 404


async def test_s7_a_session_is_missing_unknown_ended_or_active(raw: Raw) -> None:
    assert (await raw.post(rpc("tools/list"))).status_code == 400
    assert (await raw.initialize()).status_code == 200
    session = raw.session
    assert session is not None
    assert session.isascii()
    assert session.isprintable()
    assert (await raw.post(rpc("tools/list"))).status_code == 200
    for unknown in ("x", session[:-2], session + "A", "%"):
        answer = await raw.post(rpc("tools/list"), mcp_session_id=unknown)
        assert answer.status_code == 404
    headers = {"mcp-session-id": session}
    assert (await raw.http.delete(raw.url, headers=headers)).status_code == 204
    assert (await raw.post(rpc("tools/list"))).status_code == 404
    assert (await raw.http.delete(raw.url, headers=headers)).status_code == 404
    get = {**headers, "accept": "text/event-stream"}
    assert (await raw.http.get(raw.url, headers=get)).status_code == 404


async def test_s8_a_session_of_another_principal_is_not_found(raw: Raw) -> None:
    await raw.initialize(authorization="Bearer one")
    for other in ("Bearer two", None):
        answer = await raw.post(rpc("tools/list"), authorization=other)
        assert answer.status_code == 404
        headers = {"mcp-session-id": raw.session or ""}
        if other:
            headers["authorization"] = other
        assert (await raw.http.delete(raw.url, headers=headers)).status_code == 404
    assert (await raw.post(rpc("tools/list"), authorization="Bearer one")).status_code == 200


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_s12_credentials_of_the_client_never_reach_a_backend(
    peer: Any, proxy: Any, stack: AsyncExitStack, era: str
) -> None:
    server, url = await peer("p", era)
    header = {"name": "Authorization", "value": "Bearer of-the-proxy"}
    running = await proxy({"name": "p", "url": url, "headers": [header]})
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
    raw = Raw(running.url, http)
    secret = {"authorization": "Bearer of-the-client", "cookie": "sid=of-the-client"}
    await raw.initialize(**secret)
    params = {"name": "p_echo", "arguments": {}}
    assert (await raw.post(rpc("tools/call", params), **secret)).status_code == 200
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "p_echo"}
    await raw.post(modern("tools/call", **params), mcp_session_id=None, **headers, **secret)
    assert server.gate.count("tools/call") == 2
    for request in server.gate.seen:
        assert request.headers["authorization"] == "Bearer of-the-proxy"
        assert "cookie" not in request.headers
        assert b"of-the-client" not in request.body


async def test_notifications_and_stray_responses_are_accepted_without_a_body(raw: Raw) -> None:
    await raw.initialize()
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        {"jsonrpc": "2.0", "id": "nobody asked", "result": {}},
    ):
        answer = await raw.post(message)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_the_request_id_comes_back_as_it_was(raw: Raw) -> None:
    await raw.initialize()
    for request_id in (0, -5, 2**53 + 1, "a", "", "ü", "9"):
        for method in ("ping", "tools/list", "unknown/method"):
            answer = await raw.post(rpc(method, None, request_id))
            assert last(answer)["id"] == request_id
        params = {"name": "p_fail", "arguments": {}}
        assert last(await raw.post(rpc("tools/call", params, request_id)))["id"] == request_id


async def test_a_legacy_error_is_answered_with_200(raw: Raw) -> None:
    await raw.initialize()
    for method in ("server/discover", "subscriptions/listen"):
        assert error(await raw.post(rpc(method))) == (200, -32601)
    assert error(await raw.post(rpc("tools/call", {}))) == (200, -32602)
    assert error(await raw.post(rpc("tools/list", {"cursor": "x"}))) == (200, -32602)
    assert error(await raw.post(rpc("logging/setLevel", {"level": "loud"}))) == (200, -32602)
    assert error(await raw.post(rpc("initialize", {}))) == (200, -32602)


async def test_an_unknown_method_is_passed_to_a_single_backend_and_refused_by_several(
    raw: Raw, peer: Any, proxy: Any
) -> None:
    await raw.initialize()
    assert error(await raw.post(rpc("vendor/thing", {"a": 1}))) == (200, -32601)
    _, item = await peer("one")
    _, two = await peer("two")
    several = await proxy({"name": "one", "url": item}, {"name": "two", "url": two})
    other = Raw(several.url, raw.http)
    await other.initialize()
    assert error(await other.post(rpc("vendor/thing"))) == (200, -32601)
    assert error(await other.call("vendor/thing")) == (404, -32601)


async def test_the_modern_era_has_neither_streams_nor_sessions(raw: Raw) -> None:
    headers = {"mcp-protocol-version": MODERN}
    for method in ("GET", "DELETE", "PUT"):
        answer = await raw.http.request(method, raw.url, headers=headers)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = await raw.http.put(raw.url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, DELETE")


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "nothing",
    ],
)
async def test_methods_unknown_to_the_modern_era_are_not_found(raw: Raw, method: str) -> None:
    assert error(await raw.call(method)) == (404, -32601)


async def test_s5_headers_that_contradict_the_body_are_refused(raw: Raw) -> None:
    good = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "p_echo"}
    message = modern("tools/call", name="p_echo", arguments={})
    assert (await raw.post(message, **good)).status_code == 200
    for wrong in (
        {"mcp_method": None},
        {"mcp_method": "tools/list"},
        {"mcp_name": None},
        {"mcp_name": "p_fail"},
        {"mcp_name": "=?base64?broken?="},
    ):
        assert error(await raw.post(message, **{**good, **wrong})) == (400, -32020)
    assert (await raw.post(message, **{**good, "mcp_name": "=?base64?cF9lY2hv?="})).is_success
    twice = [
        ("accept", ACCEPT),
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tools/call"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "p_echo"),
    ]
    answer = await raw.http.post(raw.url, content=json.dumps(message), headers=twice)
    assert error(answer) == (400, -32020)


async def test_a_modern_request_must_name_its_revision(raw: Raw) -> None:
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
    assert error(await raw.post(rpc("tools/list"), **headers)) == (400, -32602)
    other = modern("tools/list", _meta={"io.modelcontextprotocol/protocolVersion": "2027-01-01"})
    assert error(await raw.post(other, **headers)) == (400, -32020)
    headers["mcp_protocol_version"] = "2027-01-01"
    answer = await raw.post(other, **headers)
    assert error(answer) == (400, -32022)
    assert MODERN in answer.json()["error"]["data"]["supported"]


async def test_an_unknown_name_has_the_status_of_the_modern_era(raw: Raw) -> None:
    answer = await raw.call("tools/call", "p_nothing", name="p_nothing", arguments={})
    assert error(answer)[1] == -32602
    answer = await raw.call("tools/call", "other", name="other", arguments={})
    assert error(answer) == (400, -32602)


async def test_an_older_revision_is_used_if_a_client_requests_it(raw: Raw) -> None:
    for wanted, spoken in (
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("1999-01-01", "2025-11-25"),
        (MODERN, "2025-11-25"),
    ):
        answer = await raw.initialize(wanted)
        assert last(answer)["result"]["protocolVersion"] == spoken


async def test_s11_a_stream_whose_connection_broke_is_forgotten(raw: Raw, running: Proxy) -> None:
    await raw.initialize()
    streams = running.runtime.gateway.metrics.streams._value
    headers = {"mcp-session-id": raw.session or "", "accept": "text/event-stream"}
    async with raw.http.stream("GET", raw.url, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        await soon(lambda: streams.get() == 1, "the stream")
    await soon(lambda: streams.get() == 0, "the stream to be forgotten")
    listen = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    value = {
        "accept": ACCEPT,
        "content-type": "application/json",
        "mcp-protocol-version": MODERN,
        "mcp-method": "subscriptions/listen",
    }
    async with raw.http.stream("POST", raw.url, json=listen, headers=value) as answer:
        first = await anext(answer.aiter_lines())
        assert first.startswith(("id:", "event:", "data:"))
        await soon(lambda: streams.get() == 1, "the listener")
    await soon(lambda: streams.get() == 0, "the listener to be forgotten")


async def test_s6_a_method_with_line_ends_injects_no_header_upstream(
    peer: Any, proxy: Any, raw: Raw
) -> None:
    server, url = await peer("m", "modern")
    other = Raw((await proxy({"name": "m", "url": url})).url, raw.http)
    await other.initialize()
    answer = await other.post(rpc("vendor/x\r\nx-injected: 1\r\n\r\n", {}))
    assert "error" in last(answer)
    assert all("x-injected" not in request.headers for request in server.gate.seen)
    name = "m_a\r\nx-injected: 1"
    answer = await other.post(rpc("tools/call", {"name": name, "arguments": {}}))
    assert "error" in last(answer)
    assert all("x-injected" not in request.headers for request in server.gate.seen)


async def test_s10_a_state_of_our_own_is_bound_to_its_request_and_principal(
    raw: Raw, server: Peer
) -> None:
    capable: dict[str, Any] = {
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}
    }
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "p_sample"}

    async def ask(arguments: Any, token: str, request_id: int, **more: Any) -> Any:
        message = modern(
            "tools/call",
            request_id,
            name="p_sample",
            arguments=arguments,
            _meta=capable,
            **more,
        )
        answer = await raw.post(message, **headers, authorization=token)
        return last(answer)

    arguments = {"prompt": "hi", "n": 1}
    first = (await ask(arguments, "one", 1))["result"]
    assert first["resultType"] == "input_required"
    (key,) = first["inputRequests"]
    content = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}}
    retry = {"requestState": first["requestState"], "inputResponses": {key: content}}
    refused = [
        await ask(arguments, "two", 2, **retry),
        await ask({"prompt": "ho"}, "one", 3, **retry),
        await ask(arguments, "one", 4, **{**retry, "requestState": retry["requestState"][:-2]}),
    ]
    for answer in refused[:2]:
        assert answer["error"]["code"] == -32602
    assert "result" not in refused[2] or refused[2]["result"]["resultType"] == "input_required"
    reordered = {"n": 1, "prompt": "hi"}
    done = await ask(reordered, "one", 5, **retry)
    assert done["result"]["content"][0]["text"] == "model: yes"
    again = await ask(arguments, "one", 6, **retry)
    assert again["error"]["code"] == -32602


async def test_concurrent_requests_of_one_session_do_not_wait_for_each_other(
    raw: Raw, server: Peer
) -> None:
    await raw.initialize()
    params = {"name": "p_slow", "arguments": {}}
    slow = asyncio.create_task(raw.post(rpc("tools/call", params, 1)))
    await server.started.wait()
    assert (await raw.post(rpc("tools/list", None, 2))).status_code == 200
    assert not slow.done()
    server.release.set()
    assert "slow" in (await slow).text
