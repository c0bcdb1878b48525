"""What the builders are given, and the form of what they give back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy

Manifest = dict[str, Any]
"""A Kubernetes object as it is applied."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the operator's installation decides for all proxies."""

    image: str
    """Image of the runtime for proxies that name none."""
    version: str
    """Version of the operator; noted on the Deployment, not on its pods."""
    operator_namespace: str | None = None
    """Where pods see the operator come from; None where that can't be told, as it runs outside of
    the cluster or reads pods through the API server."""


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The MCPProxy object that the children belong to."""

    name: str
    uid: str


ServiceName = tuple[str, str]
"""Namespace and name of a Service."""


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """What is behind a Service that was read."""

    selector: Mapping[str, str] | None = None
    """Labels of its pods; None where it has none that it chooses."""
    ports: Mapping[int, int | str] = field(default_factory=dict)
    """Its own ports → those of its pods, by number or name."""
    anywhere: bool = False
    """Its endpoints are set by somebody else, or it is a name for another host."""


class ChildKind(NamedTuple):
    """A kind of object that an MCPProxy may own."""

    api_version: str
    kind: str
    plural: str


def metadata(proxy: MCPProxy, owner: OwnerRef, name: str) -> Manifest:
    """Metadata of a child: its labels, and the owner that takes it along when it is deleted."""
    found: Manifest = {
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
        found["namespace"] = proxy.metadata.namespace
    return found


def canonical_order(value: Any) -> Any:
    """Return `value` with mappings and lists sorted; only for lists whose order has no meaning."""
    if isinstance(value, dict):
        return {key: canonical_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return sorted(map(canonical_order, value), key=json.dumps)
    return value
