"""Sessions of legacy clients, without a store: the session id is a sealed ticket.

It carries what any instance needs to go on, and the owner's address for what lives in one
process only (a stream, a stdio child, a request that waits for its answer).
"""

from dataclasses import dataclass
from typing import Final

from msgspec import Raw

from mcpproxy.limits.clients import CLIENT_INFO, SESSION_ID
from mcpproxy.proxy.core.client_info import SMALLEST, bound_client_info, check_capabilities
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer, TokenTooLarge
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, RpcError

PURPOSE: Final = "session"
LIFETIME: Final = 24 * 3600.0
"""Seconds after which a client has to initialize anew."""
CLOCK_SKEW: Final = 300.0
"""How far the clocks of two instances may be apart, in seconds."""


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a session id says."""

    client: ClientIdentity
    created: int
    """Seconds since the epoch."""
    owner: str
    """Address of the instance that holds what lives in one process."""


def encode_session_token(sealer: Sealer, ticket: SessionToken) -> str:
    """Return the session id of a ticket, short enough for the header limits of clients.

    Parsers of clients and gateways end at 8 to 16 KiB for all headers, so client information is
    reduced to what fits. Raises RpcError if the capabilities alone are too large.
    """
    info = ticket.client.info
    for limit in (CLIENT_INFO.value, SMALLEST):
        reduced = None if info is None else bound_client_info(info, limit)
        token = _sealed(sealer, ticket, reduced)
        if token is not None:
            return token
    SESSION_ID.record()
    raise RpcError(
        INVALID_PARAMS,
        f"initialize: params.capabilities has {len(ticket.client.capabilities)} bytes, more than"
        f" a session id of {SESSION_ID.value} characters can carry; declare fewer capabilities",
    )


def _sealed(sealer: Sealer, ticket: SessionToken, info: bytes | None) -> str | None:
    client = ticket.client
    content = {
        "v": client.revision,
        "c": client.capabilities.decode(),
        "i": None if info is None else info.decode(),
        "p": client.principal,
        "n": client.session,
        "t": ticket.created,
        "o": ticket.owner,
    }
    if client.network:
        content["a"] = client.network
    try:
        token = sealer.seal(PURPOSE, content)
    except TokenTooLarge:
        return None
    return token if len(token) <= SESSION_ID.value else None


def decode_session_token(sealer: Sealer, token: str, principal: str, now: float) -> SessionToken:
    """The ticket of a session id.

    Raises InvalidToken when it is not ours, too old, or was given to another principal.
    """
    if len(token) > SESSION_ID.value:
        raise InvalidToken("longer than any session id")
    content = sealer.open(PURPOSE, token)
    if content["p"] != principal:
        raise InvalidToken("another principal's session")
    info = content["i"]
    client = ClientIdentity(
        revision=content["v"],
        capabilities=content["c"].encode(),
        info=None if info is None else info.encode(),
        principal=principal,
        session=content["n"],
        network=content.get("a", ""),
    )
    ticket = SessionToken(client, content["t"], content["o"])
    if not is_valid_session_token(ticket, now):
        raise InvalidToken("expired")
    return ticket


def is_valid_session_token(ticket: SessionToken, now: float) -> bool:
    """Whether a ticket's time is not over; `now` is in seconds since the epoch."""
    return -CLOCK_SKEW <= now - ticket.created <= LIFETIME


def canonical_capabilities(raw: Raw | None) -> bytes:
    """Capabilities as bytes in one spelling, so that equal ones are equal.

    Raises RpcError for capabilities that are too large to be looked at.
    """
    if raw is None or bytes(raw)[:1] != b"{":
        return b"{}"
    check_capabilities(len(raw))
    try:
        return jsonrpc.canonicalize(raw)
    except RpcError:
        return b"{}"
