"""Which components of one kind clients see, and how: include, exclude, overrides.

All names here are without the prefix: the backend's own ones, and those that overrides give.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Final

from mcpproxy.api.components import Components, NamedComponents, NamedOverride
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message


def _compiled(globs: list[str] | None) -> "re.Pattern[str] | None":
    if globs is None:
        return None
    # `[` has no meaning in our patterns.
    return re.compile("|".join(translate(glob.replace("[", "[[]")) for glob in globs) or r"(?!)")


@dataclass(frozen=True, slots=True)
class Selection:
    """What holds for one kind of component of one backend."""

    include: "re.Pattern[str] | None" = None
    exclude: "re.Pattern[str] | None" = None
    hidden: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Own name → the name it is shown by."""
    original: Mapping[str, str] = field(default_factory=dict)
    """The other way round."""
    texts: Mapping[str, Message] = field(default_factory=dict)
    """Own name → members that replace the component's."""

    @classmethod
    def of(cls, given: Components | NamedComponents | None) -> "Selection":
        """The selection that a spec asks for."""
        if given is None:
            return EVERYTHING
        overrides = given.overrides or ()
        renamed = {o.name: o.rename for o in overrides if isinstance(o, NamedOverride) and o.rename}
        return cls(
            include=_compiled(given.include),
            exclude=_compiled(given.exclude),
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
        return self.include is None or self.include.match(own) is not None

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
    return {name: jsonrpc.dump(text) for name, text in given.items() if text is not None}


_OPERATORS: Final = tuple("+#./;?&")
EVERYTHING: Final = Selection()
"""All components, as they are."""
NOTHING: Final = Selection(exclude=re.compile(""))
"""No component at all."""


def expanded_from(template: str, uri: str) -> bool:
    """Whether a URI may have come from a URI template (RFC 6570).

    A variable without an operator never spans a `/`, `?` or `#`; others are read generously.
    """
    if "{" in uri:
        return False
    pattern = "".join(
        _variable(part) if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[^{}]*\})", template)
    )
    return re.fullmatch(pattern, uri, re.DOTALL) is not None


def _variable(expression: str) -> str:
    return ".*" if expression[1:2] in _OPERATORS else "[^/?#]*"
