"""Local copies of mirrored components as one backend: each leads to the server it came from."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.back.backend import Surroundings
from mcpproxy.proxy.back.link import Background, Outgoing
from mcpproxy.proxy.back.opener import Opener
from mcpproxy.proxy.core.exchange import Caller
from mcpproxy.proxy.core.kinds import BY_METHOD, TEMPLATES, Kind
from mcpproxy.proxy.core.rewrite import COMPLETE, ROUTED, target
from mcpproxy.proxy.core.uri_templates import Uri
from mcpproxy.proxy.library.components import Local
from mcpproxy.proxy.library.parts import Part, default_settings
from mcpproxy.proxy.library.relay import DirectLink, DirectOpener
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire import revisions as rev
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError

COPIES: Final = "_copies"
"""Name of the backend of all copies in one server."""
_COMPLETE_RESULT: Final = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class CopiesLink(DirectLink):
    """Lists copies and passes requests on to where they came from."""

    def __init__(self, copies: Sequence[Local], revision: str) -> None:
        offered: dict[str, Any] = {copy.kind.capability: {} for copy in copies}
        found = {
            "capabilities": {**offered, "completions": {}},
            "supportedVersions": list(rev.MODERN),
        }
        super().__init__(revision, found)
        self._copies = copies

    async def answer(self, outgoing: Outgoing, caller: Caller) -> bytes:
        """See DirectLink."""
        method, params = outgoing.method, outgoing.params or {}
        listed = BY_METHOD.get(method)
        if listed is not None:
            return jsonrpc.response(outgoing.id, self._listed(listed))
        if method == "server/discover":
            return jsonrpc.response(outgoing.id, jsonrpc.encode(self.greeting.result))
        if method == "ping":
            return jsonrpc.response(outgoing.id, b"{}")
        if method not in ROUTED and method != COMPLETE:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")
        name, kind = target(method, params)
        copy = self._found(name, kind)
        request = jsonrpc.members(outgoing.body())
        own = _own(copy, method, params)
        request["params"] = jsonrpc.dump(own)
        answer = await copy.origin.gateway.call(request, method, own, caller)
        return jsonrpc.encode(_renamed(copy, answer) if kind.by_uri else answer)

    def _listed(self, kind: Kind) -> bytes:
        items = [copy.definition for copy in self._copies if copy.kind is kind]
        more = _COMPLETE_RESULT if self.greeting.modern else {}
        return jsonrpc.encode({**more, kind.member: items})

    def _found(self, name: str, kind: Kind) -> Local:
        for copy in self._copies:
            if copy.kind is kind and copy.identifier == name:
                return copy
        if kind.by_uri:
            compared = Uri(name)
            for copy in self._copies:
                if copy.kind is TEMPLATES and compared.expands(copy.identifier):
                    return copy
        raise RpcError(INVALID_PARAMS, f"unknown {kind.key}: {name}")


def _own(copy: Local, method: str, params: Message) -> Message:
    """Params with the name that the component has where it came from."""
    if copy.kind is TEMPLATES:
        return params
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.with_member(params["ref"], **{copy.kind.key: copy.own})}
    return {**params, copy.kind.key: jsonrpc.dump(copy.own)}


def _renamed(copy: Local, answer: Message) -> Message:
    """An answer in which a copied resource has the URI that its copy has."""
    if copy.kind is TEMPLATES or copy.identifier == copy.own:
        return answer
    if "error" in answer:
        error = jsonrpc.members(answer["error"])
        if "data" in error:
            error["data"] = _with_uri(copy, error["data"])
        return {**answer, "error": jsonrpc.dump(error)}
    result = jsonrpc.members(answer["result"])
    contents = result.get("contents")
    if contents is not None and bytes(contents)[:1] == b"[":
        parts = [_with_uri(copy, part) for part in jsonrpc.items(contents)]
        result["contents"] = jsonrpc.dump(parts)
    return {**answer, "result": jsonrpc.dump(result)}


def _with_uri(copy: Local, raw: Raw) -> Raw:
    if bytes(raw)[:1] != b"{":
        return raw
    members = jsonrpc.members(raw)
    if jsonrpc.string(members.get("uri")) != copy.own:
        return raw
    return jsonrpc.dump({**members, "uri": copy.identifier})


def part_of(copies: Sequence[Local]) -> Part:
    """The backend to be."""

    def opener(given: BackendSettings, around: Surroundings, background: Background) -> Opener:
        return DirectOpener(lambda revision: CopiesLink(copies, revision), given, background)

    return Part(COPIES, default_settings(), opener, asks=True)
