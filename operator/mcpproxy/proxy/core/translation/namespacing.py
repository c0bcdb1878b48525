"""Mapping of names and URIs between backends (upstream) and clients (downstream).

Tools and prompts become `{prefix}_{name}`. A URI becomes `scheme://{prefix}/rest`, or
`scheme:{prefix}/rest` if it has no `//`. Both mappings are reversible. An empty prefix changes
nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.proxy.core.translation.task_ids import TaskIds

MAX_NAME: Final = 64
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//)?")


def _split(uri: str) -> tuple[str, str]:
    match = _SCHEME.match(uri)
    end = match.end() if match else 0
    return uri[:end], uri[end:]


@dataclass(frozen=True, slots=True)
class PrefixMapping:
    """Mapping of one backend."""

    prefix: str
    tasks: TaskIds = field(default_factory=TaskIds, repr=False, compare=False)
    """Mapping of the backend's task ids."""
    _head: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Computed once, because every name begins with it.
        object.__setattr__(self, "_head", f"{self.prefix}_" if self.prefix else "")

    @property
    def change(self) -> bool:
        """True if clients see any name, URI or task id that differs from the backend's."""
        return bool(self.prefix or self.tasks.sealer)

    def to_downstream(self, name: str) -> str:
        """Return the downstream name."""
        return self._head + name

    def to_upstream(self, name: str) -> str | None:
        """Return the upstream name, or None if the name does not have this backend's prefix."""
        head = self._head
        return name[len(head) :] if name.startswith(head) else None

    def uri_to_downstream(self, uri: str) -> str:
        """Return the downstream URI or URI template."""
        if not self.prefix:
            return uri
        head, rest = _split(uri)
        return f"{head}{self.prefix}/{rest}"

    def uri_to_upstream(self, uri: str) -> str | None:
        """Return the upstream URI, or None if the URI does not have this backend's prefix.

        The prefix is compared without case, because URL libraries lower-case the authority after
        `//`.
        """
        if not self.prefix:
            return uri
        head, rest = _split(uri)
        prefix, slash, tail = rest.partition("/")
        if not slash or prefix.lower() != self.prefix.lower():
            return None
        return head + tail


def find_owner(
    name: str, names: Iterable[tuple[str, PrefixMapping]], *, uri: bool = False
) -> str | None:
    """Return the backend with the longest prefix that matches the name or URI, or None.

    `names` are pairs of (backend, mapping). A backend without a prefix matches everything.
    """
    best: tuple[int, str] | None = None
    for backend, mapping in names:
        upstream = mapping.uri_to_upstream(name) if uri else mapping.to_upstream(name)
        if upstream is not None and (best is None or len(mapping.prefix) > best[0]):
            best = (len(mapping.prefix), backend)
    return best[1] if best else None
