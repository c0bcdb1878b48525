"""Proxies in front of backends that demand tokens of an authorization server."""

from contextlib import AsyncExitStack
from typing import Any

from tests.proxy.runtime.granting import Demanding, Grants, demanding
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import Proxy, proxied
from tests.support.authority import Mounted


class Stage:
    """A backend that demands tokens, and a proxy in front of it."""

    def __init__(self, stack: AsyncExitStack, grants: Grants, mounted: Mounted) -> None:
        self._stack = stack
        self.grants = grants
        self.mounted = mounted

    async def backend(self, era: str = "dual", app: Any = None, **options: Any) -> Demanding:
        """Start a backend."""
        app = app or Peer("p", era).gate
        return await self._stack.enter_async_context(demanding(app, self.grants, **options))

    async def proxy(
        self,
        backend: Demanding,
        auth: Any,
        entry: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        **spec: Any,
    ) -> Proxy:
        """Start a proxy; `entry` are further fields of the backend."""
        fields = {"name": "p", "url": backend.url, "prefix": "", "auth": auth, **(entry or {})}
        options = {"values": self.mounted.directory, **(options or {})}
        return await self._stack.enter_async_context(proxied(fields, options=options, **spec))
