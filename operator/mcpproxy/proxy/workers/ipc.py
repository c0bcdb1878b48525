"""Messages between supervisor and workers: one JSON message per line, over a socket pair."""

import asyncio
import socket
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

LIMIT: Final = 16 * 1024 * 1024
"""Maximum size of a message in bytes; the metrics of 64 backends have less than 1 MiB."""

Subject = Literal["ready", "metrics", "page"]


class Started(msgspec.Struct, tag="begun", frozen=True):
    """Worker: all ports are open."""


class Reported(msgspec.Struct, tag="reported", frozen=True):
    """Worker: its PodReport has changed."""

    report: msgspec.Raw
    settled: bool
    """True once every backend was tried."""


class Heartbeat(msgspec.Struct, tag="beat", frozen=True):
    """Worker: it is alive."""


class ProbeResult(msgspec.Struct, tag="checked", frozen=True):
    """Both: a worker has probed a backend."""

    backend: str
    good: bool


class Query(msgspec.Struct, tag="ask", frozen=True):
    """Supervisor: requests a value; the result has the same `number`."""

    number: int
    subject: Subject
    argument: msgspec.Raw = msgspec.Raw(b"null")
    """The `PageRequest` of the subject `page`."""


class QueryResult(msgspec.Struct, tag="answer", frozen=True):
    """Worker: the result of a query."""

    number: int
    value: msgspec.Raw


FromWorker: TypeAlias = Started | Reported | Heartbeat | ProbeResult | QueryResult
ToWorker: TypeAlias = Query | ProbeResult
Received = TypeVar("Received", bound=FromWorker | ToWorker)


class WorkerStartFailed(Exception):
    """A worker exited before it served for the first time; its log has the reason."""


class WorkerChannel:
    """One end of the socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._encoder = msgspec.json.Encoder()

    def send(self, message: FromWorker | ToWorker) -> None:
        """Send a message; do nothing if the other end is closed."""
        if not self._writer.is_closing():
            self._writer.write(self._encoder.encode(message) + b"\n")

    async def receive(self, decoder: msgspec.json.Decoder[Received]) -> Received | None:
        """Return the next message, or None if the other end is closed."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return decoder.decode(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()


async def open_channel(end: socket.socket) -> WorkerChannel:
    """Open the channel over one end of a socket pair."""
    end.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=LIMIT)
    return WorkerChannel(reader, writer)
