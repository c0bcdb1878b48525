"""Matching of components: the `may` of a rule."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcpproxy.proxy.core.catalog.component_filter import Globs
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import (
    KINDS,
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    ComponentKind,
)

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.access.authorization import Grant, ToolAnnotations


class ToolHints(NamedTuple):
    """Annotations of a tool, with MCP's defaults for absent ones."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True


def parse_annotations(item: bytes) -> dict[str, Any]:
    """Return the annotations of an encoded tool; empty without any."""
    if b'"annotations"' not in item:
        return {}
    annotations = jsonrpc.decode(jsonrpc.decode_object(item).get("annotations"))
    return annotations if isinstance(annotations, dict) else {}


def hints_of(annotations: dict[str, Any]) -> ToolHints:
    """Return the hints in annotations; values other than booleans count as absent."""

    def hint(name: str, default: bool) -> bool:
        value = annotations.get(name)
        return value if isinstance(value, bool) else default

    read_only = hint("readOnlyHint", False)
    return ToolHints(
        read_only=read_only,
        # MCP: these two are meaningful only for tools that are not read-only.
        destructive=not read_only and hint("destructiveHint", True),
        idempotent=read_only or hint("idempotentHint", False),
        open_world=hint("openWorldHint", True),
    )


class GrantMatch:
    """The components of one entry of `may`."""

    def __init__(self, spec: "Grant") -> None:
        self._backends = None if spec.backends is None else Globs(spec.backends)
        self._names = _names(spec)
        self._hints = _hints(spec.annotations)
        self.whole = spec.annotations is None and len(self._names) == len(KINDS)
        """True if the entry is all components of its backends."""
        self.whole = self.whole and all(globs is None for globs in self._names.values())

    def matches_backend(self, backend: str) -> bool:
        """Return True if components of a backend may belong to the entry."""
        return self._backends is None or self._backends.match(backend)

    def matches(
        self, kind: ComponentKind, backend: str, name: str, hints: Sequence[ToolHints] = ()
    ) -> bool:
        """Return True if a component belongs to the entry.

        `hints` are those of all forms of a tool. All of them must match; without any, the tool is
        not listed, and does not belong to an entry with annotations.
        """
        if not self._matches_name(kind, backend, name):
            return False
        return not self._hints or (bool(hints) and all(map(self._matches_hints, hints)))

    def mentions(
        self, kind: ComponentKind, backend: str, name: str, hints: Sequence[ToolHints] = ()
    ) -> bool:
        """Return True if a component may belong to the entry: one form of a tool is enough."""
        if not self._matches_name(kind, backend, name):
            return False
        return not (self._hints and hints) or any(map(self._matches_hints, hints))

    def _matches_name(self, kind: ComponentKind, backend: str, name: str) -> bool:
        if kind not in self._names or not self.matches_backend(backend):
            return False
        globs = self._names[kind]
        return globs is None or globs.match(name)

    def _matches_hints(self, hints: ToolHints) -> bool:
        return all(getattr(hints, name) == wanted for name, wanted in self._hints)


_FIELDS: Final = ("read_only", "destructive", "idempotent", "open_world")


def _hints(spec: "ToolAnnotations | None") -> list[tuple[str, bool]]:
    wanted = ((name, getattr(spec, name, None)) for name in _FIELDS)
    return [(name, value) for name, value in wanted if value is not None]


def _names(spec: "Grant") -> dict[ComponentKind, Globs | None]:
    """Return the patterns of each kind; None matches any name."""
    patterns: Iterable[tuple[ComponentKind, list[str] | None]] = (
        (TOOLS, spec.tools),
        (PROMPTS, spec.prompts),
        (RESOURCES, spec.resources),
        (TEMPLATES, spec.resource_templates),
    )
    names = {kind: Globs(globs) for kind, globs in patterns if globs is not None}
    if names:
        return dict(names)
    return {TOOLS: None} if spec.annotations is not None else dict.fromkeys(KINDS)
