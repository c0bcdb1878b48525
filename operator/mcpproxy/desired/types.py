"""Arguments and results of the builders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy

Manifest = dict[str, Any]
"""Manifest of a Kubernetes object to apply."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options that the installation of the operator sets for all proxies."""

    image: str
    """Image of the runtime for MCPProxies that name none."""
    version: str
    """Version of the operator, an annotation of the Deployment but not of its pods."""
    operator_namespace: str | None = None
    """Namespace from which the operator connects to pods; None if it is unknown, because the
    operator runs outside the cluster or reads pods through the API server."""


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """Name and uid of the MCPProxy that owns the children."""

    name: str
    uid: str


ServiceName = tuple[str, str]
"""Namespace and name of a Service."""


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """Target of a Service that was read."""

    selector: Mapping[str, str] | None = None
    """Labels of its pods; None if it has no selector."""
    ports: Mapping[int, int | str] = field(default_factory=dict)
    """Ports of the Service → target ports of its pods, by number or name."""
    anywhere: bool = False
    """True if its endpoints are set by another controller, or it is the name of another host."""


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The issuer and the keys of the cluster's ServiceAccount tokens."""

    issuer: str
    """Value of the claim iss."""
    key_set: str
    """The keys as a JSON Web Key Set."""


class ChildKind(NamedTuple):
    """Kind of object that an MCPProxy may own."""

    api_version: str
    kind: str
    plural: str


def metadata(proxy: MCPProxy, owner: OwnerRef, name: str) -> Manifest:
    """Return the metadata of a child: labels, and the owner with which it is deleted."""
    meta: Manifest = {
        "name": name,
        "labels": constants.child_labels(proxy.metadata.name),
        "ownerReferences": [
            {
                "apiVersion": constants.API_VERSION,
                "kind": constants.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if proxy.metadata.namespace is not None:
        meta["namespace"] = proxy.metadata.namespace
    return meta


def canonical_order(value: Any) -> Any:
    """Return `value` with mappings and lists sorted; only for lists whose order has no meaning."""
    if isinstance(value, dict):
        return {key: canonical_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return sorted(map(canonical_order, value), key=json.dumps)
    return value
