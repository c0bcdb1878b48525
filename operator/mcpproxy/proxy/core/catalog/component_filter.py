"""Which components of one kind clients see, and how: include, exclude, overrides.

All names here are without the prefix: the backend's own ones, and those that overrides give.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpproxy.api.v1alpha1.component_filters import Components, NamedComponents, NamedOverride
from mcpproxy.proxy.core.translation.patterns import Pattern, PatternText, Wildcard
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

_WILDCARDS: Final = {"*": Wildcard.ANY, "?": Wildcard.ONE}


class Globs:
    """Patterns in which `*` stands for any text and `?` for one character; `[` means itself."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._literals: set[str] = set()
        self._patterns: list[Pattern] = []
        for glob in globs:
            if _WILDCARDS.keys() & {*glob}:
                self._patterns.append(Pattern(map(_part, glob)))
            else:
                self._literals.add(glob)

    def match(self, name: str) -> bool:
        """True if one of the patterns describes the whole name."""
        if name in self._literals:
            return True
        if not self._patterns:
            return False
        text = PatternText(name)
        return any(pattern.matches(text) for pattern in self._patterns)


def _part(character: str) -> bytes | Wildcard:
    return _WILDCARDS.get(character) or character.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ComponentFilter:
    """What holds for one kind of component of one backend."""

    include: Globs | None = None
    exclude: Globs | None = None
    hidden: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Own name → the name it is shown by."""
    original: Mapping[str, str] = field(default_factory=dict)
    """The other way round."""
    texts: Mapping[str, Message] = field(default_factory=dict)
    """Own name → members that replace the component's."""

    @classmethod
    def of(cls, given: Components | NamedComponents | None) -> "ComponentFilter":
        """The selection that a spec asks for."""
        if given is None:
            return EVERYTHING
        overrides = given.overrides or ()
        renamed = {o.name: o.rename for o in overrides if isinstance(o, NamedOverride) and o.rename}
        return cls(
            include=None if given.include is None else Globs(given.include),
            exclude=None if given.exclude is None else Globs(given.exclude),
            hidden=frozenset(o.name for o in overrides if o.enabled is False),
            renamed=renamed,
            original={new: own for own, new in renamed.items()},
            texts={o.name: _texts(o.title, o.description) for o in overrides},
        )

    @property
    def everything(self) -> bool:
        """Whether all is shown as it is."""
        return self is EVERYTHING

    def shows(self, own: str) -> bool:
        """Whether clients see a component, and may use it."""
        if own in self.hidden or (self.exclude is not None and self.exclude.match(own)):
            return False
        return self.include is None or self.include.match(own)

    def outward(self, own: str) -> str:
        """The name that clients see."""
        return self.renamed.get(own, own)

    def inward(self, name: str) -> str | None:
        """The backend's own name; None when clients do not see such a component."""
        own = self.original.get(name, name)
        if own == name and name in self.renamed:
            return None
        return own if self.shows(own) else None

    def applied(self, own: str, item: Message) -> Message:
        """A component with the texts that clients see."""
        texts = self.texts.get(own)
        return {**item, **texts} if texts else item


def _texts(title: str | None, description: str | None) -> Message:
    given: dict[str, Any] = {"title": title, "description": description}
    return {name: jsonrpc.encode_raw(text) for name, text in given.items() if text is not None}


EVERYTHING: Final = ComponentFilter()
"""All components, as they are."""
NOTHING: Final = ComponentFilter(include=Globs(()))
"""No component at all."""
