"""List variants: groups of clients that get the same lists from every backend."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from mcpproxy.proxy.core.catalog.list_variant import EVERYONE, ListVariant
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.backend import Backend

MAX_VARIANTS: Final = 32
"""Maximum number of list variants in memory; the least recently used is removed."""
MAX_CLASS_VARIANTS: Final = 512
"""The same with `spec.authorization`, under which each set of rules has its own list variants, and
with backends that are called on behalf of callers, each of whom has its own."""
MAX_DECLARED: Final = 8192
"""Maximum size in bytes of capabilities that select a list variant.

Clients that declare more get the lists of clients without declared capabilities.
"""


class ListVariants:
    """Recently used list variants."""

    def __init__(self, backends: Mapping[str, Backend], passed: frozenset[bytes]) -> None:
        """Create an empty set. `passed` are the client headers that some backend gets."""
        self._backends = backends
        self._passed = passed
        self._per_client = [b for b in backends.values() if b.settings.session_mode == "PerClient"]
        """Backends that have separate sessions for each client."""
        self._for_callers = any(b.settings.for_callers for b in backends.values())
        """True if some backend is called on behalf of each caller."""
        self._recent: OrderedDict[tuple[object, ...], ListVariant] = OrderedDict()

    def of(self, client: ClientIdentity) -> ListVariant:
        """Return the list variant of a client."""
        declared, mark, access = client.capabilities, client.mark(self._passed), client.access
        own = [backend.clients.own_key(client) for backend in self._per_client]
        principal = client.principal if self._for_callers else ""
        if len(declared) > MAX_DECLARED:
            declared, mark, own, principal = b"{}", None, [], ""
        plain = declared == b"{}" and mark is None and not (any(own) or principal)
        if plain and access is None:
            return EVERYONE
        key = access, declared, mark, principal, *own
        variant = self._recent.get(key)
        if variant is not None:
            self._recent.move_to_end(key)
            return variant
        seen = (
            {}
            if plain
            else {
                name: backend.clients.variant_key(client)
                for name, backend in self._backends.items()
            }
        )
        variant = ListVariant(
            {
                name: key_of_backend
                for name, key_of_backend in seen.items()
                if key_of_backend is not None
            },
            access,
        )
        self._recent[key] = variant
        is_common = access is None and not principal
        limit = MAX_VARIANTS if is_common else MAX_CLASS_VARIANTS
        if len(self._recent) > limit:
            self._recent.popitem(last=False)
        return variant
