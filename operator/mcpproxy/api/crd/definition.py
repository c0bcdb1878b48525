"""The CustomResourceDefinition of MCPProxy, generated from the models (`mcpproxy crd`)."""

import argparse
import sys
from typing import Any

import yaml

from mcpproxy.api import constants
from mcpproxy.api.base import cel_validation
from mcpproxy.api.crd.structural_schema import Schema, to_structural_schema
from mcpproxy.api.v1alpha1 import NAME_MESSAGE, MCPProxy, MCPProxySpec
from mcpproxy.api.v1alpha1.status import NOT_SEEN, MCPProxyStatus

_HEADER = (
    "# Generated from operator/mcpproxy/api by `mcpproxy crd`; edit the models, not this file.\n"
)

_NAME_RULE = cel_validation(
    f"self.metadata.name.size() <= {constants.MAX_NAME} "
    f"&& self.metadata.name.matches('{constants.DNS_LABEL}')",
    NAME_MESSAGE,
)


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": constants.CRD_NAME},
        "spec": {
            "group": constants.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": constants.KIND,
                "listKind": f"{constants.KIND}List",
                "plural": constants.PLURAL,
                "singular": constants.SINGULAR,
                "shortNames": list(constants.SHORT_NAMES),
                "categories": ["all", "mcp"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": constants.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _columns(),
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> Schema:
    return {
        "type": "object",
        "description": to_structural_schema(MCPProxy)["description"],
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema."},
            "kind": {"type": "string", "description": f"Always {constants.KIND}."},
            "metadata": {"type": "object"},
            "spec": to_structural_schema(MCPProxySpec),
            # Without an observedGeneration, kstatus would consider a new object up to date.
            "status": {
                **to_structural_schema(MCPProxyStatus),
                "default": {"observedGeneration": NOT_SEEN},
            },
        },
        "x-kubernetes-validations": [_NAME_RULE],
    }


def _columns() -> list[dict[str, Any]]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        _column("Ready", f"{ready}.status", "Status of the Ready condition"),
        _column("Status", ".status.summary", "Summary of the proxy's state"),
        _column("Backends", ".status.backendsHealthy", "Healthy backends out of all backends"),
        _column("Tools", ".status.components.tools", "Number of tools", type_="integer"),
        _column("Pods", ".status.pods", "Ready pods out of the desired pods"),
        _column("Age", ".metadata.creationTimestamp", "Time since creation", type_="date"),
        _column("URL", ".status.url", "URL that clients connect to", priority=1),
        _column(
            "Prompts",
            ".status.components.prompts",
            "Number of prompts",
            type_="integer",
            priority=1,
        ),
        _column(
            "Resources",
            ".status.components.resources",
            "Number of resources",
            type_="integer",
            priority=1,
        ),
        _column("Session", ".status.sessionMode", "Session modes in effect", priority=1),
        _column("Reason", f"{ready}.reason", "Reason of the Ready condition", priority=1),
        _column("Message", f"{ready}.message", "Message of the Ready condition", priority=1),
    ]


def _column(
    name: str, path: str, description: str, *, type_: str = "string", priority: int = 0
) -> dict[str, Any]:
    column = {"name": name, "type": type_, "jsonPath": path, "description": description}
    return {**column, "priority": priority} if priority else column


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        """Write equal parts out, because not every tool reads anchors."""
        return True


def render() -> str:
    """Return the CustomResourceDefinition as YAML, with a comment about its origin."""
    text = yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"{_HEADER}{text}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: `mcpproxy crd` has none and writes to standard output."""


def main(_args: argparse.Namespace) -> int:
    """Print the CustomResourceDefinition."""
    sys.stdout.write(render())
    return 0
