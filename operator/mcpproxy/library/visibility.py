"""Hidden components of a server, and routes to components of backends without prefixes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mcpproxy.proxy.embed import (
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    Catalog,
    ComponentKind,
    ComponentList,
    Message,
    Uri,
    jsonrpc,
    unknown_component_error,
)

KEY_OF: Final[dict[ComponentKind, str]] = {
    TOOLS: "tool",
    PROMPTS: "prompt",
    RESOURCES: "resource",
    TEMPLATES: "template",
}


LABEL_OF: Final[dict[ComponentKind, str]] = {**KEY_OF, TEMPLATES: "resource template"}
"""Names of the kinds of components in messages."""


def component_key(kind: ComponentKind, name: str) -> str:
    """Return the key of a component in `enable` and `disable`."""
    return f"{KEY_OF[kind]}:{name}"


_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{0,32}")


class ComponentVisibility:
    """The hidden components of a server: a filter of its catalog and a policy of its routes."""

    approves = False

    def __init__(self, hidden: set[str], backends: Sequence[str]) -> None:
        """Create a filter. Call `Catalog.apply_filter` after every change of `hidden`, a set of
        component keys. `backends` are in the order of their precedence."""
        self._hidden = hidden
        self._backends = backends

    def hides(self, kind: ComponentKind, name: str) -> bool:
        """True if a component is hidden."""
        return component_key(kind, name) in self._hidden

    def visible_part(
        self, backend: str, kind: ComponentKind, components: ComponentList, *, changed: bool
    ) -> ComponentList:
        visible = [i for i, name in enumerate(components.names) if not self.hides(kind, name)]
        if len(visible) == len(components.names):
            return components
        return replace(
            components,
            items=tuple(components.items[i] for i in visible),
            names=tuple(components.names[i] for i in visible),
        )

    def withholds(self, catalog: Catalog, backend: str, kind: ComponentKind, name: str) -> bool:
        # `locate` refuses hidden components before their backend is known.
        return False

    def locate(self, catalog: Catalog, kind: ComponentKind, name: str) -> str | None:
        template = self._find_template(catalog, name) if kind.by_uri else None
        if self.hides(kind, name) or (template and self.hides(TEMPLATES, template[1])):
            raise unknown_component_error(kind, name)
        return None if template is None else template[0]

    def check_guess(self, params: Message) -> None:
        for member, kinds in (("uri", (RESOURCES,)), ("name", (TOOLS, PROMPTS))):
            name = jsonrpc.decode_str(params.get(member))
            for kind in kinds if name is not None else ():
                if self.hides(kind, name or ""):
                    raise unknown_component_error(kind, name or "")

    def _find_template(self, catalog: Catalog, uri: str) -> tuple[str, str] | None:
        """Return the backend and the template that match a URI, or None.

        Raise RpcError if the limits do not allow a decision, because the URI might be hidden.
        """
        parsed = Uri(uri)
        for backend, template in self._templates(catalog):
            if parsed.expands(template):
                return backend, template
        if parsed.undecided:
            raise unknown_component_error(RESOURCES, uri)
        return None

    def _templates(self, catalog: Catalog) -> Iterator[tuple[str, str]]:
        """Yield the backend and the downstream URI template of each template, including hidden
        ones."""
        for backend in self._backends:
            for template in catalog.unfiltered.names(backend, TEMPLATES):
                yield backend, template


def checked_prefix(prefix: str | None, namespace: str | None) -> str:
    """Return the prefix of a backend's names, which has two arguments of one meaning.

    Raise ValueError.
    """
    if prefix and namespace and prefix != namespace:
        raise ValueError(f"prefix {prefix!r} and namespace {namespace!r} differ; set one of them")
    chosen = prefix or namespace or ""
    if _PREFIX.fullmatch(chosen) is None:
        raise ValueError(
            f"prefix {chosen!r}: cannot be part of a name; use up to 32 letters, digits, - and _"
        )
    return chosen
