"""Filter for the components of one kind that clients see: include, exclude, overrides.

All names here are without the prefix: the backend's original names and the names that overrides
assign.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mcpproxy.proxy.core.translation.patterns import Pattern, PatternText, Wildcard
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.component_filters import Components, NamedComponents

_WILDCARDS: Final = {"*": Wildcard.ANY, "?": Wildcard.ONE}


class Globs:
    """Patterns in which `*` matches any text and `?` one character; `[` has no special meaning."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._literals: set[str] = set()
        self._patterns: list[Pattern] = []
        # Most globs are a literal and one star, for which a comparison is enough.
        self._heads: tuple[str, ...] = ()
        self._tails: tuple[str, ...] = ()
        for glob in globs:
            wildcards = [character for character in glob if character in _WILDCARDS]
            if not wildcards:
                self._literals.add(glob)
            elif wildcards == ["*"] and glob[-1] == "*":
                self._heads += (glob[:-1],)
            elif wildcards == ["*"] and glob[0] == "*":
                self._tails += (glob[1:],)
            else:
                self._patterns.append(Pattern(map(_part, glob)))

    def match(self, name: str) -> bool:
        """Return True if one of the patterns matches the whole name."""
        if name in self._literals or name.startswith(self._heads) or name.endswith(self._tails):
            return True
        if not self._patterns:
            return False
        text = PatternText(name)
        return any(pattern.matches(text) for pattern in self._patterns)


def _part(character: str) -> bytes | Wildcard:
    return _WILDCARDS.get(character) or character.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ComponentFilter:
    """Filter and overrides for one kind of component of one backend."""

    include: Globs | None = None
    exclude: Globs | None = None
    hidden: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Original name → displayed name."""
    original: Mapping[str, str] = field(default_factory=dict)
    """Displayed name → original name."""
    texts: Mapping[str, Message] = field(default_factory=dict)
    """Original name → fields that replace the component's own."""

    @classmethod
    def of(cls, spec: "Components | NamedComponents | None") -> "ComponentFilter":
        """Build the filter that a spec describes."""
        if spec is None:
            return EVERYTHING
        overrides = spec.overrides or ()
        # Only tools and prompts, which have names, can be renamed.
        renamed = {o.name: rename for o in overrides if (rename := getattr(o, "rename", None))}
        return cls(
            include=None if spec.include is None else Globs(spec.include),
            exclude=None if spec.exclude is None else Globs(spec.exclude),
            hidden=frozenset(o.name for o in overrides if o.enabled is False),
            renamed=renamed,
            original={new: old for old, new in renamed.items()},
            texts={o.name: _texts(o.title, o.description) for o in overrides},
        )

    @property
    def everything(self) -> bool:
        """True if all components are displayed unchanged."""
        return self is EVERYTHING

    def allows(self, original: str) -> bool:
        """Return True if clients can see and use the component with this original name."""
        if original in self.hidden or (self.exclude is not None and self.exclude.match(original)):
            return False
        return self.include is None or self.include.match(original)

    def displayed_name(self, original: str) -> str:
        """Return the name that clients see."""
        return self.renamed.get(original, original)

    def original_name(self, name: str) -> str | None:
        """Return the backend's original name, or None if clients see no component of this name."""
        original = self.original.get(name, name)
        if original == name and name in self.renamed:
            return None
        return original if self.allows(original) else None

    def apply_overrides(self, original: str, item: Message) -> Message:
        """Return the component with the overridden title and description."""
        texts = self.texts.get(original)
        return {**item, **texts} if texts else item


def _texts(title: str | None, description: str | None) -> Message:
    texts: dict[str, Any] = {"title": title, "description": description}
    return {name: jsonrpc.encode_raw(text) for name, text in texts.items() if text is not None}


EVERYTHING: Final = ComponentFilter()
"""Filter that passes all components unchanged."""
NOTHING: Final = ComponentFilter(include=Globs(()))
"""Filter that passes no component."""
