"""The checks, one module for each topic; importing this package registers all of them."""

from tests.resource_server.checks import (
    algorithms,
    bearer,
    challenge,
    claims,
    header,
    key_sets,
    known_token,
    metadata,
    request,
    session,
    signature,
    stream,
)

__all__ = [
    "algorithms",
    "bearer",
    "challenge",
    "claims",
    "header",
    "key_sets",
    "known_token",
    "metadata",
    "request",
    "session",
    "signature",
    "stream",
]
