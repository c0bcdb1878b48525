"""GET streams of sessions: messages that belong to no request, and resumed streams."""

import asyncio
import contextlib
import time

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.legacy.event_store import EventsEvicted, StreamLog
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.http1.server.response_writer import PING_EVERY, ResponseWriter


async def pump(stream: MessageQueue, reply: ResponseWriter) -> None:
    """Send the messages of a queue until it ends."""
    await reply.ping()
    while True:
        try:
            message = await stream.get(PING_EVERY)
        except TimeoutError:
            await reply.ping()
            continue
        if message is None:
            await reply.end()
            return
        await reply.event(message)


async def resume(
    log: StreamLog, after: int, reply: ResponseWriter, identity: Identity = ANONYMOUS
) -> None:
    """Send the events after event `after` of a stream that broke off, until it ends.

    Send none after the caller's token has expired.
    """
    reply.keep_alive()
    current = asyncio.current_task()
    assert current is not None
    reply.on_gone = current.cancel
    await reply.ping()
    with contextlib.suppress(EventsEvicted, TimeoutError):
        async with asyncio.timeout(identity.stream_lifetime(time.time())):
            async for event_id, message in log.after(after):
                await reply.event(message, event_id)
    await reply.end()
