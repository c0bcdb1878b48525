"""Handing a request over to the instance that holds what it is about.

What lives in one process (a stream, a session with a backend, a question that waits) is found by
the owner's address in a sealed token. The request goes there as it came, with a seal of our own
that proves where it comes from; whoever gets one serves it and never hands it on.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterable
from typing import Final

from mcpproxy.proxy.back.client import HttpClient
from mcpproxy.proxy.back.connection import Response
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.seal import BadToken, Sealer
from mcpproxy.proxy.front.reply import Reply
from mcpproxy.proxy.front.request import Inbound

HEADER: Final = b"mcpproxy-handover"
SUCCEEDED: Final = 410
"""HTTP status for what was meant for a process that had our address before us."""
PURPOSE: Final = "handover"
FRESH: Final = 60
"""Seconds that a seal counts; the clocks of two instances may differ by so much."""
CONNECT: Final = 2.0
DEAD_FOR: Final = 5.0
"""Seconds that an instance which could not be reached is not tried again."""
MAX_PEERS: Final = 256
_HOP: Final = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", HEADER})
_BACK: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server"})

HeaderLines = Iterable[tuple[bytes, bytes]]


class Gone(Exception):
    """The other instance can't be reached."""


class Peers:
    """The other instances, as far as tokens have named them."""

    def __init__(self, sealer: Sealer, address: str, path: str) -> None:
        """`address` is where others reach this instance, `path` where their endpoint is."""
        self.owner = f"{address}#{secrets.token_urlsafe(6)}"
        """This process, and not another one at the same address."""
        self._sealer = sealer
        self._path = path
        self._clients: dict[str, HttpClient] = {}
        self._dead: dict[str, float] = {}

    def mine(self, owner: str) -> bool:
        """Whether this process is the owner."""
        return owner == self.owner

    def trusts(self, header: bytes, body: bytes) -> bool:
        """Whether a request was handed over by another instance.

        Its seal must be fresh and of this body. Raises Gone when it was handed over to a process
        that is no more, whose address we have now.
        """
        try:
            content = self._sealer.open(PURPOSE, header.decode("latin-1"))
        except BadToken:
            return False
        fresh = abs(time.time() - content["t"]) <= FRESH
        if not (fresh and content["d"] == _digest(body) and content["o"] != self.owner):
            return False
        if content["to"] != self.owner:
            raise Gone(f"{content['to']} has ended")
        return True

    def reachable(self, owner: str) -> bool:
        """Whether it makes sense to try; another process at our own address is gone for good."""
        if owner.partition("#")[0] == self.owner.partition("#")[0]:
            return False
        return self._dead.get(owner, 0.0) < asyncio.get_running_loop().time()

    async def pass_on(self, owner: str, inbound: Inbound, reply: Reply) -> None:
        """Let the owner answer: its answer goes to our client as it comes.

        Raises Gone when nothing was sent to the client yet.
        """
        response = await self._request(owner, inbound.method, inbound.lines, inbound.body)
        headers = tuple(pair for pair in response.headers.items() if pair[0] not in _BACK)
        reply.on_gone = response.close
        try:
            await reply.start(response.status, headers)
            while chunk := await response.next_chunk():
                await reply.chunk(chunk)
            await reply.end()
        except BackendError:
            # It broke off: the client is to see that.
            reply.abandon()
        finally:
            response.close()

    async def tell(
        self, owner: str, method: str, lines: HeaderLines, body: bytes
    ) -> tuple[int, bytes]:
        """Hand over what the client is not waiting for; the answer's status and body.

        Raises Gone.
        """
        response = await self._request(owner, method, lines, body)
        try:
            return response.status, await response.read(65536)
        except BackendError as error:
            raise Gone(str(error)) from None

    async def _request(self, owner: str, method: str, lines: HeaderLines, body: bytes) -> Response:
        if not self.reachable(owner):
            raise Gone(f"{owner} was not reached a moment ago")
        content = {"t": int(time.time()), "d": _digest(body), "o": self.owner, "to": owner}
        seal = self._sealer.seal(PURPOSE, content).encode()
        headers = [(name, value) for name, value in lines if name not in _HOP]
        try:
            client = self._client(owner)
            response = await client.request(method.encode(), [*headers, (HEADER, seal)], body)
        except BackendError as error:
            self._dead[owner] = asyncio.get_running_loop().time() + DEAD_FOR
            raise Gone(str(error)) from None
        if response.status == SUCCEEDED:
            response.close()
            self._dead[owner] = asyncio.get_running_loop().time() + DEAD_FOR
            raise Gone(f"another process has the address of {owner}")
        return response

    def _client(self, owner: str) -> HttpClient:
        client = self._clients.get(owner)
        if client is None:
            if len(self._clients) >= MAX_PEERS:
                self._clients.pop(next(iter(self._clients))).close()
                self._dead.clear()
            address = owner.partition("#")[0]
            client = self._clients[owner] = HttpClient(f"http://{address}{self._path}", CONNECT)
        return client

    def close(self) -> None:
        """Close connections to other instances."""
        for client in self._clients.values():
            client.close()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
