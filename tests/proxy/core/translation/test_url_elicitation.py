"""Requests to open a URL, between servers and clients of different eras."""

import json
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.proxy.core.translation.url_elicitation import to_input_required, with_elicitation_id
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError

URL = {"mode": "url", "elicitationId": "e1", "url": "https://x/", "message": "Sign in"}
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


def raw(value: Any) -> Raw:
    """A value as JSON."""
    return Raw(json.dumps(value).encode())


def params(capabilities: Any = None, **members: Any) -> Message:
    """Params of a modern client, by default of one that opens URLs."""
    declared = {"elicitation": {"url": {}}} if capabilities is None else capabilities
    content = {"_meta": {CAPABILITIES: declared}, **members}
    return {name: raw(value) for name, value in content.items()}


def error(*listed: Any, code: int = -32042) -> Raw:
    """The error of a legacy server."""
    return raw({"code": code, "message": "sign in first", "data": {"elicitations": listed}})


def test_urls_that_a_legacy_server_requires_are_inputs_for_a_modern_client() -> None:
    result = to_input_required("tools/call", params(), error(URL, {**URL, "url": "https://y/"}))
    assert result is not None
    decoded = json.loads(bytes(result))
    assert decoded["resultType"] == "input_required"
    first, second = decoded["inputRequests"].values()
    assert first == {
        "method": "elicitation/create",
        "params": {"mode": "url", "url": "https://x/", "message": "Sign in"},
    }
    assert second["params"]["url"] == "https://y/"


@pytest.mark.parametrize(
    "capabilities", [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}, [], "x"]
)
def test_a_client_that_opens_no_urls_gets_the_missing_capability(capabilities: Any) -> None:
    with pytest.raises(RpcError) as caught:
        to_input_required("tools/call", params(capabilities), error(URL))
    assert caught.value.code == -32021
    assert caught.value.data == {"requiredCapabilities": {"elicitation": {"url": {}}}}


def test_after_the_user_has_declined_the_error_stays() -> None:
    declined = params(inputResponses={"url-1": {"action": "decline"}})
    assert to_input_required("tools/call", declined, error(URL)) is None
    accepted = params(inputResponses={"url-1": {"action": "accept"}})
    assert to_input_required("tools/call", accepted, error(URL)) is not None


@pytest.mark.parametrize(
    ("method", "refusal"),
    [
        ("tools/list", error(URL)),
        ("tools/call", error(URL, code=-32602)),
        ("tools/call", error()),
        ("tools/call", error("x", {"url": 5}, {"mode": "url"})),
        ("tools/call", raw({"code": -32042, "message": "m"})),
        ("tools/call", raw({"code": -32042, "message": "m", "data": [1]})),
        ("tools/call", raw({"code": -1, "message": "-32042"})),
    ],
)
def test_other_errors_stay(method: str, refusal: Raw) -> None:
    assert to_input_required(method, params(), refusal) is None


def _request(method: str, request_params: Any) -> Message:
    return {"method": raw(method), "params": raw(request_params), "id": raw("q")}


def test_a_legacy_client_gets_an_id_with_each_url() -> None:
    asked = {name: value for name, value in URL.items() if name != "elicitationId"}
    request = with_elicitation_id(_request("elicitation/create", asked), "new")
    assert jsonrpc.decode(request["params"]) == {**asked, "elicitationId": "new"}


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("elicitation/create", URL),
        ("elicitation/create", {"message": "Who?"}),
        ("elicitation/create", []),
        ("sampling/createMessage", {"mode": "url"}),
    ],
)
def test_other_server_requests_get_no_id(method: str, asked: Any) -> None:
    request = _request(method, asked)
    assert with_elicitation_id(request, "new") is request
