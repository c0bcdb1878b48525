"""Elicitation by URL, which differs between the eras.

A legacy server refuses a request with the error -32042 and the URLs that the user has to open, and
names each with an `elicitationId`. A modern server returns `input_required`, and has no ids. In
both eras, the client repeats the request once the user is done.
"""

from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import MISSING_CAPABILITY, Message, RpcError

URL_ELICITATION: Final = -32042
ELICIT: Final = "elicitation/create"
_METHODS: Final = ("tools/call", "prompts/get", "resources/read")
"""Requests to which a modern server may respond with `input_required`."""


def to_input_required(method: str, params: Message | None, error: Raw) -> Raw | None:
    """Return the modern result for the error of a legacy server that requires URLs to be opened.

    Return None for all other errors, and if the user has declined: the error stays. Raise RpcError
    if the client, whose `params` these are, cannot open URLs.
    """
    if b"32042" not in bytes(error) or method not in _METHODS:
        return None
    requests = _input_requests(jsonrpc.decode(error))
    if not requests or _has_declined(params):
        return None
    meta = jsonrpc.decode(jsonrpc.encode_raw(parse_meta(params or {})))
    declared = meta.get(rev.META_CAPABILITIES)
    modes = declared.get("elicitation") if isinstance(declared, dict) else None
    if not isinstance(modes, dict) or "url" not in modes:
        raise RpcError(
            MISSING_CAPABILITY,
            "the user has to open a URL, and the client does not declare elicitation.url",
            {"requiredCapabilities": {"elicitation": {"url": {}}}},
        )
    return jsonrpc.encode_raw({"resultType": "input_required", "inputRequests": requests})


def _input_requests(error: Any) -> dict[str, Any]:
    """Return the input requests of an error by key; empty if it has no URLs."""
    data = error.get("data") if isinstance(error, dict) else None
    listed = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(listed, list) or error.get("code") != URL_ELICITATION:
        return {}
    requests = {}
    for number, params in enumerate(listed, start=1):
        if isinstance(params, dict) and isinstance(params.get("url"), str):
            kept = {name: value for name, value in params.items() if name != "elicitationId"}
            requests[f"url-{number}"] = {"method": ELICIT, "params": {**kept, "mode": "url"}}
    return requests


def _has_declined(params: Message | None) -> bool:
    responses = jsonrpc.decode((params or {}).get("inputResponses"))
    if not isinstance(responses, dict):
        return False
    return any(not _is_accepted(response) for response in responses.values())


def _is_accepted(response: Any) -> bool:
    return isinstance(response, dict) and response.get("action") == "accept"


def with_elicitation_id(request: Message, elicitation_id: str) -> Message:
    """Return a server request for a legacy client, which needs an id if it has to open a URL."""
    params = jsonrpc.decode(request.get("params"))
    if jsonrpc.decode_str(request.get("method")) != ELICIT or not isinstance(params, dict):
        return request
    if params.get("mode") != "url" or "elicitationId" in params:
        return request
    added = jsonrpc.encode_raw({**params, "elicitationId": elicitation_id})
    return {**request, "params": added}
