"""Volumes of the pods: configuration, referenced values, sealing keys and a writable directory."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import KeyRef, MCPProxy, ValueFrom
from mcpproxy.desired import config_map
from mcpproxy.desired.types import Manifest, OwnerRef

TOKEN_SECONDS: Final = 3600
"""Lifetime of mounted tokens; the kubelet replaces them after four fifths of it."""
_SECRET = "secret"
_CONFIG_MAP = "configmap"


def volumes(proxy: MCPProxy, owner: OwnerRef) -> list[Manifest]:
    """Return the pod's volumes; the one for values only if the spec references some."""
    sealing = constants.sealing_secret_name(owner.name, owner.uid)
    pod_volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": config_map.name(proxy)}},
        {"name": "sealing", "secret": {"secretName": sealing}},
        {"name": "tmp", "emptyDir": {}},
    ]
    sources = _sources(proxy)
    if sources:
        pod_volumes.append({"name": "values", "projected": {"sources": sources}})
    return pod_volumes


def mounts(proxy: MCPProxy) -> list[Manifest]:
    """Return the volume mounts of the container."""
    volume_mounts: list[Manifest] = [
        {"name": "config", "mountPath": constants.CONFIG_DIR, "readOnly": True},
        {"name": "sealing", "mountPath": constants.SEALING_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if _sources(proxy):
        volume_mounts.append(
            {"name": "values", "mountPath": constants.VALUES_DIR, "readOnly": True}
        )
    return volume_mounts


def _sources(proxy: MCPProxy) -> list[Manifest]:
    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    for reference in _references(proxy):
        if reference.secret_key_ref is not None:
            keys[_SECRET, reference.secret_key_ref.name].add(reference.secret_key_ref.key)
        if reference.config_map_key_ref is not None:
            keys[_CONFIG_MAP, reference.config_map_key_ref.name].add(
                reference.config_map_key_ref.key
            )
    values = [
        _source(kind, name, source_keys) for (kind, name), source_keys in sorted(keys.items())
    ]
    return [*values, *_tokens(proxy)]


def _tokens(proxy: MCPProxy) -> Iterator[Manifest]:
    """Yield the tokens of the ServiceAccount that backends get. None of them is for the API
    server."""
    for backend in sorted(proxy.spec.backends, key=lambda backend: backend.name):
        for file, audience in (backend.auth.mounted_tokens if backend.auth else {}).items():
            yield {
                "serviceAccountToken": {
                    "audience": audience,
                    "expirationSeconds": TOKEN_SECONDS,
                    "path": constants.mounted_token_path(backend.name, file),
                }
            }


def _source(kind: str, name: str, keys: set[str]) -> Manifest:
    # Optional, so that a missing object stops one backend and not the pod.
    content = {
        "name": name,
        "optional": True,
        "items": [
            {"key": key, "path": constants.value_path(kind, name, key)} for key in sorted(keys)
        ],
    }
    return {"secret" if kind == _SECRET else "configMap": content}


def _references(proxy: MCPProxy) -> Iterator[ValueFrom]:
    if proxy.spec.authentication is not None:
        yield from proxy.spec.authentication.references
    if config_map.needs_token_keys(proxy):
        name = constants.cluster_keys_name(proxy.metadata.name)
        for key in (constants.CLUSTER_ISSUER_KEY, constants.CLUSTER_JWKS_KEY):
            yield ValueFrom(config_map_key_ref=KeyRef(name=name, key=key))
    for backend in proxy.spec.backends:
        variables = (backend.stdio.env if backend.stdio else None) or []
        references = [header.value_from for header in backend.headers or []]
        references += [variable.value_from for variable in variables]
        references += backend.tls.references if backend.tls else ()
        references += backend.auth.references if backend.auth else ()
        yield from (reference for reference in references if reference is not None)
