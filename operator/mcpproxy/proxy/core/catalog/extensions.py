"""The extensions of MCP that the proxy routes, and the rule which ones it advertises.

An extension may only be advertised where each of its methods finds the backend that it is for: by
a member of its params, or, for a list, by asking all backends that offer the extension. One entry
here is all that another extension of this kind takes, such as the draft of events.
"""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import BY_METHOD, RESOURCES, TASKS, ComponentKind


@dataclass(frozen=True, eq=False)
class Extension:
    """One extension and the ways of its methods."""

    name: str
    routed: Mapping[str, tuple[str, ComponentKind]] = field(default_factory=dict)
    """Method → the member of params that says what it is about, and the kind of that."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """Method of a list that all backends have a part of → the member of its result."""


TASKS_EXTENSION: Final = Extension(
    "io.modelcontextprotocol/tasks",
    {
        "tasks/get": ("taskId", TASKS),
        "tasks/update": ("taskId", TASKS),
        "tasks/cancel": ("taskId", TASKS),
        # Up to 2025-11-25 tasks are no extension, but a capability of this name.
        "tasks/result": ("taskId", TASKS),
    },
    {"tasks/list": "tasks"},
)
APPS: Final = Extension("io.modelcontextprotocol/ui")
"""Apps read resources and call tools, and have no methods of their own."""
SKILLS: Final = Extension(
    "io.modelcontextprotocol/skills",
    {"skills/get": ("uri", RESOURCES), "resources/directory/read": ("uri", RESOURCES)},
    {"skills/list": "skills"},
)
EXTENSIONS: Final = (TASKS_EXTENSION, APPS, SKILLS)

ROUTED: Final[Mapping[str, tuple[str, ComponentKind]]] = {
    method: way for extension in EXTENSIONS for method, way in extension.routed.items()
}
LISTS: Final[Mapping[str, str]] = {
    method: member for extension in EXTENSIONS for method, member in extension.lists.items()
}
OF_FRONTS: Final = frozenset(
    {
        *BY_METHOD,
        "initialize",
        "logging/setLevel",
        "ping",
        "server/discover",
        "subscriptions/listen",
    }
)
"""Requests that fronts answer."""
_KNOWN: Final = frozenset(extension.name for extension in EXTENSIONS)
_OWNERS: Final[Mapping[str, str]] = {
    method: extension.name
    for extension in EXTENSIONS
    for method in (*extension.routed, *extension.lists)
}


def offered(
    offer: Mapping[str, Any],
    *,
    modern_backend: bool,
    modern_client: bool,
    alone: bool,
    tells_apart: bool = True,
    denied: Collection[str] = (),
) -> dict[str, Any]:
    """The capabilities of a backend without those that clients of this era can't use through us.

    `alone` says that it is the only backend: then any method finds it. One that does not tell
    clients apart would list the tasks of all of them.
    """
    found = dict(offer)
    extensions = found.get("extensions")
    if isinstance(extensions, Mapping):
        kept = {
            name: settings
            for name, settings in extensions.items()
            if name not in denied and (alone or name in _KNOWN)
        }
        if not (modern_backend and modern_client):
            # For a legacy client we wait for the task ourselves.
            kept.pop(TASKS_EXTENSION.name, None)
        found["extensions"] = kept
        if not kept and extensions:
            del found["extensions"]
    if modern_backend or modern_client or TASKS_EXTENSION.name in denied:
        found.pop("tasks", None)
    tasks = found.get("tasks")
    if isinstance(tasks, Mapping) and not tells_apart:
        found["tasks"] = {name: value for name, value in tasks.items() if name != "list"}
    return found


def is_denied(method: str, denied: Collection[str]) -> bool:
    """Whether a method belongs to an extension that is denied.

    Methods of an extension that we do not know begin with the last part of its name.
    """
    if not denied:
        return False
    owner = _OWNERS.get(method)
    if owner is not None:
        return owner in denied
    return any(method.startswith(f"{name.rpartition('/')[2]}/") for name in denied)


def offers(capabilities: Mapping[str, Any], extension: Extension) -> bool:
    """Whether a backend with these capabilities has the extension."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, Mapping) and extension.name in extensions


@functools.lru_cache(maxsize=256)
def declares(capabilities: bytes, extension: Extension) -> bool:
    """Whether a client with these capabilities, as JSON, has the extension."""
    found = jsonrpc.decode(capabilities)
    return isinstance(found, dict) and offers(found, extension)


@functools.lru_cache(maxsize=256)
def declaring(capabilities: bytes, extension: Extension) -> bytes:
    """Capabilities of a client, as JSON, and the extension."""
    own = jsonrpc.decode_object(capabilities).get("extensions")
    settings = {} if own is None or bytes(own)[:1] != b"{" else jsonrpc.decode_object(own)
    settings.setdefault(extension.name, jsonrpc.EMPTY)
    return bytes(jsonrpc.replace_member(capabilities, extensions=jsonrpc.encode_raw(settings)))


def without(capabilities: bytes, denied: Collection[str]) -> bytes:
    """Capabilities of a client, as JSON, without the extensions that are denied."""
    if not denied or b'"extensions"' not in capabilities:
        return capabilities
    own = jsonrpc.decode_object(capabilities).get("extensions")
    if own is None or bytes(own)[:1] != b"{":
        return capabilities
    kept = {name: raw for name, raw in jsonrpc.decode_object(own).items() if name not in denied}
    left = jsonrpc.encode_raw(kept) if kept else None
    return bytes(jsonrpc.replace_member(capabilities, extensions=left))
