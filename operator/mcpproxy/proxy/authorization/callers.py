"""Matching of callers: the `who` of a rule."""

from typing import TYPE_CHECKING

from mcpproxy.proxy.core.catalog.component_filter import Globs
from mcpproxy.proxy.core.identity import Identity

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.access.authorization import Callers


class CallerMatch:
    """The callers of one rule."""

    def __init__(self, spec: "Callers") -> None:
        self._anyone = bool(spec.any)
        self._anonymous = bool(spec.anonymous)
        self._by_token = spec.by_token
        self._issuers = _words(spec.issuers)
        self._subjects = _words(spec.subjects)
        self._groups = _words(spec.groups)
        self._clients = _words(spec.clients)
        self._keys = frozenset(spec.api_keys or ())
        self._accounts = [
            (Globs([account.namespace]), Globs([account.name]))
            for account in spec.service_accounts or ()
        ]

    def matches(self, identity: Identity) -> bool:
        """Return True if the rule applies to this caller."""
        if self._anyone:
            return True
        if identity.method == "anonymous":
            return self._anonymous
        if identity.method == "apiKey":
            return identity.api_key in self._keys
        if identity.method == "serviceAccount":
            return self._matches_account(identity.service_account)
        return self._by_token and self._matches_token(identity)

    def _matches_account(self, account: tuple[str, str] | None) -> bool:
        if account is None:
            return False
        return any(
            namespace.match(account[0]) and name.match(account[1])
            for namespace, name in self._accounts
        )

    def _matches_token(self, identity: Identity) -> bool:
        pairs = (
            (self._issuers, identity.issuer),
            (self._subjects, identity.subject),
            (self._clients, identity.client),
        )
        if any(words is not None and value not in words for words, value in pairs):
            return False
        return self._groups is None or not self._groups.isdisjoint(identity.groups)


def _words(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
