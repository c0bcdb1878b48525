"""Rows of the page: what the status of each MCPProxy says."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.cached_reads import Name, ObjectCache

MAX_MESSAGE: Final = 500
"""Characters of a message that are kept."""
STEP: Final = 25
"""Objects that are decoded before other work of the operator goes on."""
_UNKNOWN: Final = "Unknown"
_ORDER: Final[Mapping[str, int]] = {"False": 0, _UNKNOWN: 1, "True": 2}


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend."""

    name: str
    state: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ProxyRow:
    """One MCPProxy."""

    namespace: str
    name: str
    ready: str
    """Status of the condition Ready."""
    reason: str
    message: str
    summary: str
    pods: str
    backends_healthy: str
    tools: int | None
    url: str
    backends: tuple[BackendRow, ...]
    others: tuple[tuple[str, str, str], ...]
    """Type, status and reason of the other conditions."""

    @property
    def order(self) -> tuple[int, str, str]:
        """Sort key: MCPProxies that are not ready are first."""
        return _ORDER.get(self.ready, 1), self.namespace, self.name


class ProxyRows:
    """Rows of all MCPProxies in a store; objects that have not changed are not decoded again."""

    def __init__(self, store: ObjectCache) -> None:
        self._store = store
        self._rows: dict[Name, tuple[int, ProxyRow]] = {}
        self._reading = asyncio.Lock()

    @property
    def is_fresh(self) -> bool:
        """True if the watch that fills the store keeps up, as far as is known."""
        return self._store.is_fresh

    async def read(self) -> Sequence[ProxyRow]:
        """Return the rows in their order."""
        async with self._reading:
            await self._update()
        return sorted((row for _, row in self._rows.values()), key=lambda row: row.order)

    async def _update(self) -> None:
        versions = self._store.versions()
        for gone in self._rows.keys() - versions.keys():
            del self._rows[gone]
        decoded = 0
        for name, version in versions.items():
            known = self._rows.get(name)
            if known is not None and known[0] == version:
                continue
            live = self._store.stored(name)
            if live is not None:
                self._rows[name] = version, proxy_row(live)
                decoded += 1
                if decoded % STEP == 0:
                    await asyncio.sleep(0)


def proxy_row(live: Object) -> ProxyRow:
    """Return the row of an MCPProxy."""
    status: Mapping[str, Any] = live.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    ready = conditions.pop("Ready", {})
    return ProxyRow(
        namespace=live["metadata"]["namespace"],
        name=live["metadata"]["name"],
        ready=ready.get("status", _UNKNOWN),
        reason=ready.get("reason", "NotSeen"),
        message=str(ready.get("message", ""))[:MAX_MESSAGE],
        summary=status.get("summary") or "",
        pods=status.get("pods") or "",
        backends_healthy=status.get("backendsHealthy") or "",
        tools=(status.get("components") or {}).get("tools"),
        url=status.get("url") or "",
        backends=tuple(map(_backend_row, status.get("backends") or ())),
        others=tuple(
            (kind, condition.get("status", ""), condition.get("reason", ""))
            for kind, condition in conditions.items()
        ),
    )


def _backend_row(backend: Mapping[str, Any]) -> BackendRow:
    texts = (str(backend.get(name) or "") for name in ("name", "state", "reason", "message"))
    name, state, reason, message = texts
    return BackendRow(name, state, reason, message[:MAX_MESSAGE])
