"""Kubernetes Events about an MCPProxy."""

import secrets
from typing import Any, Final, Literal

from mcpproxy.api import names
from mcpproxy.cluster.kinds import EVENT, Object

EventType = Literal["Normal", "Warning"]

_MAX_NOTE: Final = 1024


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
        "note": note[:_MAX_NOTE],
        "eventTime": now,
        "reportingController": f"{names.GROUP}/{names.FIELD_MANAGER}",
        "reportingInstance": instance[:128],
    }
