"""Local copies of mirrored components as one backend. Requests reach the original servers."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.library.components.components import CopiedComponent
from mcpproxy.library.sessions.backend_factory import BackendDefinition
from mcpproxy.library.sessions.gateway_session import InProcessConnector, InProcessSession
from mcpproxy.proxy.embed import (
    BY_METHOD,
    COMPLETE,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    ROUTED,
    TEMPLATES,
    BackendContext,
    CallContext,
    ComponentKind,
    Connector,
    Message,
    RpcError,
    TaskSet,
    UpstreamRequest,
    Uri,
    component_ref,
    jsonrpc,
    relay_request,
)
from mcpproxy.proxy.embed import (
    revisions as rev,
)

COPIES: Final = "_copies"
"""Name of the backend that contains all copies in one server."""
_COMPLETE_RESULT: Final = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class CopiedComponentsSession(InProcessSession):
    """A session that lists copies and forwards requests to the servers of the originals."""

    def __init__(self, copies: Sequence[CopiedComponent], revision: str) -> None:
        offered: dict[str, Any] = {copy.kind.capability: {} for copy in copies}
        description = {
            "capabilities": {**offered, "completions": {}},
            "supportedVersions": list(rev.MODERN),
        }
        super().__init__(revision, description)
        self._copies = copies

    async def answer(self, outgoing: UpstreamRequest, caller: CallContext) -> bytes:
        method, params = outgoing.method, outgoing.params or {}
        kind_to_list = BY_METHOD.get(method)
        if kind_to_list is not None:
            return jsonrpc.response(outgoing.id, self._list_result(kind_to_list))
        if method == "server/discover":
            return jsonrpc.response(outgoing.id, jsonrpc.encode(self.server.result))
        if method == "ping":
            return jsonrpc.response(outgoing.id, b"{}")
        if method not in ROUTED and method != COMPLETE:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")
        name, kind = component_ref(method, params)
        copy = self._find(name, kind)
        request = jsonrpc.decode_object(outgoing.body())
        own = _original_params(copy, method, params)
        request["params"] = jsonrpc.encode_raw(own)
        answer = await relay_request(copy.origin.gateway, request, method, own, caller)
        return jsonrpc.encode(_with_copy_uri(copy, answer) if kind.by_uri else answer)

    def _list_result(self, kind: ComponentKind) -> bytes:
        items = [copy.definition for copy in self._copies if copy.kind is kind]
        more = _COMPLETE_RESULT if self.server.modern else {}
        return jsonrpc.encode({**more, kind.member: items})

    def _find(self, name: str, kind: ComponentKind) -> CopiedComponent:
        for copy in self._copies:
            if copy.kind is kind and copy.identifier == name:
                return copy
        if kind.by_uri:
            uri = Uri(name)
            for copy in self._copies:
                if copy.kind is TEMPLATES and uri.expands(copy.identifier):
                    return copy
        raise RpcError(INVALID_PARAMS, f"unknown {kind.key}: {name}")


def _original_params(copy: CopiedComponent, method: str, params: Message) -> Message:
    """Return params with the name that the component has at its original server."""
    if copy.kind is TEMPLATES:
        return params
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.replace_member(params["ref"], **{copy.kind.key: copy.own})}
    return {**params, copy.kind.key: jsonrpc.encode_raw(copy.own)}


def _with_copy_uri(copy: CopiedComponent, answer: Message) -> Message:
    """Return a response in which a copied resource has the URI of the copy."""
    if copy.kind is TEMPLATES or copy.identifier == copy.own:
        return answer
    if "error" in answer:
        error = jsonrpc.decode_object(answer["error"])
        if "data" in error:
            error["data"] = _with_uri(copy, error["data"])
        return {**answer, "error": jsonrpc.encode_raw(error)}
    result = jsonrpc.decode_object(answer["result"])
    contents = result.get("contents")
    if contents is not None and bytes(contents)[:1] == b"[":
        parts = [_with_uri(copy, part) for part in jsonrpc.decode_array(contents)]
        result["contents"] = jsonrpc.encode_raw(parts)
    return {**answer, "result": jsonrpc.encode_raw(result)}


def _with_uri(copy: CopiedComponent, raw: Raw) -> Raw:
    if bytes(raw)[:1] != b"{":
        return raw
    members = jsonrpc.decode_object(raw)
    if jsonrpc.decode_str(members.get("uri")) != copy.own:
        return raw
    return jsonrpc.encode_raw({**members, "uri": copy.identifier})


def part_of(copies: Sequence[CopiedComponent]) -> BackendDefinition:
    """Return the definition of the backend that contains the copies."""

    def make_connector(
        settings: BackendSettings, context: BackendContext, background: TaskSet
    ) -> Connector:
        return InProcessConnector(
            lambda revision: CopiedComponentsSession(copies, revision), settings, background
        )

    return BackendDefinition(COPIES, default_settings(), make_connector, asks=True)
