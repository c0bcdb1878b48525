"""Aggregate of the backends of one proxy: capabilities, instructions, merged lists."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog import capabilities
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.extensions import usable_capabilities
from mcpproxy.proxy.core.catalog.list_variant import ListVariant
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.gateway.list_variants import ListVariants
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.backend import Backend

if TYPE_CHECKING:
    # Most proxies have none of these, so only bootstrap imports them, where they are configured.
    from mcpproxy.proxy.gateway.audited_requests import AuditedRequests

READY_ROUND: Final = 10.0
"""Maximum number of seconds for which an unresponsive backend delays readiness."""
INITIALIZE_WAIT: Final = 0.5
"""Maximum number of seconds for which `initialize` waits for backends.

Capabilities that are unknown by then are announced later.
"""

NOTHING: Final = b"[]"
"""Empty list."""
NOBODY: Final = ClientIdentity(LATEST_MODERN)
"""Client identity of list requests without a client."""


class Aggregate:
    """Backends of one proxy as one server, with merged lists."""

    def __init__(
        self,
        name: str,
        version: str,
        backends: Iterable[Backend],
        catalog: Catalog,
        denied: Collection[str] = (),
        audit: "AuditedRequests | None" = None,
    ) -> None:
        self.name = name
        self.audit = audit
        """The audit log; None if nothing is recorded."""
        self.version = version
        self.backends = {backend.name: backend for backend in backends}
        self.catalog = catalog
        self._denied = denied
        self.passed = frozenset[bytes]().union(
            *(backend.settings.passed for backend in self.backends.values())
        )
        """Client headers that some backend gets, with lower-case names."""
        distinguished = (backend.settings.distinguished for backend in self.backends.values())
        self._variants = ListVariants(self.backends, frozenset[bytes]().union(*distinguished))
        self._first_round: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self.list_requests = {
            (kind.method, cache): 0 for kind in KINDS for cache in ("hit", "miss")
        }
        """Number of list requests by method and cache result (hit or miss)."""

    def begin_round(self) -> None:
        """Start the first round over the backends."""
        self._started_at = asyncio.get_running_loop().time()
        self._first_round = asyncio.create_task(self._settle())

    def end_round(self) -> None:
        """Stop to wait for the first round over the backends."""
        if self._first_round is not None:
            self._first_round.cancel()

    @property
    def initial_round_done(self) -> bool:
        """True once every backend was tried or had enough time; readiness waits for it."""
        if all(backend.watch.settled.is_set() for backend in self.backends.values()):
            return True
        return asyncio.get_running_loop().time() - self._started_at > READY_ROUND

    @property
    def first_round_over(self) -> bool:
        """True once every backend has responded, failed, or had the time to start."""
        return self._first_round is not None and self._first_round.done()

    async def settled(self, at_most: float | None = None) -> None:
        """Wait for the first round over the backends, for at most `at_most` seconds."""
        assert self._first_round is not None
        if not self._first_round.done():
            await asyncio.wait([self._first_round], timeout=at_most)

    async def _settle(self) -> None:
        await asyncio.gather(
            *(backend.wait_for_first_check() for backend in self.backends.values())
        )

    async def wait_for_next_backend(self) -> None:
        """Wait until the first round is over, or one more backend has responded or failed."""
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

    def capabilities(self, *, modern: bool, access: Access | None = None) -> dict[str, Any]:
        """Return the merged capabilities for clients of this era and with this access.

        A backend that was never reached counts as having all capabilities.
        """
        offers: list[Mapping[str, Any]] = []
        for backend in self._within_reach(access):
            server = backend.watch.server
            if server is None:
                offers.append(capabilities.UNKNOWN)
                continue
            offer = usable_capabilities(
                server.capabilities,
                modern_backend=server.modern,
                modern_client=modern,
                alone=len(self.backends) == 1,
                tells_apart=backend.tells_apart,
                denied=self._denied,
            )
            offers += [offer, {name: {} for name in backend.watch.lists.undeclared}]
        return capabilities.merge_capabilities(offers)

    def _within_reach(self, access: Access | None) -> Iterator[Backend]:
        """Yield the backends of which a client may use anything."""
        for name, backend in self.backends.items():
            if access is None or access.may_reach(name):
                yield backend

    def instructions(self, access: Access | None = None) -> str | None:
        """Return the merged instructions of the backends within reach of a client."""
        texts = []
        for backend in self._within_reach(access):
            server = backend.watch.server
            text = server.member("instructions") if server else None
            if isinstance(text, str):
                texts.append((backend.settings.prefix, text))
        return capabilities.merge_instructions(texts)

    def server_info(self) -> dict[str, str]:
        """Return the `serverInfo` of the proxy."""
        return {"name": self.name, "version": self.version}

    async def listing(
        self,
        kind: ComponentKind,
        params: Message | None,
        *,
        modern: bool,
        client: ClientIdentity = NOBODY,
    ) -> bytes:
        """Return the merged list; refresh it if backends respond in time. Raise RpcError.

        The list is the variant for the capabilities and headers of this client.
        """
        await self.settled()
        now = asyncio.get_running_loop().time()
        parts = self.listed(kind, params, modern=modern, client=client, now=now)
        if parts is not None:
            return b"".join(parts)
        variant = self._variants.of(client)
        refreshing = [
            asyncio.create_task(backend.watch.refresh(kind, client, seen))
            for backend, seen in self._stale_backends(kind, variant, now)
        ]
        self.list_requests[kind.method, "miss"] += 1
        if refreshing:
            await asyncio.wait(refreshing)
        failures, now = self._failures(kind, variant), asyncio.get_running_loop().time()
        parts = self.catalog.list_result_parts(
            kind, modern=modern, now=now, audience=variant, whole=not failures
        )
        if failures and parts[1] == NOTHING:
            reasons = "; ".join(f"backend {name}: {why}" for name, why in failures.items())
            text = f"the list of {kind.member} is unknown, because backends failed: {reasons}"
            raise RpcError(UNAVAILABLE, text, {"backends": sorted(failures)})
        self._record_list(kind, client, parts)
        return b"".join(parts)

    def _record_list(
        self, kind: ComponentKind, client: ClientIdentity, parts: tuple[bytes, bytes, bytes]
    ) -> None:
        if self.audit is not None:
            self.audit.record_list(kind.method, client, sum(map(len, parts)))

    def _failures(self, kind: ComponentKind, variant: ListVariant) -> dict[str, str]:
        """Return the backends whose list is missing because of a failure, with the failure."""
        failures = {
            backend.name: backend.watch.failure(kind, variant.seen.get(backend.name))
            for backend in self._within_reach(variant.access)
        }
        return {name: why for name, why in failures.items() if why is not None}

    def listed(
        self,
        kind: ComponentKind,
        params: Message | None,
        *,
        modern: bool,
        client: ClientIdentity,
        now: float,
    ) -> tuple[bytes, bytes, bytes] | None:
        """Return the parts of the cached merged list, or None if it is stale. Raise RpcError."""
        if params is not None and params.get("cursor", jsonrpc.NULL) != jsonrpc.NULL:
            raise RpcError(
                INVALID_PARAMS, "params.cursor is invalid: lists have one page; send no cursor"
            )
        if not self.first_round_over:
            return None
        variant = self._variants.of(client)
        if any(self._stale_backends(kind, variant, now)):
            return None
        whole = not self._failures(kind, variant)
        parts = self.catalog.list_result_parts(
            kind, modern=modern, now=now, audience=variant, whole=whole
        )
        if parts[1] == NOTHING and not whole:
            return None
        self.list_requests[kind.method, "hit"] += 1
        self._record_list(kind, client, parts)
        return parts

    def _stale_backends(
        self, kind: ComponentKind, variant: ListVariant, now: float
    ) -> Iterator[tuple[Backend, bytes | None]]:
        """Yield the backends with a stale list, with the variant key of these clients."""
        for name, backend in self.backends.items():
            seen = variant.seen.get(name)
            if backend.watch.wants_refresh(kind, now, seen):
                yield backend, seen
