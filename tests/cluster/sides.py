"""Sides of the contract of a Cluster: the cluster under test, and the other writers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.client import Cluster

Change = Callable[[Object], None]


class Hand(Protocol):
    """Writes of other clients to objects."""

    async def edit(self, live: Object, change: Change) -> None:
        """Change an object as `kubectl edit` does."""

    async def apply(self, manifest: Object, manager: str) -> None:
        """Server-side apply as another field manager, without force."""


@dataclass(frozen=True, slots=True)
class Side:
    """A Cluster, a namespace in it, and somebody else's hand."""

    cluster: Cluster
    namespace: str
    hand: Hand


def a_config_map(side: Side, name: str = "one", **data: str) -> Object:
    """A ConfigMap with two labels."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": side.namespace,
            "labels": {"a": "1", "b": "2"},
        },
        "data": data or {"key": "value"},
    }


def a_deployment(side: Side, **container: Any) -> Object:
    """A Deployment of one container."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one", "namespace": side.namespace, "labels": {"a": "1"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "1"}},
            "template": {
                "metadata": {"labels": {"a": "1"}},
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "image": "main:1",
                            "ports": [{"containerPort": 80, "protocol": "TCP"}],
                            "env": [{"name": "A", "value": "1"}],
                            **container,
                        }
                    ],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }
