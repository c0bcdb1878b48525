"""Requests of too many members: refused under their ids, whatever part has them."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy

pytestmark = LIVE
META_MEMBERS = modern("ping")["params"]["_meta"]
MANY = {str(number): number for number in range(2000)}


@pytest_asyncio.fixture(loop_scope="session")
async def raw(eras: dict[str, tuple[Peer, Proxy]], stack: AsyncExitStack) -> Raw:
    """A client of the proxy of a legacy backend."""
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
    return Raw(eras["legacy"][1].url, http)


def _requests(meta: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    call = {"name": "p_echo", "arguments": {"text": "a"}}
    return [
        ("tools/call", {**call, **MANY, "_meta": meta}),
        ("tools/call", {**call, "_meta": {**MANY, **meta}}),
        ("tools/list", {**MANY, "_meta": meta}),
        ("tools/list", {"_meta": {**MANY, **meta}}),
        ("ping", {"_meta": {**MANY, **meta}}),
        ("unknown/method", {**MANY, "_meta": meta}),
        ("completion/complete", {"ref": MANY, "argument": {}, "_meta": meta}),
        ("resources/subscribe", {"uri": "a:b", "_meta": {**MANY, **meta}}),
    ]


@pytest.mark.parametrize("place", range(8))
async def test_a_request_with_too_many_members_is_answered_under_its_id(
    raw: Raw, place: int
) -> None:
    await raw.initialize()
    method, params = _requests({})[place]
    answer = await raw.post(rpc(method, params, 7))
    assert answer.status_code < 500, answer.text
    result = last(answer)
    assert result["id"] == 7
    assert result.get("error", {}).get("code") != -32603, result


@pytest.mark.parametrize("place", range(8))
async def test_a_modern_request_with_too_many_members_is_answered_under_its_id(
    raw: Raw, place: int
) -> None:
    method, params = _requests(META_MEMBERS)[place]
    headers = {"mcp_protocol_version": MODERN, "mcp_method": method}
    if "name" in params:
        headers["mcp_name"] = params["name"]
    if "uri" in params:
        headers["mcp_name"] = params["uri"]
    answer = await raw.post(rpc(method, params, 7), **headers)
    assert answer.status_code < 500, answer.text
    result = json.loads(answer.text) if answer.text.startswith("{") else last(answer)
    assert result["id"] == 7
    assert result.get("error", {}).get("code") != -32603, result


async def test_an_envelope_with_too_many_members_is_an_invalid_request(raw: Raw) -> None:
    await raw.initialize()
    answer = await raw.post({**rpc("ping", {}, 7), **MANY})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], "more than 1024 fields" in error["message"]) == (-32600, True)
