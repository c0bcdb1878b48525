"""The identity with which one backend is called: the proxy's own, or that of each caller."""

from typing import Final, Protocol

from mcpproxy.proxy.core.exchange import ClientIdentity

AUTHORIZATION: Final = b"authorization"
Line = tuple[bytes, bytes]
"""A header field."""


class Credentials(Protocol):
    """Source of the header Authorization of requests to one backend."""

    by_caller: bool
    """True if callers have different credentials."""

    def of(self, client: ClientIdentity) -> "Credentials":
        """Return the credentials for requests of this client."""

    def header(self) -> Line | None:
        """Return the header field; None if it must be obtained first."""

    async def obtain(self) -> Line | None:
        """Return the header field, or None to send none. Raise BackendError."""

    def refused(self, line: Line) -> bool:
        """Discard credentials that the backend refused (401). Return True if others may help."""

    async def close(self) -> None:
        """End all work in the background."""
