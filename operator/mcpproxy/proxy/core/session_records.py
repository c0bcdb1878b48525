"""Records of upstream sessions, with which any instance can continue them.

The session id of a client contains the records of the upstream sessions that were opened for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

MAX_CAPABILITIES: Final = 16
"""Capabilities of a server that a record names."""
MAX_NAME: Final = 32
"""Characters of the name of such a capability."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One upstream session, or the fact that the backend keeps none."""

    target: str
    """Digest of the URL of the backend, so that another server never gets the session id."""
    id: bytes = b""
    """The id that the backend has given to the session; empty if it keeps none."""
    revision: str = ""
    cookies: bytes = b""
    """Value of the header Cookie of requests in the session."""
    capabilities: tuple[str, ...] = ()
    """Names of the capabilities of the server."""

    @property
    def size(self) -> int:
        """Number of bytes in a session id, roughly."""
        return len(self.id) + len(self.cookies) + sum(map(len, self.capabilities))


SessionRecords = tuple[tuple[str, SessionRecord], ...]
"""Records with the names of their backends."""


def known_capabilities(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of capabilities that fit in a record."""
    return tuple(name for name in names if len(name) <= MAX_NAME)[:MAX_CAPABILITIES]


def encode_records(records: SessionRecords) -> dict[str, list[Any]]:
    """Return records as JSON values."""
    return {
        backend: [
            record.target,
            record.id.decode("latin-1"),
            record.revision,
            record.cookies.decode("latin-1"),
            *record.capabilities,
        ]
        for backend, record in records
    }


def decode_records(content: dict[str, list[Any]]) -> SessionRecords:
    """Return the records in JSON values that `encode_records` has returned."""
    return tuple(
        (
            backend,
            SessionRecord(
                target,
                session_id.encode("latin-1"),
                revision,
                cookies.encode("latin-1"),
                tuple(capabilities),
            ),
        )
        for backend, (target, session_id, revision, cookies, *capabilities) in content.items()
    )
