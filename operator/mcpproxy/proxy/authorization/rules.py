"""Rules, with the components of the current catalog that each of them covers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mcpproxy.proxy.authorization.callers import CallerMatch
from mcpproxy.proxy.authorization.conditions import CelCondition
from mcpproxy.proxy.authorization.grants import (
    GrantMatch,
    ToolHints,
    hints_of,
    parse_annotations,
)
from mcpproxy.proxy.core.access import Verdict
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, TOOLS, ComponentKind

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.access.authorization import AuthorizationRule

Key = tuple[str, str]
"""Backend, and downstream name or URI."""


class ComponentSource(Protocol):
    """Catalog of the components that are served."""

    version: int
    """Number that changes whenever any components change."""

    def version_of(self, kind: ComponentKind) -> int:
        """Return a number that changes whenever the components of a kind change."""

    def offered(self, kind: ComponentKind) -> Iterable[tuple[str, str, bytes]]:
        """Yield the backend, the downstream name and the bytes of all components."""


@dataclass(slots=True)
class Offer:
    """All components of one kind."""

    version: tuple[int, int]
    hints: dict[Key, list[ToolHints]]
    """Components, with the hints of all forms of a tool."""
    templates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Backend → its URI templates."""
    coverage: dict[int, tuple[frozenset[Key], frozenset[Key]]] = field(default_factory=dict)
    """Number of a rule → the components that it covers, and those that it mentions."""


def read_offer(source: ComponentSource, kind: ComponentKind, *, with_hints: bool) -> Offer:
    """Return the components of a kind; hints are parsed only on request."""
    hints: dict[Key, list[ToolHints]] = {}
    for backend, name, item in source.offered(kind):
        forms = hints.setdefault((backend, name), [])
        if with_hints and kind is TOOLS:
            forms.append(hints_of(parse_annotations(item)))
    templates: dict[str, list[str]] = {}
    if kind is RESOURCES:
        for backend, name, _ in source.offered(TEMPLATES):
            templates.setdefault(backend, []).append(name)
    return Offer(version_of(source, kind), hints, templates)


def version_of(source: ComponentSource, kind: ComponentKind) -> tuple[int, int]:
    """Return the version of the components on which decisions about this kind depend."""
    return source.version_of(kind), source.version_of(TEMPLATES) if kind is RESOURCES else 0


class Rule:
    """One rule."""

    def __init__(self, number: int, spec: "AuthorizationRule") -> None:
        self.number = number
        self.name = spec.name
        self.scopes = tuple(spec.scopes or ())
        self.condition = None if spec.when is None else CelCondition(spec.when)
        self.grants = [GrantMatch(grant) for grant in spec.may]
        self.text = spec.to_json()
        """JSON of the rule."""
        self.reads_hints = any(grant.annotations is not None for grant in spec.may)
        self.verdict = Verdict(allowed=True, rule=self.name)
        """Verdict on components that the rule allows without a condition."""
        self._callers = CallerMatch(spec.who)
        self._needed = frozenset(self.scopes)

    def applies_to(self, identity: Identity) -> bool:
        """Return True if the rule is for this caller, regardless of scopes."""
        return self._callers.matches(identity)

    def has_scopes(self, identity: Identity) -> bool:
        """Return True if the caller has all scopes of the rule."""
        return self._needed <= identity.scopes

    def may_reach(self, backend: str) -> bool:
        """Return True if some entry may cover components of a backend."""
        return any(grant.matches_backend(backend) for grant in self.grants)

    def has_whole(self, backend: str) -> bool:
        """Return True if some entry is all components of a backend, without a condition."""
        if self.condition is not None:
            return False
        return any(grant.whole and grant.matches_backend(backend) for grant in self.grants)

    def covers(self, kind: ComponentKind, key: Key, offer: Offer) -> bool:
        """Return True if the rule covers a component, which may be unlisted."""
        if key in offer.hints:
            return key in self.coverage(kind, offer)[0]
        return any(self._covers(grant, kind, key, offer) for grant in self.grants)

    def mentions(self, kind: ComponentKind, key: Key, offer: Offer) -> bool:
        """Return True if the rule may cover a component, which may be unlisted."""
        if key in offer.hints:
            return key in self.coverage(kind, offer)[1]
        return any(self._mentions(grant, kind, key, offer) for grant in self.grants)

    def coverage(self, kind: ComponentKind, offer: Offer) -> tuple[frozenset[Key], frozenset[Key]]:
        """Return the listed components that the rule covers, and those that it mentions."""
        known = offer.coverage.get(self.number)
        if known is None:
            covered = self._select(self._covers, kind, offer)
            mentioned = self._select(self._mentions, kind, offer) if self.reads_hints else covered
            known = offer.coverage[self.number] = covered, covered | mentioned
        return known

    def unused_grants(self, kinds: Mapping[ComponentKind, Offer]) -> list[int]:
        """Return the numbers of the entries of `may` that cover no listed component."""
        return [
            number
            for number, grant in enumerate(self.grants)
            if not any(
                self._covers(grant, kind, key, offer)
                for kind, offer in kinds.items()
                for key in offer.hints
            )
        ]

    def _select(self, belongs: "_Belongs", kind: ComponentKind, offer: Offer) -> frozenset[Key]:
        return frozenset(
            key
            for key in offer.hints
            if any(belongs(grant, kind, key, offer) for grant in self.grants)
        )

    @staticmethod
    def _covers(grant: GrantMatch, kind: ComponentKind, key: Key, offer: Offer) -> bool:
        backend, name = key
        if grant.matches(kind, backend, name, offer.hints.get(key, ())):
            return True
        return kind is RESOURCES and Uri(name).is_from(_templates(grant, backend, offer))

    @staticmethod
    def _mentions(grant: GrantMatch, kind: ComponentKind, key: Key, offer: Offer) -> bool:
        backend, name = key
        if grant.mentions(kind, backend, name, offer.hints.get(key, ())):
            return True
        return kind is RESOURCES and Uri(name).may_be_from(_templates(grant, backend, offer))


class _Belongs(Protocol):
    def __call__(
        self, grant: GrantMatch, kind: ComponentKind, key: Key, offer: Offer, /
    ) -> bool: ...


def _templates(grant: GrantMatch, backend: str, offer: Offer) -> list[str]:
    """Return the templates of a backend that an entry covers."""
    return [
        template
        for template in offer.templates.get(backend, ())
        if grant.matches(TEMPLATES, backend, template)
    ]
