"""The kinds of components that MCP has, and the words it has for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, eq=False, slots=True)
class ComponentKind:
    """One kind of component and the words that MCP has for it."""

    member: str
    """Member of a list result that holds the items."""
    key: str
    """Member of an item that identifies it."""
    method: str
    capability: str
    changed: str
    """Notification that the list changed."""

    @property
    def by_uri(self) -> bool:
        """Whether items are identified by URIs (or URI templates)."""
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
"""Tasks, which are no components: no catalog has them, and their ids say where they are."""
KINDS: Final = (TOOLS, PROMPTS, RESOURCES, TEMPLATES)
BY_METHOD: Final[Mapping[str, ComponentKind]] = {kind.method: kind for kind in KINDS}
BY_CHANGED: Final[Mapping[str, tuple[ComponentKind, ...]]] = {
    TOOLS.changed: (TOOLS,),
    PROMPTS.changed: (PROMPTS,),
    RESOURCES.changed: (RESOURCES, TEMPLATES),
}
