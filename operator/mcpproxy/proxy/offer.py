"""What the backends of one proxy offer together: capabilities, instructions, merged lists."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from mcpproxy.proxy.audiences import Audiences
from mcpproxy.proxy.back.backend import Backend
from mcpproxy.proxy.core import capabilities
from mcpproxy.proxy.core.catalog import Audience, Catalog
from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.core.extensions import offered
from mcpproxy.proxy.core.kinds import KINDS, Kind
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_PARAMS, Message, RpcError
from mcpproxy.proxy.wire.revisions import LATEST_MODERN

FIRST_ROUND: Final = 25.0
"""Seconds that the very first requests wait at most until some backend was reached."""
READY_ROUND: Final = 10.0
"""Seconds that a hung backend can keep the proxy from being ready."""
GRACE: Final = 0.25
"""Seconds that they then wait for the others."""

NOBODY: Final = Client(LATEST_MODERN)
"""Asks for lists where no client does."""


class Offer:
    """Their lists as one, once the first round over them is over."""

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: Catalog,
        denied: Collection[str] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.backends = {backend.name: backend for backend in backends}
        self.catalog = catalog
        self._denied = denied
        self.passed = frozenset[bytes]().union(
            *(backend.settings.passed for backend in self.backends.values())
        )
        """Headers of clients that some backend gets, in lower case."""
        self._audiences = Audiences(self.backends, self.passed)
        self._first_round: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._listed = {(kind.method, found): 0 for kind in KINDS for found in ("hit", "miss")}
        """Lists that clients have asked for, by method and whether backends were asked, too."""

    def _begin_round(self) -> None:
        self._started_at = asyncio.get_running_loop().time()
        self._first_round = asyncio.create_task(self._settle())

    def _end_round(self) -> None:
        if self._first_round is not None:
            self._first_round.cancel()

    @property
    def round_ended(self) -> bool:
        """Whether every backend was tried, or has had its time; what readiness waits for."""
        if all(backend.watch.settled.is_set() for backend in self.backends.values()):
            return True
        return asyncio.get_running_loop().time() - self._started_at > READY_ROUND

    async def settled(self) -> None:
        """Wait for the first round over the backends; a hung one is waited for only so long."""
        assert self._first_round is not None
        if not self._first_round.done():
            await asyncio.shield(self._first_round)

    async def _settle(self) -> None:
        left = {
            asyncio.create_task(backend.watch.settled.wait()) for backend in self.backends.values()
        }
        try:
            async with asyncio.timeout(FIRST_ROUND):
                while left and not any(b.watch.health.usable for b in self.backends.values()):
                    _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                if left:
                    await asyncio.wait(left, timeout=GRACE)
        except TimeoutError:
            return
        finally:
            for waiting in left:
                waiting.cancel()

    def capabilities(self, *, modern: bool) -> dict[str, Any]:
        """What the backends offer to clients of this era; of one never reached, what it might."""
        offers: list[Mapping[str, Any]] = []
        for backend in self.backends.values():
            greeting = backend.watch.greeting
            if greeting is None:
                offers.append(capabilities.UNKNOWN)
                continue
            offer = offered(
                greeting.capabilities,
                modern_backend=greeting.modern,
                modern_client=modern,
                alone=len(self.backends) == 1,
                denied=self._denied,
            )
            offers.append(offer)
        return capabilities.merged(offers)

    def instructions(self) -> str | None:
        """The instructions of all backends."""
        found = []
        for backend in self.backends.values():
            greeting = backend.watch.greeting
            text = greeting.member("instructions") if greeting else None
            if isinstance(text, str):
                found.append((backend.settings.prefix, text))
        return capabilities.instructions(found)

    def server_info(self) -> dict[str, str]:
        """How the proxy introduces itself."""
        return {"name": self.name, "version": self.version}

    async def listing(
        self, kind: Kind, params: Message | None, *, modern: bool, client: Client = NOBODY
    ) -> bytes:
        """The merged list, refreshed where backends answer soon enough. Raises RpcError.

        It is what the backends list to a client with the capabilities of this one, or to one that
        declares nothing.
        """
        await self.settled()
        now = asyncio.get_running_loop().time()
        found = self.listed(kind, params, modern=modern, client=client, now=now)
        if found is not None:
            return b"".join(found)
        audience = self._audiences.of(client)
        refreshing = [
            asyncio.create_task(backend.watch.refresh(kind, client, seen))
            for backend, seen in self._old(kind, audience, now)
        ]
        self._listed[kind.method, "miss"] += 1
        await asyncio.wait(refreshing)
        found = self.catalog.result_parts(kind, modern=modern, now=now, audience=audience)
        return b"".join(found)

    def listed(
        self, kind: Kind, params: Message | None, *, modern: bool, client: Client, now: float
    ) -> tuple[bytes, bytes, bytes] | None:
        """The parts of the merged list where no backend has to be asked. Raises RpcError."""
        if params is not None and params.get("cursor", jsonrpc.NULL) != jsonrpc.NULL:
            raise RpcError(INVALID_PARAMS, "params.cursor is not one of ours: lists have one page")
        if self._first_round is None or not self._first_round.done():
            return None
        audience = self._audiences.of(client)
        if any(self._old(kind, audience, now)):
            return None
        self._listed[kind.method, "hit"] += 1
        return self.catalog.result_parts(kind, modern=modern, now=now, audience=audience)

    def _old(
        self, kind: Kind, audience: Audience, now: float
    ) -> Iterator[tuple[Backend, bytes | None]]:
        """The backends that have to be asked first, and what they see of such clients."""
        for name, backend in self.backends.items():
            seen = audience.seen.get(name)
            if backend.watch.wants_refresh(kind, now, seen):
                yield backend, seen
