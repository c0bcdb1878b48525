"""What the builders are given, and the form of what they give back."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mcpproxy.api import names
from mcpproxy.api.v1alpha1 import MCPProxy

Manifest = dict[str, Any]
"""A Kubernetes object as it is applied."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator's installation decides for all proxies."""

    image: str
    """Image of the runtime for proxies that name none."""
    version: str
    """Version of the operator; noted on the Deployment, not on its pods."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The MCPProxy object that the children belong to."""

    name: str
    uid: str


class ChildKind(NamedTuple):
    """A kind of object that an MCPProxy may own."""

    api_version: str
    kind: str
    plural: str


def metadata(proxy: MCPProxy, owner: Owner, name: str) -> Manifest:
    """Metadata of a child: its labels, and the owner that takes it along when it is deleted."""
    found: Manifest = {
        "name": name,
        "labels": names.child_labels(proxy.metadata.name),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
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
