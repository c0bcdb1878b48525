"""Components as programs see them: mirrored ones are read-only, copies of them are local."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import mcp_types as t

from mcpproxy.proxy.core.kinds import Kind
from mcpproxy.proxy.library.read_only import frozen, thawed
from mcpproxy.proxy.library.visible import key_of

if TYPE_CHECKING:
    from mcpproxy.proxy.library.server import Server


Value = TypeVar("Value")


class Member(Generic[Value]):
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

    def __init__(self, kind: Kind, definition: dict[str, Any], origin: "Server", own: str) -> None:
        """`definition` is the item of the list, as JSON; `own` its name (or URI) at `origin`."""
        self.__dict__.update(kind=kind, definition=definition, origin=origin, own=own)

    kind: Kind
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
        return key_of(self.kind, self.identifier)

    name = Member[str]("name")
    title = Member[str | None]("title")
    description = Member[str | None]("description")
    uri = Member[str | None]("uri")
    """The URI of a resource."""
    uri_template = Member[str | None]("uriTemplate")
    """The URI template of a resource template."""
    parameters = Member[dict[str, Any]]("inputSchema")
    """The input schema of a tool."""
    output_schema = Member[dict[str, Any] | None]("outputSchema")
    meta = Member[dict[str, Any] | None]("_meta")

    async def run(self, arguments: dict[str, Any] | None = None) -> t.CallToolResult:
        """Call a tool. Raises MCPError, and TypeError for other components."""
        if self.kind.member != "tools":
            raise TypeError(f"{self.key} is no tool")
        return await self.origin.call_tool(self.own, arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


class Mirrored(Component):
    """Reflects what a server has, and can't be changed."""

    def __init__(self, kind: Kind, definition: dict[str, Any], origin: "Server", own: str) -> None:
        super().__init__(kind, frozen(definition), origin, own)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.key} is mirrored and read-only: change a copy() of it")

    def copy(self) -> "Local":
        """A component of one's own that does the same, to be changed and added to a server."""
        return Local(self.kind, thawed(self.definition), self.origin, self.own)


class Local(Component):
    """A copy: its definition can be changed; using it reaches the server it was copied from."""
