"""Names and URIs, as backends know them (inward) and as clients know them (outward).

Tools and prompts become `{prefix}_{name}`. A URI becomes `scheme://{prefix}/rest`, or
`scheme:{prefix}/rest` where it has no `//`. Both can always be undone; an empty prefix
changes nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.proxy.core.translation.task_ids import TaskIds

MAX_NAME: Final = 64
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//)?")


def _split(uri: str) -> tuple[str, str]:
    found = _SCHEME.match(uri)
    end = found.end() if found else 0
    return uri[:end], uri[end:]


@dataclass(frozen=True, slots=True)
class PrefixMapping:
    """The mapping of one backend."""

    prefix: str
    tasks: TaskIds = field(default_factory=TaskIds, repr=False, compare=False)
    """The mapping of its task ids."""
    _head: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What every name begins with is made once."""
        object.__setattr__(self, "_head", f"{self.prefix}_" if self.prefix else "")

    @property
    def change(self) -> bool:
        """Whether clients know anything by another name."""
        return bool(self.prefix or self.tasks.sealer)

    def outward(self, name: str) -> str:
        """The name that clients see."""
        return self._head + name

    def inward(self, name: str) -> str | None:
        """The backend's own name; None when the name is not one of this backend's."""
        head = self._head
        return name[len(head) :] if name.startswith(head) else None

    def outward_uri(self, uri: str) -> str:
        """The URI (or URI template) that clients see."""
        if not self.prefix:
            return uri
        head, rest = _split(uri)
        return f"{head}{self.prefix}/{rest}"

    def inward_uri(self, uri: str) -> str | None:
        """The backend's own URI; None when the URI is not one of this backend's.

        URL libraries write the part after `//` in lower case, so case is no difference there.
        """
        if not self.prefix:
            return uri
        head, rest = _split(uri)
        found, slash, tail = rest.partition("/")
        if not slash or found.lower() != self.prefix.lower():
            return None
        return head + tail


def find_owner(
    name: str, names: Iterable[tuple[str, PrefixMapping]], *, uri: bool = False
) -> str | None:
    """The backend whose prefix claims this name or URI: the longest one; None when none does.

    `names` are (backend, mapping); the backend without a prefix takes what no other claims.
    """
    best: tuple[int, str] | None = None
    for backend, mapping in names:
        own = mapping.inward_uri(name) if uri else mapping.inward(name)
        if own is not None and (best is None or len(mapping.prefix) > best[0]):
            best = (len(mapping.prefix), backend)
    return best[1] if best else None
