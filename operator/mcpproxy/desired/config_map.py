"""The ConfigMaps of the pods: their configuration, and the keys of ServiceAccount tokens.

The configuration is an MCPProxy manifest.
"""

from mcpproxy.api import constants, manifest
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, TokenKeys, metadata


def name(proxy: MCPProxy) -> str:
    """Return the name, which differs for every configuration."""
    return constants.config_map_name(proxy.metadata.name, manifest.runtime_manifest(proxy))


def build(proxy: MCPProxy, owner: OwnerRef) -> Manifest:
    """Return the ConfigMap. It is immutable: a change would reach pods without a rollout."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(proxy, owner, name(proxy)),
        "immutable": True,
        "data": {constants.CONFIG_FILE: manifest.runtime_manifest(proxy)},
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
