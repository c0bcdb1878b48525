"""Variables of a file whose values are not known yet: each becomes a mark in the text."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.mcp_json import find_servers
from mcpproxy.proxy.config.variables import parse_variable, replace_variables

_BEGIN: Final = "\ue000"
_END: Final = "\ue001"
MARK: Final = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}")
_MARKS: Final = re.compile(f"[{_BEGIN}{_END}]")
FOLDERS: Final = {"workspaceFolder": "/workspace", "cwd": "/workspace", "userHome": "/home/mcp"}
"""Folder of the user's machine → folder of a pod in its place."""


class DeferredVariables:
    """Marks for variables. A variable with a default becomes that default."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        """`inputs` are the prompts of the file, by id."""
        self._inputs = inputs
        self.folders: set[str] = set()
        """Variables of folders that were replaced."""

    def expand(self, text: str, field: str) -> str:
        """Return the text with marks in place of variables. Raise ManifestError."""
        return replace_variables(_MARKS.sub("", text), lambda name: self._mark(name, field))

    def environment_variable(self, name: str, field: str) -> str:
        """Return the mark of an environment variable."""
        return f"{_BEGIN}{_MARKS.sub('', name)}{_END}"

    def _mark(self, variable: str, field: str) -> str:
        if variable in FOLDERS:
            self.folders.add(variable)
            return FOLDERS[variable]
        kind, _, name = variable.partition(":")
        if kind == "input":
            return self.environment_variable(f"input:{name}", field)
        name, default = parse_variable(variable, field)
        return self.environment_variable(name, field) if default is None else default


def deferred(content: Any) -> DeferredVariables:
    """Return marks for the variables of a file's content. Raise ManifestError."""
    return DeferredVariables(find_servers(content).inputs)


def has_mark(text: str) -> bool:
    """True if a text contains a variable."""
    return MARK.search(text) is not None


def show_variables(text: str) -> str:
    """Return a text with `${NAME}` in place of its marks."""
    return MARK.sub(lambda match: f"${{{match[1]}}}", text)


def require_values(text: str, field: str, remedy: str) -> None:
    """Raise ManifestError if a text contains a variable."""
    match = MARK.search(text)
    if match is not None:
        raise ManifestError(f"${{{match[1]}}} has no value in a manifest; {remedy}", field)
