"""The proxy's own requests to a backend: lists, checks, subscriptions."""

import itertools
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest, UpstreamSession

_ids: Final = itertools.count(1)
"""Process-wide, because requesters share sessions and ids must be unique in a session."""


class Requester:
    """Sender of requests that no client waits for."""

    def __init__(self, caller: CallContext) -> None:
        """`caller` is the client in the requests, and answers server requests."""
        self.caller = caller

    async def ask(
        self,
        link: UpstreamSession,
        method: str,
        params: Message | None = None,
        *,
        any_answer: bool = False,
        optional: bool = False,
    ) -> Message | None:
        """Send a request and return its result.

        Returns None for an error if `any_answer`, and for an unknown method if `optional`. Raises
        BackendError, RpcError.
        """
        if link.server.modern:
            params = add_client_meta(params, self.caller.client, link.server.revision, None)
        request_id = Raw(b'"mcpproxy-%d"' % next(_ids))
        outgoing = UpstreamRequest(request_id, method, params, repeatable=True)
        answer = await link.request(outgoing, self.caller)
        error = jsonrpc.error_of(answer)
        if error is None:
            try:
                return jsonrpc.decode_object(answer["result"])
            except RpcError:
                raise ProtocolError(f"the result of {method} is not an object") from None
        if any_answer or (optional and error.code == jsonrpc.METHOD_NOT_FOUND):
            return None
        raise error


async def probe(
    requester: Requester, link: UpstreamSession, offers: Callable[[ComponentKind], bool]
) -> None:
    """Send a request that shows whether the backend responds; `offers` knows its lists.

    Raises BackendError, RpcError.
    """
    if link.server.modern:
        await requester.ask(link, "server/discover")
        return
    try:
        await requester.ask(link, "ping", optional=True)
    except RpcError:
        # The server may lack ping and use another error code. A list serves as well.
        offered_kind = next((kind for kind in KINDS if offers(kind)), None)
        if offered_kind is None:
            raise
        await requester.ask(link, offered_kind.method)
