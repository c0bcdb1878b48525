"""Principals: the identities by which requests of different users are kept apart.

Without `principalFrom`, the principal is a digest of the credentials in `Authorization`, which are
not verified. With it, the principal is the value of a header that an authenticating gateway sets,
so that a client keeps its session when its token is refreshed.
"""

import hashlib
from typing import Final

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import RequestHead

AUTHORIZATION: Final = b"authorization"


class Principals:
    """Source of the principal of a request."""

    def __init__(self, header: str | None = None) -> None:
        """Create from the name of the gateway's header, or None for digests of credentials."""
        self._header = None if header is None else header.lower().encode("ascii")

    def identify(self, head: RequestHead) -> str:
        """Return the principal of a request. Raises HttpError if it can't be determined."""
        name = self._header or AUTHORIZATION
        value = head.headers.get(name, b"").strip(b" \t")
        # Values of repeated headers are joined with commas.
        if b"," in value and sum(field == name for field, _ in head.lines) > 1:
            raise HttpError(400, f"the header {name.decode()} is repeated; send it once")
        if self._header is None:
            return _digest(normalized_credentials(value))
        if not value:
            raise HttpError(
                401,
                f"the header {name.decode()}, which names the user, is missing; send requests"
                " through the gateway that sets it (spec.principalFrom)",
                # RFC 9110, section 15.5.2: a 401 response has a challenge.
                (b"www-authenticate", b"Bearer"),
            )
        return _digest(name + b":" + value)


def normalized_credentials(value: bytes) -> bytes:
    """Return credentials with a lower-case scheme, followed by one space.

    RFC 9110, section 11.1: the scheme's case and the number of spaces do not matter.
    """
    scheme, _, parameters = value.replace(b"\t", b" ").partition(b" ")
    return scheme.lower() + b" " + parameters.strip(b" ") if parameters else value


def _digest(identity: bytes) -> str:
    """Return a digest of an identity; empty for an empty one."""
    return hashlib.sha256(identity).hexdigest()[:32] if identity else ""
