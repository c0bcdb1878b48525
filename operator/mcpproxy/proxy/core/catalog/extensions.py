"""Extensions of MCP that the proxy routes, and the rule for which it advertises.

An extension may be advertised only if each of its methods can be routed to a backend: by a field of
its params or, for a list, by sending it to all backends with the extension. To support another
extension of this kind, such as the draft of events, add an entry here.
"""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import BY_METHOD, RESOURCES, TASKS, ComponentKind


@dataclass(frozen=True, eq=False)
class Extension:
    """Extension of MCP and the routes of its methods."""

    name: str
    routed: Mapping[str, tuple[str, ComponentKind]] = field(default_factory=dict)
    """Method → the field of params that identifies the target, and the kind of the target."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """List method that is merged from all backends → the field of its result."""


TASKS_EXTENSION: Final = Extension(
    "io.modelcontextprotocol/tasks",
    {
        "tasks/get": ("taskId", TASKS),
        "tasks/update": ("taskId", TASKS),
        "tasks/cancel": ("taskId", TASKS),
        # Up to 2025-11-25, tasks are not an extension but a capability of this name.
        "tasks/result": ("taskId", TASKS),
    },
    {"tasks/list": "tasks"},
)
APPS: Final = Extension("io.modelcontextprotocol/ui")
"""Apps read resources and call tools. The extension has no methods."""
SKILLS: Final = Extension(
    "io.modelcontextprotocol/skills",
    {"skills/get": ("uri", RESOURCES), "resources/directory/read": ("uri", RESOURCES)},
    {"skills/list": "skills"},
)
EXTENSIONS: Final = (TASKS_EXTENSION, APPS, SKILLS)

ROUTED: Final[Mapping[str, tuple[str, ComponentKind]]] = {
    method: route for extension in EXTENSIONS for method, route in extension.routed.items()
}
LISTS: Final[Mapping[str, str]] = {
    method: member for extension in EXTENSIONS for method, member in extension.lists.items()
}
DOWNSTREAM_METHODS: Final = frozenset(
    {
        *BY_METHOD,
        "initialize",
        "logging/setLevel",
        "ping",
        "server/discover",
        "subscriptions/listen",
    }
)
"""Requests that the downstream side handles."""
_KNOWN: Final = frozenset(extension.name for extension in EXTENSIONS)
_OWNERS: Final[Mapping[str, str]] = {
    method: extension.name
    for extension in EXTENSIONS
    for method in (*extension.routed, *extension.lists)
}


def usable_capabilities(
    offer: Mapping[str, Any],
    *,
    modern_backend: bool,
    modern_client: bool,
    alone: bool,
    tells_apart: bool = True,
    denied: Collection[str] = (),
) -> dict[str, Any]:
    """Return a backend's capabilities without those that this client cannot use through the proxy.

    If `alone` is true, it is the only backend, and every method is routed to it. If `tells_apart`
    is false, the backend cannot distinguish clients and would list the tasks of all of them.
    """
    capabilities = dict(offer)
    extensions = capabilities.get("extensions")
    if isinstance(extensions, Mapping):
        kept = {
            name: settings
            for name, settings in extensions.items()
            if name not in denied and (alone or name in _KNOWN)
        }
        if not (modern_backend and modern_client):
            # The proxy waits for the task on behalf of a legacy client.
            kept.pop(TASKS_EXTENSION.name, None)
        capabilities["extensions"] = kept
        if not kept and extensions:
            del capabilities["extensions"]
    if modern_backend or modern_client or TASKS_EXTENSION.name in denied:
        capabilities.pop("tasks", None)
    tasks = capabilities.get("tasks")
    if isinstance(tasks, Mapping) and not tells_apart:
        capabilities["tasks"] = {name: value for name, value in tasks.items() if name != "list"}
    return capabilities


def is_denied(method: str, denied: Collection[str]) -> bool:
    """Return True if a method belongs to an extension in `denied`.

    Methods of unknown extensions are assumed to begin with the last part of the extension's name.
    """
    if not denied:
        return False
    owner = _OWNERS.get(method)
    if owner is not None:
        return owner in denied
    return any(method.startswith(f"{name.rpartition('/')[2]}/") for name in denied)


def offers(capabilities: Mapping[str, Any], extension: Extension) -> bool:
    """Return True if a backend with these capabilities has the extension."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, Mapping) and extension.name in extensions


@functools.lru_cache(maxsize=256)
def declares(capabilities: bytes, extension: Extension) -> bool:
    """Return True if a client with these capabilities (JSON) declares the extension."""
    decoded = jsonrpc.decode(capabilities)
    return isinstance(decoded, dict) and offers(decoded, extension)


@functools.lru_cache(maxsize=256)
def declaring(capabilities: bytes, extension: Extension) -> bytes:
    """Return a client's capabilities (JSON) with the extension added."""
    own = jsonrpc.decode_object(capabilities).get("extensions")
    settings = {} if own is None or bytes(own)[:1] != b"{" else jsonrpc.decode_object(own)
    settings.setdefault(extension.name, jsonrpc.EMPTY)
    return bytes(jsonrpc.replace_member(capabilities, extensions=jsonrpc.encode_raw(settings)))


def without(capabilities: bytes, denied: Collection[str]) -> bytes:
    """Return a client's capabilities (JSON) without the extensions in `denied`."""
    if not denied or b'"extensions"' not in capabilities:
        return capabilities
    own = jsonrpc.decode_object(capabilities).get("extensions")
    if own is None or bytes(own)[:1] != b"{":
        return capabilities
    kept = {name: raw for name, raw in jsonrpc.decode_object(own).items() if name not in denied}
    left = jsonrpc.encode_raw(kept) if kept else None
    return bytes(jsonrpc.replace_member(capabilities, extensions=left))
