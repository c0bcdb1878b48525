"""The PodMonitor of the pods. It selects pods because no Service has the admin port."""

from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, canonical_order, metadata

NAMED: Final[Manifest] = {
    "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"],
    "targetLabel": "mcpproxy",
    "action": "replace",
}
"""Relabeling that adds the name of the MCPProxy to all samples. manifests/monitoring has the same:
its rules and its dashboard distinguish proxies by this label."""


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest | None:
    """Return the PodMonitor; None unless the spec requests one."""
    monitor = proxy.spec.monitoring.pod_monitor if proxy.spec.monitoring else None
    if monitor is None:
        return None
    meta = metadata(proxy, owner, proxy.metadata.name)
    meta["labels"] = {**canonical_order(monitor.labels or {}), **meta["labels"]}
    endpoint: Manifest = {"port": "admin", "path": "/metrics"}
    if monitor.interval is not None:
        endpoint["interval"] = monitor.interval
    endpoint["relabelings"] = [canonical_order(NAMED)]
    if monitor.scrape_timeout is not None:
        endpoint["scrapeTimeout"] = monitor.scrape_timeout
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": constants.selector_labels(proxy.metadata.name)},
            "podMetricsEndpoints": [endpoint],
        },
    }
