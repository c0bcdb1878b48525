"""Reduction of a status to a size that the API server can store. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1.status import BackendStatus, MCPProxyStatus
from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.limits.pods import STATUS_SIZE

OBJECT: Final = 1_310_720
"""Bytes of one object that etcd certainly accepts: 1.5 MiB a request (--max-request-bytes) less a
share for managedFields."""

_ESCAPED: Final = "<>&"
"""ASCII characters that Go's encoder writes as six bytes."""


def stored_size(manifest: Mapping[str, Any]) -> int:
    """Return the maximal size in bytes of a manifest in the API server's JSON."""
    text = json_text(manifest)
    return len(text.encode()) + 5 * sum(map(text.count, _ESCAPED))


def room_beside(parent: Mapping[str, Any]) -> int:
    """Return the bytes that are left for the status of `parent`."""
    rest = {name: value for name, value in parent.items() if name != "status"}
    return min(STATUS_SIZE.value, OBJECT - stored_size(rest))


def reduce_to_fit(status: MCPProxyStatus, room: int) -> MCPProxyStatus:
    """Return the status in at most `room` bytes: details are cut first, conditions are kept.

    The last reduction, to well under 32 KiB, is used even if it is larger than `room`.
    """
    if stored_size(status.to_manifest()) <= room:
        return status
    STATUS_SIZE.record()
    for reduce in (_shorter, _without_details):
        reduced = reduce(status)
        if stored_size(reduced.to_manifest()) <= room:
            return reduced
    return _without_backends(status)


def _shorter(status: MCPProxyStatus) -> MCPProxyStatus:
    def reduce(backend: BackendStatus) -> BackendStatus:
        return backend.model_copy(update={"message": _cut(backend.message, 256)})

    return _reduced(status, reduce, 1024)


def _without_details(status: MCPProxyStatus) -> MCPProxyStatus:
    def reduce(backend: BackendStatus) -> BackendStatus:
        return backend.model_copy(update={"message": None, "server": None})

    return _reduced(status, reduce, 512)


def _without_backends(status: MCPProxyStatus) -> MCPProxyStatus:
    return _reduced(status, lambda backend: backend, 256).model_copy(update={"backends": None})


def _reduced(
    status: MCPProxyStatus, reduce: Callable[[BackendStatus], BackendStatus], message: int
) -> MCPProxyStatus:
    conditions = [
        condition.model_copy(update={"message": clean_text(condition.message, message)})
        for condition in status.conditions or []
    ]
    backends = (
        None if status.backends is None else [reduce(condition) for condition in status.backends]
    )
    return status.model_copy(update={"conditions": conditions, "backends": backends})


def _cut(text: str | None, limit: int) -> str | None:
    return None if text is None else clean_text(text, limit)
