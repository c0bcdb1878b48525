"""Construction of the limits on calls from the manifest."""

import time

from mcpproxy.api.v1alpha1 import Limits, MCPProxy
from mcpproxy.proxy.call_limits.call_limits import CallLimits
from mcpproxy.proxy.call_limits.instances.owner_store import OwnerStore
from mcpproxy.proxy.call_limits.local_store import LocalStore
from mcpproxy.proxy.call_limits.rules import RuleSet
from mcpproxy.proxy.call_limits.store import Store
from mcpproxy.proxy.call_limits.valkey.valkey_store import ValkeyStore
from mcpproxy.proxy.upstream.mounted.values import MountedValues


def build_call_limits(proxy: MCPProxy, values: MountedValues) -> CallLimits | None:
    """Return the limits of a proxy; None without `spec.limits`. Raise ValueError."""
    spec = proxy.spec.limits
    if spec is None:
        return None
    prefix = f"mcpproxy:{proxy.metadata.namespace or 'default'}:{proxy.metadata.name}"
    return CallLimits(
        RuleSet(spec.rules),
        _build_store(spec, prefix, values),
        allows_on_failure=spec.on_store_failure != "Deny",
    )


def _build_store(spec: Limits, prefix: str, values: MountedValues) -> Store:
    shared = spec.shared
    if shared is not None and shared.valkey is not None:
        return ValkeyStore(shared.valkey, prefix, values)
    if shared is not None and shared.mode == "None":
        return LocalStore(time.monotonic)
    return OwnerStore(time.monotonic)
