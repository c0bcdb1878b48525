"""The ConfigMaps of the pods: their configuration, and the keys of ServiceAccount tokens.

The configuration is an MCPProxy manifest.
"""

from typing import Final

from mcpproxy.api import constants, manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, TokenKeys, metadata

_AT_ONCE: Final = 16
"""Number of MCPProxies whose configuration is kept: those of the passes that run at once."""
_contents: Final[dict[int, tuple[MCPProxy, str]]] = {}
"""Configurations by the identity of the model, which never changes."""


def name(proxy: MCPProxy) -> str:
    """Return the name, which differs for every configuration."""
    return constants.config_map_name(proxy.metadata.name, content(proxy))


def content(proxy: MCPProxy) -> str:
    """Return the configuration. A pass needs it five times."""
    kept = _contents.get(id(proxy))
    if kept is None or kept[0] is not proxy:
        kept = proxy, manifest.runtime_manifest(proxy)
        _contents[id(proxy)] = kept
        while len(_contents) > _AT_ONCE:
            del _contents[next(iter(_contents))]
    return kept[1]


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the ConfigMap. It is immutable: a change would reach pods without a rollout."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(proxy, owner, name(proxy)),
        "immutable": True,
        "data": {constants.CONFIG_FILE: content(proxy)},
    }


def needs_token_keys(proxy: MCPProxy) -> bool:
    """Return True if the spec accepts tokens of ServiceAccounts."""
    authentication = proxy.spec.authentication
    return authentication is not None and authentication.service_accounts is not None


def build_token_keys(proxy: MCPProxy, owner: OwnerRef, keys: TokenKeys | None) -> Manifest | None:
    """Return the ConfigMap with the keys; None unless the spec needs them and they are known.

    It is not immutable: keys that the cluster rotates reach the pods without a rollout. Pods
    therefore need neither a token nor permissions to verify tokens.
    """
    if keys is None or not needs_token_keys(proxy):
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(proxy, owner, constants.cluster_keys_name(proxy.metadata.name)),
        "data": {
            constants.CLUSTER_ISSUER_KEY: keys.issuer,
            constants.CLUSTER_JWKS_KEY: keys.key_set,
        },
    }
