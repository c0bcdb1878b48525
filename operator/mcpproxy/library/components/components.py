"""Components in Python programs: read-only mirrors of remote components, and local copies."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import mcp_types as t

from mcpproxy.library.components.read_only import freeze, thaw
from mcpproxy.library.visibility import component_key
from mcpproxy.proxy.protocol.kinds import ComponentKind

if TYPE_CHECKING:
    from mcpproxy.library.server import Server


Value = TypeVar("Value")


class ComponentField(Generic[Value]):
    """A field of a component's definition; None if it is absent."""

    def __init__(self, member: str) -> None:
        self._member = member

    def __get__(self, component: "Component", kind: type) -> Value:
        value: Value = component.definition.get(self._member)  # type: ignore[assignment]
        return value

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
        """Create a component. `definition` is its list item as JSON; `own` is its name or URI at
        `origin`."""
        self.__dict__.update(kind=kind, definition=definition, origin=origin, own=own)

    kind: ComponentKind
    definition: dict[str, Any]
    origin: "Server"
    own: str

    @property
    def identifier(self) -> str:
        """The name of a tool or prompt, or the URI or URI template of a resource."""
        return str(self.definition[self.kind.key])

    @property
    def key(self) -> str:
        """Key of the component in `enable` and `disable`."""
        return component_key(self.kind, self.identifier)

    name = ComponentField[str]("name")
    title = ComponentField[str | None]("title")
    description = ComponentField[str | None]("description")
    uri = ComponentField[str | None]("uri")
    """URI of a resource."""
    uri_template = ComponentField[str | None]("uriTemplate")
    """URI template of a resource template."""
    parameters = ComponentField[dict[str, Any]]("inputSchema")
    """Input schema of a tool."""
    output_schema = ComponentField[dict[str, Any] | None]("outputSchema")
    meta = ComponentField[dict[str, Any] | None]("_meta")

    async def run(self, arguments: dict[str, Any] | None = None) -> t.CallToolResult:
        """Call a tool. Raise MCPError, or TypeError if the component is not a tool."""
        if self.kind.member != "tools":
            raise TypeError(f"{self.key} is not a tool")
        return await self.origin.call_tool(self.own, arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


class RemoteComponent(Component):
    """A read-only mirror of a component of a server."""

    def __init__(
        self, kind: ComponentKind, definition: dict[str, Any], origin: "Server", own: str
    ) -> None:
        super().__init__(kind, freeze(definition), origin, own)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.key} is a read-only mirror; modify a copy() of it")

    def copy(self) -> "CopiedComponent":
        """Return a local copy, which can be changed and added to a server."""
        return CopiedComponent(self.kind, thaw(self.definition), self.origin, self.own)


class CopiedComponent(Component):
    """A copy with a modifiable definition. Requests for it reach the server of the original."""
