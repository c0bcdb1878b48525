"""Detection of lost sessions. MCP requires HTTP 404, but many backends respond differently.

A lost session refuses every request in the same words. A request that was refused in this way was
not executed, and can be sent again in a new session.
"""

import asyncio
import itertools
import re
from dataclasses import dataclass
from typing import Final

from msgspec import Raw

from mcpproxy.limits.sessions import SESSION_CHECK_TIME
from mcpproxy.proxy.core.errors import BackendError, SessionNotFound, Unauthorized
from mcpproxy.proxy.core.translation.url_elicitation import URL_ELICITATION
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS
from mcpproxy.proxy.upstream.connect.handshake import first_response
from mcpproxy.proxy.upstream.transports.http_endpoint import Lines, McpHttpClient
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

_NOT_OF_SESSIONS: Final = (jsonrpc.METHOD_NOT_FOUND, jsonrpc.LEGACY_NOT_FOUND, URL_ELICITATION)
"""Error codes that concern a request and never its session."""
_OF_SESSIONS: Final = re.compile(r"session|initiali[sz]", re.IGNORECASE)
_ids: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class SessionRefusal:
    """The properties of a refusal that are the same for every request of a lost session."""

    status: int
    """HTTP status; 0 if the credentials were refused."""
    code: int | None = None
    """Code of the JSON-RPC error; None without such an error."""
    message: str = ""

    @property
    def may_be_of_session(self) -> bool:
        """True if every other request might be refused in the same way."""
        if self.code is None:
            return self.status == 0 or 400 <= self.status < 500
        return self.status < 500 and self.code not in _NOT_OF_SESSIONS


def parse_refusal(status: int, message: Message | None) -> SessionRefusal | None:
    """Return the refusal in a response; None if the request was not refused."""
    error = None if message is None else jsonrpc.error_of(message)
    if error is not None:
        return SessionRefusal(status, error.code, error.message)
    return SessionRefusal(status) if status >= 400 else None


async def is_lost(
    endpoint: McpHttpClient,
    headers: Lines,
    capabilities: dict[str, object],
    method: str,
    refusal: SessionRefusal,
) -> bool:
    """Return True if the session refuses a request that every session accepts, as it `refused`
    this one."""
    if not refusal.may_be_of_session:
        return False
    probe_refusal = None
    try:
        async with asyncio.timeout(SESSION_CHECK_TIME.value):
            if method != "ping":
                probe_refusal = await _probe(endpoint, headers, "ping")
            if probe_refusal is None and (method == "ping" or _OF_SESSIONS.search(refusal.message)):
                # Python SDKs respond to a ping before a session is initialized.
                list_methods = (kind.method for kind in KINDS if kind.capability in capabilities)
                list_method = next(list_methods, None)
                probe_refusal = (
                    None if list_method is None else await _probe(endpoint, headers, list_method)
                )
    except TimeoutError:
        SESSION_CHECK_TIME.record()
        return False
    except BackendError:
        return False
    return probe_refusal == refusal


async def raise_if_lost(
    endpoint: McpHttpClient,
    headers: Lines,
    capabilities: dict[str, object],
    method: str,
    refusal: SessionRefusal,
) -> None:
    """Raise SessionNotFound if a request was refused because the session is lost."""
    lost = refusal.status == 404 or await is_lost(endpoint, headers, capabilities, method, refusal)
    if lost:
        raise SessionNotFound("the session no longer exists")


async def _probe(endpoint: McpHttpClient, headers: Lines, method: str) -> SessionRefusal | None:
    outgoing = UpstreamRequest(Raw(b'"mcpproxy-check-%d"' % next(_ids)), method)
    try:
        response = await endpoint.post(outgoing.body(), headers, again=True)
    except Unauthorized:
        return SessionRefusal(0)
    return parse_refusal(response.status, await first_response(endpoint, response, outgoing.id))


async def post_message(
    endpoint: McpHttpClient,
    headers: Lines,
    body: bytes,
    *,
    is_session: bool,
    again: bool = False,
) -> None:
    """POST a message without a JSON-RPC response. Raises BackendError, including SessionNotFound if
    the headers name a session that is lost."""
    status = await endpoint.deliver(body, headers, again=again)
    if status == 404 and is_session:
        raise SessionNotFound("the session no longer exists")
