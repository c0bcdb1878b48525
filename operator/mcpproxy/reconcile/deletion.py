"""MCPProxies that are being deleted, alone or with their namespaces."""

from dataclasses import replace
from typing import Protocol

from mcpproxy.cluster.errors import Conflict, NamespaceTerminating, NotFound
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.reconcile.snapshot import Snapshot
from mcpproxy.reconcile.status_updates.status_writer import StatusWriter


class Memory(Protocol):
    """Knowledge that passes have gained about MCPProxies."""

    def forget(self, key: ProxyKey, /) -> None:
        """Forget an MCPProxy that no longer exists."""


class Memories:
    """All of them, with the uids of the MCPProxies that they know."""

    def __init__(self, *memories: Memory) -> None:
        self._memories = memories
        self._uids: dict[ProxyKey, str] = {}

    def note(self, key: ProxyKey, uid: str) -> None:
        """Forget an MCPProxy of this name that was deleted between two passes."""
        if self._uids.get(key, uid) != uid:
            self.forget(key)
        self._uids[key] = uid

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._uids.pop(key, None)
        for memory in self._memories:
            memory.forget(key)


class Deletions:
    """MCPProxies whose namespaces are being deleted, and the status of all that are deleted."""

    def __init__(self, status: StatusWriter) -> None:
        self._status = status
        self._uids: dict[ProxyKey, str] = {}

    def note(self, key: ProxyKey, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the knowledge that its namespace is being deleted."""
        ending = self._uids.get(key) == snapshot.parent["metadata"]["uid"]
        return replace(snapshot, ending=ending)

    async def begin(self, key: ProxyKey, snapshot: Snapshot) -> None:
        """Begin to report that the namespace is being deleted: all creations in it fail."""
        self._uids[key] = snapshot.parent["metadata"]["uid"]
        await self.report(key, replace(snapshot, ending=True))

    async def report(self, key: ProxyKey, snapshot: Snapshot | None) -> None:
        """Report that the MCPProxy is being deleted; without a snapshot it no longer exists."""
        if snapshot is None:
            self._uids.pop(key, None)
            return
        try:
            await self._status.write(snapshot, None)
        except (Conflict, NamespaceTerminating, NotFound):
            # The object has been deleted since it was read, or is about to be.
            return
