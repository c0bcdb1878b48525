"""What the backends of one proxy offer together: capabilities, instructions, merged lists."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from mcpproxy.proxy.core.catalog import capabilities
from mcpproxy.proxy.core.catalog.catalog import Catalog, ListVariant
from mcpproxy.proxy.core.catalog.extensions import offered
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.gateway.list_variants import ListVariants
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.backend import Backend

READY_ROUND: Final = 10.0
"""Seconds that a hung backend can keep the proxy from being ready."""
GREETING_WAIT: Final = 0.5
"""Seconds that a greeting waits for backends; what they lack by then is announced later."""

NOTHING: Final = b"[]"
"""A list without a component."""
NOBODY: Final = ClientIdentity(LATEST_MODERN)
"""Asks for lists where no client does."""


class Aggregate:
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
        self._audiences = ListVariants(self.backends, self.passed)
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

    @property
    def first_round_over(self) -> bool:
        """Whether every backend has answered, failed, or had the time to start."""
        return self._first_round is not None and self._first_round.done()

    async def settled(self, at_most: float | None = None) -> None:
        """Wait for the first round over the backends, but no longer than `at_most` seconds."""
        assert self._first_round is not None
        if not self._first_round.done():
            await asyncio.wait([self._first_round], timeout=at_most)

    async def _settle(self) -> None:
        await asyncio.gather(
            *(backend.wait_for_first_check() for backend in self.backends.values())
        )

    async def another_settled(self) -> None:
        """Wait until the first round is over, or one more backend has answered or failed."""
        assert self._first_round is not None
        waiting = [
            asyncio.create_task(backend.watch.settled.wait())
            for backend in self.backends.values()
            if not backend.watch.settled.is_set()
        ]
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait([self._first_round, *waiting], return_when=first)
        finally:
            for task in waiting:
                task.cancel()

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
                tells_apart=backend.tells_apart,
                denied=self._denied,
            )
            offers += [offer, {name: {} for name in backend.watch.lists.undeclared}]
        return capabilities.merge_capabilities(offers)

    def instructions(self) -> str | None:
        """The instructions of all backends."""
        found = []
        for backend in self.backends.values():
            greeting = backend.watch.greeting
            text = greeting.member("instructions") if greeting else None
            if isinstance(text, str):
                found.append((backend.settings.prefix, text))
        return capabilities.merge_instructions(found)

    def server_info(self) -> dict[str, str]:
        """How the proxy introduces itself."""
        return {"name": self.name, "version": self.version}

    async def listing(
        self,
        kind: ComponentKind,
        params: Message | None,
        *,
        modern: bool,
        client: ClientIdentity = NOBODY,
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
        if refreshing:
            await asyncio.wait(refreshing)
        failures, now = self._failures(kind), asyncio.get_running_loop().time()
        found = self.catalog.result_parts(
            kind, modern=modern, now=now, audience=audience, whole=not failures
        )
        if failures and found[1] == NOTHING:
            named = "; ".join(f"backend {name}: {why}" for name, why in failures.items())
            text = f"no {kind.member} are known, since backends have failed: {named}"
            raise RpcError(UNAVAILABLE, text, {"backends": sorted(failures)})
        return b"".join(found)

    def _failures(self, kind: ComponentKind) -> dict[str, str]:
        """The backends whose list is missing though they may have one, and why."""
        failures = ((name, backend.watch.failure(kind)) for name, backend in self.backends.items())
        return {name: why for name, why in failures if why is not None}

    def listed(
        self,
        kind: ComponentKind,
        params: Message | None,
        *,
        modern: bool,
        client: ClientIdentity,
        now: float,
    ) -> tuple[bytes, bytes, bytes] | None:
        """The parts of the merged list where no backend has to be asked. Raises RpcError."""
        if params is not None and params.get("cursor", jsonrpc.NULL) != jsonrpc.NULL:
            raise RpcError(INVALID_PARAMS, "params.cursor is not one of ours: lists have one page")
        if not self.first_round_over:
            return None
        audience = self._audiences.of(client)
        if any(self._old(kind, audience, now)):
            return None
        whole = not any(backend.watch.failure(kind) for backend in self.backends.values())
        found = self.catalog.result_parts(
            kind, modern=modern, now=now, audience=audience, whole=whole
        )
        if found[1] == NOTHING and not whole:
            return None
        self._listed[kind.method, "hit"] += 1
        return found

    def _old(
        self, kind: ComponentKind, audience: ListVariant, now: float
    ) -> Iterator[tuple[Backend, bytes | None]]:
        """The backends that have to be asked first, and what they see of such clients."""
        for name, backend in self.backends.items():
            seen = audience.seen.get(name)
            if backend.watch.wants_refresh(kind, now, seen):
                yield backend, seen
