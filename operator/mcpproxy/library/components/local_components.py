"""Functions of a program as components of its server; a server of the SDK stores them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, overload

from mcp.server import MCPServer

Function = TypeVar("Function", bound=Callable[..., Any])


class LocalComponents(ABC):
    """The part of a server that adds the functions of a program."""

    def __init__(self, name: str, instructions: str | None) -> None:
        self.name = name
        self._instructions = instructions
        self._local: MCPServer[Any] | None = None

    @abstractmethod
    def check_not_running(self) -> None:
        """Raise RuntimeError if the server is running, so that nothing can be added."""

    @property
    def local(self) -> MCPServer[Any]:
        """The SDK server that holds the local components."""
        if self._local is None:
            self.check_not_running()
            self._local = MCPServer(self.name, instructions=self._instructions, log_level="WARNING")
        return self._local

    @overload
    def tool(self, function: Function, /, **options: Any) -> Function: ...

    @overload
    def tool(
        self, name: str | None = None, /, **options: Any
    ) -> Callable[[Function], Function]: ...

    def tool(self, function: Any = None, /, **options: Any) -> Any:
        """Add a function as a tool. Usable as a decorator with or without parentheses.

        Options are those of MCPServer.tool, among them `name`, `title` and `description`.
        """
        return _decorated(self.local.tool, function, options)

    def resource(self, uri: str, **options: Any) -> Callable[[Function], Function]:
        """Return a decorator that adds a function as a resource or resource template."""
        return self.local.resource(uri, **options)

    @overload
    def prompt(self, function: Function, /, **options: Any) -> Function: ...

    @overload
    def prompt(
        self, name: str | None = None, /, **options: Any
    ) -> Callable[[Function], Function]: ...

    def prompt(self, function: Any = None, /, **options: Any) -> Any:
        """Add a function as a prompt. Usable as a decorator with or without parentheses."""
        return _decorated(self.local.prompt, function, options)


def _decorated(decorator: Callable[..., Any], function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, str):
        return decorator(function, **options)
    decorate = decorator(**options)
    return decorate if function is None else decorate(function)
