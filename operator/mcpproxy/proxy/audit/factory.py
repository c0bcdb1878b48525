"""The audit log that a spec describes."""

import time
from typing import TYPE_CHECKING

from mcpproxy.proxy.audit.audit_log import AuditLog
from mcpproxy.proxy.audit.record_queue import Delivery
from mcpproxy.proxy.audit.standard_output import LineDelivery

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.audit import Audit


def build_audit_log(spec: "Audit", proxy: str, version: str, descriptor: int) -> AuditLog:
    """Return the log of the proxy `proxy`.

    `version` is that of the program, and `descriptor` the one that lines are written to without a
    collector.
    """
    return AuditLog(spec, proxy, _delivery(spec, proxy, version, descriptor), time.time)


def _delivery(spec: "Audit", proxy: str, version: str, descriptor: int) -> Delivery:
    if spec.otlp is None:
        return LineDelivery(descriptor)
    # The import is slow, and most audit logs are lines.
    from mcpproxy.proxy.audit.collector import build_delivery

    return build_delivery(spec.otlp.endpoint, proxy, version)
