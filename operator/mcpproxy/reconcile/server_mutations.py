"""Changes that the API server makes to applied fields, by webhooks and conversions."""

from collections.abc import Container

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal
from mcpproxy.cluster.resources import ProxyKey


class ServerMutations:
    """The manifests that the API server changed, with the fields that resulted."""

    def __init__(self) -> None:
        self._results: dict[ProxyKey, dict[str, tuple[Object, Object]]] = {}

    def is_in_sync(self, key: ProxyKey, manifest: Object, live: Object) -> bool:
        """Return True if applying the manifest would change nothing.

        The live object has the fields of the manifest, or those that the API server made of the
        same manifest before.
        """
        applied = applied_fields(live, constants.FIELD_MANAGER)
        if semantically_equal(intended_fields(manifest), applied):
            return True
        result = self._results.get(key, {}).get(live["metadata"]["uid"])
        return result == (manifest, applied)

    def remember(self, key: ProxyKey, manifest: Object, stored: Object) -> None:
        """Remember the fields that the API server made of a manifest, if it changed them."""
        applied = applied_fields(stored, constants.FIELD_MANAGER)
        if not semantically_equal(intended_fields(manifest), applied):
            self._results.setdefault(key, {})[stored["metadata"]["uid"]] = (manifest, applied)

    def retain(self, key: ProxyKey, uids: Container[str]) -> None:
        """Forget the children of an MCPProxy that do not have these uids."""
        results = self._results.get(key, {})
        for gone in [uid for uid in results if uid not in uids]:
            del results[gone]

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._results.pop(key, None)
