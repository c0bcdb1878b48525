"""The audit log that a spec describes."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mcpproxy.proxy.audit.audit_log import AuditLog
from mcpproxy.proxy.audit.record_queue import Delivery
from mcpproxy.proxy.audit.standard_output import LineDelivery

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.audit import Audit


def build_audit_log(
    spec: "Audit", proxy: str, version: str, descriptor: int, resolve: Mapping[str, str]
) -> AuditLog:
    """Return the log of the proxy `proxy`.

    `version` is that of the program, and `descriptor` the one that lines are written to without a
    collector, whose host `resolve` maps to `host:port`.
    """
    delivery = _delivery(spec, proxy, version, descriptor, resolve)
    return AuditLog(spec, proxy, delivery, time.time)


def _delivery(
    spec: "Audit", proxy: str, version: str, descriptor: int, resolve: Mapping[str, str]
) -> Delivery:
    if spec.otlp is None:
        return LineDelivery(descriptor)
    # The import is slow, and most audit logs are lines.
    from mcpproxy.proxy.audit.collector import build_delivery

    return build_delivery(spec.otlp.endpoint, proxy, version, resolve)
