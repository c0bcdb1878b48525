"""List variant: clients that get the same lists."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.protocol.kinds import ComponentKind


@dataclass(eq=False, slots=True)
class ListVariant:
    """Clients that get the same lists."""

    seen: Mapping[str, bytes] = field(default_factory=dict)
    """Backend → variant key of its list.

    A backend is absent if it lists the same to these clients as to those without capabilities.
    """
    access: Access | None = None
    """Permission of these clients; None if it is not restricted."""
    bodies: dict[ComponentKind, tuple[int, bytes]] = field(default_factory=dict)
    """Merged list by kind, with the version of the catalog that it was built from."""


EVERYONE: Final = ListVariant()
"""List variant of clients without declared capabilities."""
