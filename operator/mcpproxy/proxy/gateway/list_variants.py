"""Which clients are shown the same lists: those in whom every backend sees the same."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from mcpproxy.proxy.core.catalog.catalog import EVERYONE, ListVariant
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.backend import Backend

MAX_AUDIENCES: Final = 32
"""Kinds of clients whose merged lists are kept; the least recently used goes."""
MAX_DECLARED: Final = 8192
"""Bytes of capabilities that make a difference to lists; clients that declare more are shown what
clients are that declare nothing."""


class ListVariants:
    """The kinds of clients that asked for lists lately."""

    def __init__(self, backends: Mapping[str, Backend], passed: frozenset[bytes]) -> None:
        """`passed` are the headers of clients that some backend gets."""
        self._backends = backends
        self._passed = passed
        self._own = [b for b in backends.values() if b.settings.session_mode == "PerClient"]
        """The backends with which clients have sessions of their own."""
        self._kept: OrderedDict[tuple[bytes | None, ...], ListVariant] = OrderedDict()

    def of(self, client: ClientIdentity) -> ListVariant:
        """All who are shown the same lists as this client."""
        declared, mark = client.capabilities, client.mark(self._passed)
        own = [backend.own(client) for backend in self._own] if self._own else []
        if declared == b"{}" and mark is None and not any(own):
            return EVERYONE
        key = declared, mark, *own
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if len(declared) > MAX_DECLARED:
            return EVERYONE
        seen = {name: backend.seen(client) for name, backend in self._backends.items()}
        found = ListVariant({name: given for name, given in seen.items() if given is not None})
        self._kept[key] = found
        if len(self._kept) > MAX_AUDIENCES:
            self._kept.popitem(last=False)
        return found
