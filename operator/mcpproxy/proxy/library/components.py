"""Components as programs see them: mirrored ones are read-only, copies of them are local."""

import copy
from typing import TYPE_CHECKING, Any

import mcp_types as t

from mcpproxy.proxy.core.catalog import Kind
from mcpproxy.proxy.library.visible import key_of

if TYPE_CHECKING:
    from mcpproxy.proxy.library.server import Server


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

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.definition["name"])

    @property
    def title(self) -> str | None:
        """Its title for people."""
        return self.definition.get("title")

    @property
    def description(self) -> str | None:
        """What it is for."""
        return self.definition.get("description")

    @property
    def uri(self) -> str | None:
        """The URI of a resource."""
        return self.definition.get("uri")

    @property
    def uri_template(self) -> str | None:
        """The URI template of a resource template."""
        return self.definition.get("uriTemplate")

    @property
    def parameters(self) -> dict[str, Any]:
        """The input schema of a tool."""
        return dict(self.definition.get("inputSchema") or {})

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The output schema of a tool."""
        return self.definition.get("outputSchema")

    @property
    def meta(self) -> dict[str, Any]:
        """Its `_meta`."""
        return dict(self.definition.get("_meta") or {})

    async def run(self, arguments: dict[str, Any] | None = None) -> t.CallToolResult:
        """Call a tool. Raises MCPError, and TypeError for other components."""
        if self.kind.member != "tools":
            raise TypeError(f"{self.key} is no tool")
        return await self.origin.call_tool(self.own, arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"


class Mirrored(Component):
    """Reflects what a server has, and can't be changed."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.key} is mirrored and read-only: change a copy() of it")

    def copy(self) -> "Local":
        """A component of one's own that does the same, to be changed and added to a server."""
        return Local(self.kind, copy.deepcopy(self.definition), self.origin, self.own)


class Local(Component):
    """A copy: its definition can be changed; using it reaches the server it was copied from."""

    def __setattr__(self, name: str, value: Any) -> None:
        members = {
            "name": "name",
            "title": "title",
            "description": "description",
            "uri": "uri",
            "parameters": "inputSchema",
            "output_schema": "outputSchema",
            "meta": "_meta",
        }
        if name not in members or (name == "uri" and self.kind.key != "uri"):
            raise AttributeError(f"{self.key} has no {name} that could be set")
        if value is None:
            self.definition.pop(members[name], None)
        else:
            self.definition[members[name]] = value
