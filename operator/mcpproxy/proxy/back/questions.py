"""Requests of a backend that wait for a client's answer, until they are answered or withdrawn."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.proxy.back.link import Background, answered
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CANCELLED, Caller
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message

LEFT_OPEN: Final = 600.0
"""Seconds that a question may outlive the call during which it was asked."""


class Questions:
    """Those that came over one link."""

    def __init__(
        self, background: Background, send: Callable[[bytes], Awaitable[None]], *, one_session: bool
    ) -> None:
        """`send` takes answers. Without `one_session` each caller's backend counts its own ids."""
        self._background = background
        self._send = send
        self._one_session = one_session
        self._open: dict[tuple[int, bytes], asyncio.Task[None]] = {}

    async def put(self, request: Message, caller: Caller) -> None:
        """Begin to ask; returns when the question is on its way to the client."""
        key = (id(caller), jsonrpc.id_key(request["id"]))
        self._open[key] = self._background.spawn(self._ask(key, request, caller))
        # What the backend says next must not overtake it.
        await asyncio.sleep(0)

    async def _ask(self, key: tuple[int, bytes], request: Message, caller: Caller) -> None:
        try:
            await self._send(await answered(caller, request, self._told))
        except BackendError:
            # The call itself will end with the same error.
            return
        finally:
            self._open.pop(key, None)

    async def _told(self, message: Message) -> None:
        try:
            await self._send(jsonrpc.encode(message))
        except BackendError:
            return

    async def withdrawn(self, message: Message, caller: Caller | None) -> bool:
        """Whether a notification withdraws a question: it ends, and the client hears of it."""
        if not self._open or jsonrpc.string(message.get("method")) != CANCELLED:
            return False
        given = jsonrpc.members(message.get("params", jsonrpc.EMPTY)).get("requestId")
        if given is None:
            return False
        own = jsonrpc.id_key(given)
        found = self._open.get((id(caller), own))
        if found is None and self._one_session:
            found = next((task for (_, other), task in self._open.items() if other == own), None)
        if found is None:
            return False
        found.cancel(message)
        # As in `put`.
        await asyncio.sleep(0)
        return True

    @property
    def open(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._open)

    def over(self, caller: Caller, *, answered: bool) -> None:
        """The call during which they were asked is over; a backend may still wait for answers."""
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        for (owner, _), task in list(self._open.items()):
            if owner == id(caller):
                if answered:
                    loop.call_later(LEFT_OPEN, task.cancel)
                else:
                    task.cancel()
