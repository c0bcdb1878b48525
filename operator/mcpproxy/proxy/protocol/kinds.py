"""Kinds of components in MCP, with their method and field names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, eq=False, slots=True)
class ComponentKind:
    """One kind of component, with its method and field names."""

    member: str
    """Field of a list result that holds the items."""
    key: str
    """Field of an item that identifies it."""
    method: str
    capability: str
    changed: str
    """Notification that the list changed."""

    @property
    def by_uri(self) -> bool:
        """True if items are identified by URIs or URI templates."""
        return self.key.startswith("uri")


TOOLS: Final = ComponentKind(
    "tools", "name", "tools/list", "tools", "notifications/tools/list_changed"
)
PROMPTS: Final = ComponentKind(
    "prompts", "name", "prompts/list", "prompts", "notifications/prompts/list_changed"
)
RESOURCES: Final = ComponentKind(
    "resources", "uri", "resources/list", "resources", "notifications/resources/list_changed"
)
TEMPLATES: Final = ComponentKind(
    "resourceTemplates",
    "uriTemplate",
    "resources/templates/list",
    "resources",
    "notifications/resources/list_changed",
)
TASKS: Final = ComponentKind("tasks", "taskId", "tasks/list", "tasks", "notifications/tasks")
"""Tasks are not components: catalogs do not list them, and their ids identify the backend."""
RESULTS: Final = ComponentKind("results", "uri", "resources/read", "resources", "")
"""Results that the proxy keeps are not components either; a token in their URIs identifies the
backend."""
SUBSCRIBE: Final = "resources/subscribe"
"""Request for notifications about a resource."""
KINDS: Final = (TOOLS, PROMPTS, RESOURCES, TEMPLATES)
BY_METHOD: Final[Mapping[str, ComponentKind]] = {kind.method: kind for kind in KINDS}
BY_CHANGED: Final[Mapping[str, tuple[ComponentKind, ...]]] = {
    TOOLS.changed: (TOOLS,),
    PROMPTS.changed: (PROMPTS,),
    RESOURCES.changed: (RESOURCES, TEMPLATES),
}
