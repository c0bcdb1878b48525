"""Limits on clients of the proxy: connections, requests, sessions and what they leave open."""

from typing import Final

from mcpproxy.limits.limit import Limit

# What clients say of themselves

SEALED_TOKEN: Final = Limit(
    "sealed-token",
    16384,
    "bytes",
    "characters of a token that a client brings back: session ids, requestState, ids of events"
    " and questions",
    "message",
    "the token is one that the proxy never made: HTTP 404, or JSON-RPC error -32602",
    "test_a_token_over_the_limit_is_neither_made_nor_opened",
)
SESSION_ID: Final = Limit(
    "session-id",
    4096,
    "bytes",
    "characters of a session id, which carries clientInfo and capabilities",
    "session",
    "clientInfo is reduced to name, title and version; if capabilities alone are too large,"
    " initialize ends with JSON-RPC error -32602",
    "test_capabilities_that_no_session_id_can_carry_are_refused",
)
CLIENT_INFO: Final = Limit(
    "client-info",
    2048,
    "bytes",
    "bytes of clientInfo that are kept and sent to legacy backends",
    "session",
    "icons go first, then everything but name, title and version, which are cut",
    "test_client_information_of_any_size_is_reduced_to_its_names",
)
CLIENT_CAPABILITIES: Final = Limit(
    "client-capabilities",
    8192,
    "bytes",
    "bytes of the capabilities that a client declares",
    "request",
    "JSON-RPC error -32602",
    "test_capabilities_of_a_modern_client_are_bounded",
)
