"""Policy: the rules of one proxy, and the access classes of its callers."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mcpproxy.limits.access import ACCESS_CLASSES
from mcpproxy.proxy.authorization.rules import (
    ComponentSource,
    Key,
    Offer,
    Rule,
    read_offer,
    version_of,
)
from mcpproxy.proxy.core.access import DENIED, Verdict
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS, ComponentKind

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.access.authorization import Authorization

_BY_DEFAULT = Verdict(allowed=True)


@dataclass(slots=True)
class _Table:
    """Decisions of one class about all listed components that it shows."""

    offer: Offer
    shown: dict[Key, Verdict]
    backends: frozenset[str]
    seen: int
    """Version of the catalog for which the table was last found to be current."""


class AccessClass:
    """All callers to which the same rules apply."""

    def __init__(self, policy: "Policy", rules: tuple[Rule, ...], almost: tuple[Rule, ...]) -> None:
        """`almost` are the rules for which callers lack scopes only."""
        self.rules = rules
        self.almost = almost
        self._policy = policy
        self._tables: dict[ComponentKind, _Table] = {}
        mentioned = policy.rules if policy.allows_by_default else ()
        text = "\n".join(("0", *(r.text for r in rules), "1", *(r.text for r in mentioned)))
        self.digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def judge(self, kind: ComponentKind, backend: str, name: str) -> Verdict:
        """Return the decision on a component, by its downstream name or URI."""
        table, key = self._tables.get(kind), (backend, name)
        # As `_table`, but without calls while nothing changes.
        if table is None or table.seen != self._policy.source.version:
            table = self._table(kind)
        verdict = table.shown.get(key)
        return self._decide(kind, key, table.offer) if verdict is None else verdict

    def shows(self, kind: ComponentKind, backend: str, name: str) -> bool:
        """Return True if lists show a component."""
        return self.judge(kind, backend, name).shown

    def uses_tools(self, backend: str) -> bool:
        """Return True if some tool of a backend is shown."""
        return backend in self._table(TOOLS).backends

    def may_reach(self, backend: str) -> bool:
        """Return True if the rules allow anything of a backend, whatever it offers."""
        if any(rule.may_reach(backend) for rule in self.rules):
            return True
        return self._policy.allows_by_default and not self._policy.mentions_whole(backend)

    def has_whole(self, backend: str) -> bool:
        """Return True if the rules allow everything of a backend, whatever it offers."""
        if any(rule.has_whole(backend) for rule in self.rules):
            return True
        return self._policy.allows_by_default and not self._policy.mentions(backend)

    def names(self, kind: ComponentKind) -> list[Key]:
        """Return the listed components that this class shows, in the order of the catalog."""
        shown = self._table(kind).shown
        return [key for key in self._table(kind).offer.hints if key in shown]

    def _table(self, kind: ComponentKind) -> _Table:
        table, source = self._tables.get(kind), self._policy.source
        if table is None or table.offer.version != version_of(source, kind):
            offer = self._policy.offer(kind)
            shown = {
                key: verdict
                for key in offer.hints
                if (verdict := self._decide(kind, key, offer)).shown
            }
            backends = frozenset(backend for backend, _ in shown)
            table = _Table(offer, shown, backends, source.version)
        elif table.seen != source.version:
            table = replace(table, seen=source.version)
        self._tables[kind] = table
        return table

    def _decide(self, kind: ComponentKind, key: Key, offer: Offer) -> Verdict:
        covering = [rule for rule in self.rules if rule.covers(kind, key, offer)]
        conditions, names = [], []
        for rule in covering:
            if rule.condition is None:
                return rule.verdict
            conditions.append(rule.condition)
            names.append(rule.name)
        if self._policy.allows_by_default and not any(
            rule.mentions(kind, key, offer) for rule in self._policy.rules
        ):
            return _BY_DEFAULT
        scopes = next((r.scopes for r in self.almost if r.covers(kind, key, offer)), ())
        if not (conditions or scopes):
            return DENIED
        return Verdict(
            allowed=False, conditions=tuple(conditions), rules=tuple(names), scopes=scopes
        )


class Policy:
    """The rules of one proxy."""

    def __init__(self, spec: "Authorization", source: ComponentSource) -> None:
        self.spec = spec
        self.source = source
        self.rules = tuple(Rule(number, rule) for number, rule in enumerate(spec.rules or ()))
        self.allows_by_default = spec.default == "Allow"
        self.scopes = tuple(dict.fromkeys(s for rule in self.rules for s in rule.scopes))
        """All scopes that some rule requires."""
        self._reads_hints = any(rule.reads_hints for rule in self.rules)
        self._classes: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], AccessClass] = (
            OrderedDict()
        )
        self._offers: dict[ComponentKind, Offer] = {}
        self.nobody = AccessClass(self, (), ())
        """Class of requests without an identity."""

    def access_class(self, identity: Identity = ANONYMOUS) -> AccessClass:
        """Return the class of a caller; callers to whom the same rules apply share it."""
        rules = [rule for rule in self.rules if rule.applies_to(identity)]
        own = tuple(rule for rule in rules if rule.has_scopes(identity))
        # Only an authorization server grants scopes.
        by_token = identity.method == "jwt"
        almost = tuple(r for r in rules if by_token and not r.has_scopes(identity))
        key = tuple(r.number for r in own), tuple(r.number for r in almost)
        known = self._classes.get(key)
        if known is not None:
            self._classes.move_to_end(key)
            return known
        if len(self._classes) >= ACCESS_CLASSES.value:
            ACCESS_CLASSES.record()
            self._classes.popitem(last=False)
        known = self._classes[key] = AccessClass(self, own, almost)
        return known

    @property
    def class_count(self) -> int:
        """Number of classes that callers had recently."""
        return len(self._classes)

    def offer(self, kind: ComponentKind) -> Offer:
        """Return the current components of a kind."""
        offer = self._offers.get(kind)
        if offer is None or offer.version != version_of(self.source, kind):
            offer = read_offer(self.source, kind, with_hints=self._reads_hints)
            self._offers[kind] = offer
        return offer

    def mentions(self, backend: str) -> bool:
        """Return True if some rule may cover components of a backend."""
        return any(rule.may_reach(backend) for rule in self.rules)

    def mentions_whole(self, backend: str) -> bool:
        """Return True if some rule covers all components of a backend."""
        return any(
            grant.whole and grant.matches_backend(backend)
            for rule in self.rules
            for grant in rule.grants
        )

    def unused(self) -> list[str]:
        """Return the entries of rules that cover nothing in the current catalog."""
        offers = {kind: self.offer(kind) for kind in KINDS}
        return [
            f"{rule.name}: may[{number}]"
            for rule in self.rules
            for number in rule.unused_grants(offers)
        ]
