"""Has a backend forgotten a session? MCP wants HTTP 404 of it; many answer something else.

A session that is lost refuses whatever comes, in the same words: a request that was refused so was
not executed, and can be sent again in a new session.
"""

import asyncio
import itertools
import re
from dataclasses import dataclass
from typing import Final

from msgspec import Raw

from mcpproxy.limits.sessions import SESSION_CHECK_TIME
from mcpproxy.proxy.core.errors import BackendError, Unauthorized
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS
from mcpproxy.proxy.upstream.connect.handshake import first_response
from mcpproxy.proxy.upstream.transports.http_endpoint import Lines, McpHttpClient
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

_URL_WANTED: Final = -32042
_NOT_OF_SESSIONS: Final = (jsonrpc.METHOD_NOT_FOUND, jsonrpc.LEGACY_NOT_FOUND, _URL_WANTED)
"""Codes of errors that say what is wrong with a request."""
_OF_SESSIONS: Final = re.compile(r"session|initiali[sz]", re.IGNORECASE)
_ids: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class SessionRefusal:
    """How a request was refused, as far as that is the same for every request of a session."""

    status: int
    """Of HTTP; 0 for one that says that the credentials are not accepted."""
    code: int | None = None
    """Of the JSON-RPC error; None where there is none."""
    message: str = ""

    @property
    def may_be_of_session(self) -> bool:
        """Whether every other request might be refused in the same way."""
        if self.code is None:
            return self.status == 0 or 400 <= self.status < 500
        return self.status < 500 and self.code not in _NOT_OF_SESSIONS


def parse_refusal(status: int, message: Message | None) -> SessionRefusal | None:
    """How an answer refuses a request; None where it does not."""
    error = None if message is None else jsonrpc.error_of(message)
    if error is not None:
        return SessionRefusal(status, error.code, error.message)
    return SessionRefusal(status) if status >= 400 else None


async def is_lost(
    endpoint: McpHttpClient,
    headers: Lines,
    capabilities: dict[str, object],
    method: str,
    refused: SessionRefusal,
) -> bool:
    """Whether a session refuses what any session takes just as it `refused` a request."""
    if not refused.may_be_of_session:
        return False
    found = None
    try:
        async with asyncio.timeout(SESSION_CHECK_TIME.value):
            if method != "ping":
                found = await _refusal(endpoint, headers, "ping")
            if found is None and (method == "ping" or _OF_SESSIONS.search(refused.message)):
                # Python SDKs answer to a ping also before a session is initialized.
                offered = (kind.method for kind in KINDS if kind.capability in capabilities)
                listing = next(offered, None)
                found = None if listing is None else await _refusal(endpoint, headers, listing)
    except TimeoutError:
        SESSION_CHECK_TIME.record()
        return False
    except BackendError:
        return False
    return found == refused


async def _refusal(endpoint: McpHttpClient, headers: Lines, method: str) -> SessionRefusal | None:
    outgoing = UpstreamRequest(Raw(b'"mcpproxy-check-%d"' % next(_ids)), method)
    try:
        response = await endpoint.post(outgoing.body(), headers, again=True)
    except Unauthorized:
        return SessionRefusal(0)
    return parse_refusal(response.status, await first_response(endpoint, response, outgoing.id))
