"""Session tokens of legacy clients: the session id is sealed session state, so no store is needed.

A token carries the state with which every instance can continue the session, and the address of the
owner, which holds what exists in one process only: streams, stdio servers and pending server
requests.
"""

from dataclasses import dataclass
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import CLIENT_INFO, SESSION_ID
from mcpproxy.proxy.core.client_info import SMALLEST, bound_client_info, check_capabilities
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.session_records import (
    SessionRecord,
    SessionRecords,
    decode_records,
    encode_records,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer, TokenTooLarge
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, RpcError

PURPOSE: Final = "session"
LIFETIME: Final = 24 * 3600.0
"""Seconds after which a client must initialize again."""
CLOCK_SKEW: Final = 300.0
"""Maximum difference between the clocks of two instances, in seconds."""


@dataclass(frozen=True, slots=True)
class SessionToken:
    """Content of a session id."""

    client: ClientIdentity
    created: int
    """Seconds since the epoch."""
    owner: str
    """Address of the instance that holds the session's streams and processes."""
    rules: str = ""
    """Digest of the rules of access that applied to the client when the session began."""


def encode_session_token(sealer: Sealer, session_token: SessionToken) -> str:
    """Encode a token as a session id that is short enough for the header limits of clients.

    Parsers of clients and gateways accept 8 to 16 KiB for all headers, so client information is
    reduced to what fits, and the largest records of upstream sessions are left out. Raise RpcError
    if the capabilities alone are too large.
    """
    client = session_token.client
    info = client.info
    records = tuple(sorted(client.upstream, key=_size))
    while True:
        for limit in (CLIENT_INFO.value, SMALLEST):
            reduced = None if info is None else bound_client_info(info, limit)
            token = _seal(sealer, session_token, reduced, records)
            if token is not None:
                return token
        SESSION_ID.record()
        if not records:
            break
        records = records[:-1]
    raise RpcError(
        INVALID_PARAMS,
        f"initialize: params.capabilities has {len(client.capabilities)} bytes, which do not fit"
        f" in a session id of {SESSION_ID.value} characters; declare fewer capabilities",
    )


def _size(entry: tuple[str, SessionRecord]) -> int:
    return entry[1].size


def _seal(
    sealer: Sealer, session_token: SessionToken, info: bytes | None, records: SessionRecords
) -> str | None:
    client = session_token.client
    content: dict[str, Any] = {
        "v": client.revision,
        "c": client.capabilities.decode(),
        "i": None if info is None else info.decode(),
        "p": client.principal,
        "n": client.session,
        "t": session_token.created,
        "o": session_token.owner,
    }
    if session_token.rules:
        content["r"] = session_token.rules
    if client.network:
        content["a"] = client.network
    if records:
        content["u"] = encode_records(records)
    try:
        token = sealer.seal(PURPOSE, content)
    except TokenTooLarge:
        return None
    return token if len(token) <= SESSION_ID.value else None


def decode_session_token(sealer: Sealer, token: str, principal: str, now: float) -> SessionToken:
    """Decode a session id.

    Raise InvalidToken if it is malformed, expired, or belongs to another principal.
    """
    if len(token) > SESSION_ID.value:
        raise InvalidToken("longer than any session id")
    content = sealer.open(PURPOSE, token)
    if content["p"] != principal:
        raise InvalidToken("session of another principal")
    info = content["i"]
    client = ClientIdentity(
        revision=content["v"],
        capabilities=content["c"].encode(),
        info=None if info is None else info.encode(),
        principal=principal,
        session=content["n"],
        network=content.get("a", ""),
        upstream=decode_records(content.get("u", {})),
    )
    session_token = SessionToken(client, content["t"], content["o"], content.get("r", ""))
    if not is_valid_session_token(session_token, now):
        raise InvalidToken("expired")
    return session_token


def is_valid_session_token(session_token: SessionToken, now: float) -> bool:
    """Return True unless the token has expired; `now` is in seconds since the epoch."""
    return -CLOCK_SKEW <= now - session_token.created <= LIFETIME


def canonical_capabilities(raw: Raw | None) -> bytes:
    """Return capabilities in canonical form, so that equal capabilities have equal bytes.

    Raise RpcError if they are too large.
    """
    if raw is None or bytes(raw)[:1] != b"{":
        return b"{}"
    check_capabilities(len(raw))
    try:
        return jsonrpc.canonicalize(raw)
    except RpcError:
        return b"{}"
