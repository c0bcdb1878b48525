"""Fields of `mcpServers` files that restrict the tools of a server.

A restriction that the proxy cannot keep is an error, so that no tool is served against the file.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from mcpproxy.api.manifest_errors import ManifestError

INCLUDE: Final = (
    "includeTools",
    "enabledTools",
    "enabled_tools",
    "allowedTools",
    "allowed_tools",
    "availableTools",
    "available_tools",
    "tools",
)
EXCLUDE: Final = (
    "excludeTools",
    "disabledTools",
    "disabled_tools",
    "blockedTools",
    "deniedTools",
)
MEMBERS: Final = (*INCLUDE, *EXCLUDE)
HARMLESS: Final = frozenset(
    {
        "alwaysAllow",
        "always_allow",
        "autoApprove",
        "auto_approve",
        "default_tools_approval_mode",
        "supports_parallel_tool_calls",
        "trust",
    }
)
"""Fields about the client's questions to its user, which the client still asks."""
_RESTRICTS: Final = re.compile(
    r"include|exclude|allow|den(y|ied)|block|filter|restrict|only|disab|forbid|tool|tags?$|prompt"
    r"|resource|permission|approv",
    re.I,
)
_CHANGES: Final = "tools"
"""Field that is a list of names or, for FastMCP, an object with a change for each tool."""
_ALL: Final = "*"
_GLOB: Final = re.compile(r"[*?\[\]]")


def tools_of(server: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `tools` of a backend for the restrictions of a server; `where` is its path.

    Raise ManifestError.
    """
    for member in server:
        if _is_unknown(member) and server[member] is not None:
            raise ManifestError(
                f"restricts the server in a way that {_UNSUPPORTED}", f"{where}.{member}"
            )
    tools: dict[str, Any] = {}
    server = dict(server)
    if isinstance(server.get(_CHANGES), Mapping):
        tools["overrides"] = _overrides(server.pop(_CHANGES), f"{where}.{_CHANGES}")
    includes = [_names(server, member, where) for member in INCLUDE]
    restrictions = [set(names) for names in includes if names is not None]
    if restrictions:
        # Several lists are in force together.
        included = set.intersection(*restrictions)
        if not included:
            present = next(
                m for m, names in zip(INCLUDE, includes, strict=True) if names is not None
            )
            raise ManifestError(
                'leaves no tool; name a tool, or write "disabled": true', f"{where}.{present}"
            )
        tools["include"] = sorted(included)
    excludes = {name for member in EXCLUDE for name in _names(server, member, where) or ()}
    if excludes:
        tools["exclude"] = sorted(excludes)
    return tools


_UNSUPPORTED: Final = (
    "mcpproxy does not support; write includeTools or excludeTools with names of tools, or remove"
    " the field"
)


def _overrides(changes: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """Return the overrides for FastMCP's changes of tools. Raise ManifestError."""
    overrides = []
    for tool, change in changes.items():
        if not isinstance(change, Mapping):
            raise ManifestError("expected an object", f"{field}.{tool}")
        override: dict[str, Any] = {"name": tool}
        for member, value in change.items():
            if value is None or member in ("tags", "meta", "annotations"):
                continue
            name = "rename" if member == "name" else str(member)
            kind = bool if member == "enabled" else str
            if member not in ("name", "title", "description", "enabled"):
                raise ManifestError(
                    f"changes the tool in a way that {_UNSUPPORTED}", f"{field}.{tool}.{member}"
                )
            if not isinstance(value, kind):
                wanted = "true or false" if kind is bool else "a string"
                raise ManifestError(f"expected {wanted}", f"{field}.{tool}.{member}")
            override[name] = value
        overrides.append(override)
    return overrides


def _is_unknown(member: str) -> bool:
    """True if a field may restrict the server and is not one of those that are understood."""
    known = member in MEMBERS or member in HARMLESS or member in ("disabled", "enabled")
    return not known and not member.endswith(("_sec", "_ms")) and bool(_RESTRICTS.search(member))


def _names(server: Mapping[str, Any], member: str, where: str) -> list[str] | None:
    """Return the names in a list; None if it is absent or allows all tools."""
    names, field = server.get(member), f"{where}.{member}"
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ManifestError("expected a list of names of tools", field)
    if member == "tools" and names == [_ALL]:
        return None
    for name in names:
        if _GLOB.search(name):
            # Clients disagree: for some it is a pattern, for others a name that no tool has.
            raise ManifestError(f"{name!r} is a pattern; write the names of the tools", field)
    return names
