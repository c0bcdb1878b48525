"""The exchange: a client's request on its way to one backend.

It yields notifications, server requests that want an answer, and one response. It knows no era:
a front turns HTTP into exchanges and their events into what its client understands, a back does
the reverse. This module is what both sides agree on.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.wire.jsonrpc import Message
from mcpproxy.proxy.wire.revisions import is_modern

NOT_OFFERED: Final = Raw(b'{"code":-32601,"message":"the client does not offer this"}')


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as backends may know it."""

    revision: str
    """The revision it speaks."""
    capabilities: bytes = b"{}"
    """What it declared, as JSON."""
    info: bytes | None = None
    """Its name and version, as JSON."""
    principal: str = ""
    """Digest of the credentials it came with; empty without."""
    session: str = ""
    """Its session with us; empty in the modern era."""

    @property
    def modern(self) -> bool:
        """Whether it speaks a revision without sessions and without server requests."""
        return is_modern(self.revision)


class Caller(Protocol):
    """The client's side of one exchange."""

    client: Client
    log_level: str | None
    """The level it set for log messages; None when it set none."""

    async def notify(self, message: Message) -> None:
        """Pass a notification on; returns once the client's stream has room for more."""

    async def ask(self, request: Message) -> Message:
        """Pass a server request on; returns the response (`result` or `error`)."""

    async def streamed(self, retry: int | None) -> None:
        """The backend answers with a stream that can be gone on with after a break.

        `retry` is the pause in milliseconds that it wants before a client does so.
        """

    async def paused(self) -> None:
        """The backend closed that stream before its response: clients are to come back for it."""


class Discarding:
    """A caller that nobody stands behind: our own lists and checks."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.log_level: str | None = None

    async def notify(self, message: Message) -> None:
        """Nobody listens."""

    async def ask(self, request: Message) -> Message:
        """Nobody answers: the client declared no capability to be asked."""
        return {"error": NOT_OFFERED}

    async def streamed(self, retry: int | None) -> None:
        """Nobody has to know."""

    async def paused(self) -> None:
        """Nobody has to come back."""
