"""The documented mapping of names and URIs, written down a second time."""

import json
import re
from typing import Any

Json = Any


class Number(str):
    """A number as it was spelled."""


def exact(text: bytes | str) -> Json:
    """JSON with its numbers digit for digit; no member may be there twice."""
    return json.loads(
        text,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
        object_pairs_hook=_once,
    )


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    assert len(result) == len(pairs), "a member is there twice"
    return result


def tagged(value: Json) -> Json:
    """A value in which numbers differ from strings of the same digits."""
    if isinstance(value, dict):
        return {key: tagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tagged(entry) for entry in value]
    return ("number", str(value)) if isinstance(value, Number) else value


def name(prefix: str, own: str) -> str:
    """`{prefix}_{name}`."""
    return f"{prefix}_{own}" if prefix else own


def uri(prefix: str, own: str) -> str:
    """`scheme://{prefix}/rest`, or `scheme:{prefix}/rest` where there is no `//`."""
    if not prefix:
        return own
    head = re.match(r"([A-Za-z][A-Za-z0-9+.-]*:(//)?)?", own)
    assert head is not None
    return f"{head[0]}{prefix}/{own[head.end() :]}"


def outward_params(prefix: str, method: str, params: Json) -> Json:
    """Params as a client writes them that sees the prefix."""
    if method in ("tools/call", "prompts/get"):
        return {**params, "name": name(prefix, params["name"])}
    if method == "resources/read":
        return {**params, "uri": uri(prefix, params["uri"])}
    if method == "completion/complete":
        ref = params["ref"]
        mapped = (
            {"name": name(prefix, ref["name"])}
            if ref["type"] == "ref/prompt"
            else {"uri": uri(prefix, ref["uri"])}
        )
        return {**params, "ref": {**ref, **mapped}}
    return params


def outward_response(prefix: str, method: str, response: Json) -> Json:
    """A response as a client gets it that sees the prefix."""
    if "error" in response:
        error = response["error"]
        missing = error["code"] in ("-32602", "-32002") and isinstance(error.get("data"), dict)
        told = error["data"].get("uri") if missing else None
        if isinstance(told, str) and not isinstance(told, Number):
            error = {**error, "data": _uri(prefix, error["data"])}
        return {**response, "error": error}
    result = response["result"]
    if method == "tools/call" and "content" in result:
        mapped = {"content": [_block(prefix, item) for item in result["content"]]}
    elif method == "prompts/get" and "messages" in result:
        messages = result["messages"]
        mapped = {"messages": [{**m, "content": _block(prefix, m["content"])} for m in messages]}
    elif method == "resources/read" and "contents" in result:
        mapped = {"contents": [_uri(prefix, entry) for entry in result["contents"]]}
    else:
        return response
    return {**response, "result": {**result, **mapped}}


def _uri(prefix: str, holder: Json) -> Json:
    return {**holder, "uri": uri(prefix, holder["uri"])}


def _block(prefix: str, block: Json) -> Json:
    if block["type"] == "resource_link":
        return _uri(prefix, block)
    if block["type"] == "resource":
        return {**block, "resource": _uri(prefix, block["resource"])}
    return block
