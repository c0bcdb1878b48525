"""Response to a request of a session, which may become an event stream that survives a break.

See MCP 2025-11-25, transports: resumability and redelivery. `event_store.py` keeps the events.
"""

from collections.abc import Awaitable, Callable

from mcpproxy.proxy.downstream.legacy.event_store import StreamLog
from mcpproxy.proxy.http1.server.event_stream import encode_priming_event
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter


class SseResponse:
    """Messages of one response, kept in a log once the response is resumable."""

    __slots__ = ("_log", "_writer")

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._log: StreamLog | None = None

    def event(self, message: bytes) -> Awaitable[None]:
        """Send a message before the last one; this turns the response into a stream."""
        event_id = None if self._log is None else self._log.append(message)
        return self._writer.event(message, event_id)

    async def resumable(self, open_log: Callable[[], StreamLog], retry: int | None) -> None:
        """Keep all further messages, and send the client the id that it needs to resume."""
        if self._log is None:
            self._log = open_log()
            priming = encode_priming_event(self._log.append(b""), retry)
            await self._writer.send_encoded(priming)

    async def pause(self) -> None:
        """Close the stream; further messages are kept until the client resumes it."""
        if self._log is not None:
            await self._writer.end()

    def finish(self, message: bytes, *, streamed: bool = False) -> None:
        """Send the last message; if `streamed`, as an event even without a stream so far."""
        event_id = None
        if self._log is not None:
            event_id = self._log.append(message)
            self.close()
        if streamed:
            self._writer.complete_stream(message, event_id)
        else:
            self._writer.complete(message, event_id=event_id)

    def close(self) -> None:
        """End the log: no further message follows."""
        if self._log is not None:
            self._log.end(self._writer.loop.time())

    # Large results, which are not kept

    @property
    def is_gone(self) -> bool:
        """True if the client has disconnected and can't resume the stream."""
        return self._log is None and self._writer.is_gone

    @property
    def takes_parts(self) -> bool:
        """True if the last message may be sent in parts; a resumable stream keeps it whole."""
        return self._log is None and self._writer.takes_parts

    async def part(self, content: bytes) -> bool:
        """Send a part of the last message; return False if the client is gone."""
        return await self._writer.part(content)

    async def last_part(self) -> None:
        """End a message that was sent in parts, and the response."""
        await self._writer.last_part()

    def abandon(self) -> None:
        """Give up the response, so that the client sees it break off."""
        self._writer.abandon()
        self.close()


class Resumption:
    """Resumption of one response by its client, as `ResumableStream`."""

    __slots__ = ("_open_log", "_response")

    def __init__(self, response: SseResponse, open_log: Callable[[], StreamLog]) -> None:
        """`open_log` creates the log of the response; it is called at most once."""
        self._response = response
        self._open_log = open_log

    async def keep_events(self, retry: int | None) -> None:
        await self._response.resumable(self._open_log, retry)

    async def pause(self) -> None:
        await self._response.pause()
