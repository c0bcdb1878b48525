"""Local copies of mirrored components as one backend: each leads to the server it came from."""

from collections.abc import Sequence
from typing import Any

from mcp.shared.uri_template import UriTemplate

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.back.backend import Surroundings
from mcpproxy.proxy.back.link import Background, Outgoing
from mcpproxy.proxy.back.opener import Opener
from mcpproxy.proxy.core.catalog import BY_METHOD, TEMPLATES, Kind
from mcpproxy.proxy.core.exchange import Caller
from mcpproxy.proxy.core.rewrite import COMPLETE, ROUTED, target
from mcpproxy.proxy.library.components import Local
from mcpproxy.proxy.library.parts import Part, default_settings
from mcpproxy.proxy.library.relay import DirectLink, DirectOpener
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire import revisions as rev
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError

_COMPLETE_RESULT = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


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
        kind = BY_METHOD.get(method)
        if kind is not None:
            return jsonrpc.response(outgoing.id, self._listed(kind))
        if method == "server/discover":
            return jsonrpc.response(outgoing.id, jsonrpc.encode(self.greeting.result))
        if method == "ping":
            return jsonrpc.response(outgoing.id, b"{}")
        if method not in ROUTED and method != COMPLETE:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")
        copy = self._found(*target(method, params))
        request = jsonrpc.members(outgoing.body())
        own = _own(copy, method, params)
        request["params"] = jsonrpc.dump(own)
        answer = await copy.origin.gateway.call(request, method, own, caller)
        return jsonrpc.encode(answer)

    def _listed(self, kind: Kind) -> bytes:
        items = [copy.definition for copy in self._copies if copy.kind is kind]
        more = _COMPLETE_RESULT if self.greeting.modern else {}
        return jsonrpc.encode({**more, kind.member: items})

    def _found(self, name: str, kind: Kind) -> Local:
        for copy in self._copies:
            if copy.kind is kind and copy.identifier == name:
                return copy
        for copy in self._copies:
            if kind.by_uri and copy.kind is TEMPLATES and _matches(copy.identifier, name):
                return copy
        raise RpcError(INVALID_PARAMS, f"unknown {kind.key}: {name}")


def _matches(template: str, uri: str) -> bool:
    return template == uri or UriTemplate.parse(template).match(uri) is not None


def _own(copy: Local, method: str, params: Message) -> Message:
    """Params with the name that the component has where it came from."""
    if copy.kind is TEMPLATES:
        return params
    if method == COMPLETE:
        return {**params, "ref": jsonrpc.with_member(params["ref"], **{copy.kind.key: copy.own})}
    return {**params, copy.kind.key: jsonrpc.dump(copy.own)}


def part_of(copies: Sequence[Local]) -> Part:
    """The backend to be."""

    def opener(given: BackendSettings, around: Surroundings, background: Background) -> Opener:
        return DirectOpener(lambda revision: CopiesLink(copies, revision), given, background)

    return Part("_copies", default_settings(), opener, asks=True)
