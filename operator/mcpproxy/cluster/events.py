"""Kubernetes Events about an MCPProxy."""

import secrets
from typing import Any, Final, Literal

from mcpproxy.api import names
from mcpproxy.api.text import ELLIPSIS, clean
from mcpproxy.cluster.kinds import EVENT, Object

EventType = Literal["Normal", "Warning"]

_MAX_NOTE: Final = 1024
"""Bytes, though the API server's error calls them characters."""


def event(
    regarding: Object, type_: EventType, reason: str, note: str, now: str, instance: str
) -> Object:
    """An Event about `regarding`; `now` is RFC 3339 with microseconds."""
    metadata = regarding["metadata"]
    reference: dict[str, Any] = {
        "apiVersion": regarding["apiVersion"],
        "kind": regarding["kind"],
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
    suffix = secrets.token_hex(8)
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            "name": f"{metadata['name']}.{suffix}",
            "namespace": metadata["namespace"],
        },
        "regarding": reference,
        "type": type_,
        "reason": reason,
        "action": "Reconcile",
        "note": _note(note),
        "eventTime": now,
        "reportingController": f"{names.GROUP}/{names.FIELD_MANAGER}",
        "reportingInstance": instance[:128],
    }


def _note(text: str) -> str:
    found = clean(text, _MAX_NOTE)
    if len(found.encode()) <= _MAX_NOTE:
        return found
    room = _MAX_NOTE - len(ELLIPSIS.encode())
    return found.encode()[:room].decode(errors="ignore") + ELLIPSIS
