"""Components as programs see them: mirrored ones are read-only, copies of them are local."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import mcp_types as t

from mcpproxy.library.components.read_only import freeze, thaw
from mcpproxy.library.visibility import component_key
from mcpproxy.proxy.protocol.kinds import ComponentKind

if TYPE_CHECKING:
    from mcpproxy.library.server import Server


Value = TypeVar("Value")


class ComponentField(Generic[Value]):
    """A member of a component's definition; None where it is absent."""

    def __init__(self, member: str) -> None:
        self._member = member

    def __get__(self, component: "Component", kind: type) -> Value:
        found: Value = component.definition.get(self._member)  # type: ignore[assignment]
        return found

    def __set__(self, component: "Component", value: Value) -> None:
        if value is None:
            component.definition.pop(self._member, None)
        else:
            component.definition[self._member] = value


class Component:
    """A tool, prompt, resource or resource template of a server."""

    def __init__(
        self, kind: ComponentKind, definition: dict[str, Any], origin: "Server", own: str
    ) -> None:
        """`definition` is the item of the list, as JSON; `own` its name (or URI) at `origin`."""
        self.__dict__.update(kind=kind, definition=definition, origin=origin, own=own)

    kind: ComponentKind
    definition: dict[str, Any]
    origin: "Server"
    own: str

    @property
    def identifier(self) -> str:
        """The name of a tool or prompt, the URI (or template) of a resource."""
        return str(self.definition[self.kind.key])

    @property
    def key(self) -> str:
        """What it is called in `enable` and `disable`."""
        return component_key(self.kind, self.identifier)

    name = ComponentField[str]("name")
    title = ComponentField[str | None]("title")
    description = ComponentField[str | None]("description")
    uri = ComponentField[str | None]("uri")
    """The URI of a resource."""
    uri_template = ComponentField[str | None]("uriTemplate")
    """The URI template of a resource template."""
    parameters = ComponentField[dict[str, Any]]("inputSchema")
    """The input schema of a tool."""
    output_schema = ComponentField[dict[str, Any] | None]("outputSchema")
    meta = ComponentField[dict[str, Any] | None]("_meta")

    async def run(self, arguments: dict[str, Any] | None = None) -> t.CallToolResult:
        """Call a tool. Raises MCPError, and TypeError for other components."""
        if self.kind.member != "tools":
            raise TypeError(f"{self.key} is no tool")
        return await self.origin.call_tool(self.own, arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


class RemoteComponent(Component):
    """Reflects what a server has, and can't be changed."""

    def __init__(
        self, kind: ComponentKind, definition: dict[str, Any], origin: "Server", own: str
    ) -> None:
        super().__init__(kind, freeze(definition), origin, own)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.key} is mirrored and read-only: change a copy() of it")

    def copy(self) -> "CopiedComponent":
        """A component of one's own that does the same, to be changed and added to a server."""
        return CopiedComponent(self.kind, thaw(self.definition), self.origin, self.own)


class CopiedComponent(Component):
    """A copy: its definition can be changed; using it reaches the server it was copied from."""
