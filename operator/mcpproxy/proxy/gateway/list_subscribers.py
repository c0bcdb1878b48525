"""Subscribers to changes of the merged lists, with access to different parts of them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.protocol.kinds import BY_CHANGED, KINDS, ComponentKind

Subscriber = Callable[[str], None]
"""Callback with the method of a notification."""


class _Subscription(NamedTuple):
    session: str | None
    access: Access | None


class ListSubscribers:
    """Callbacks for list changes.

    A client whose access is restricted gets only the changes that it sees.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._subscribers: dict[Subscriber, _Subscription] = {}
        self._users: dict[Access, int] = {}
        """Number of subscribers with each access."""
        self._views: dict[Access, dict[str, int]] = {}
        """Access of subscribers → the last view of each list, by the method of its notification."""

    def add(
        self,
        subscriber: Subscriber,
        session: str | None,
        access: Access | None = None,
        known: str | None = None,
    ) -> Callable[[], None]:
        """Call `subscriber` when a list changes; return the canceller.

        Changes in only one session's lists go to the subscribers of that session and to those with
        None. `known` is the digest of the rules for which the client got its lists; if others apply
        now, all its lists may have changed.
        """
        self._subscribers[subscriber] = _Subscription(session, access)
        if access is not None:
            if access not in self._views:
                self._views[access] = {method: self._view(method, access) for method in BY_CHANGED}
            self._users[access] = self._users.get(access, 0) + 1
        if known is not None and known != ("" if access is None else access.digest):
            for method in BY_CHANGED:
                subscriber(method)

        def end() -> None:
            if self._subscribers.pop(subscriber, None) is None or access is None:
                return
            self._users[access] -= 1
            if not self._users[access]:
                del self._users[access], self._views[access]

        return end

    def announce(self, kinds: Iterable[ComponentKind], session: str = "") -> None:
        """Notify subscribers of changed lists: those of one session, or all if it is empty."""
        changed = {*kinds}
        for method in {kind.changed for kind in KINDS if kind in changed}:
            altered = {access for access in self._views if self._alters(access, method)}
            for subscriber, (own, access) in list(self._subscribers.items()):
                concerned = not session or own in (None, session)
                if concerned and (access is None or access in altered):
                    subscriber(method)

    def _alters(self, access: Access, method: str) -> bool:
        """Return True if a view has changed since the last notification."""
        view = self._view(method, access)
        changed = self._views[access][method] != view
        self._views[access][method] = view
        return changed

    def _view(self, method: str, access: Access) -> int:
        return hash(tuple(self._catalog.view(kind, access) for kind in BY_CHANGED[method]))
