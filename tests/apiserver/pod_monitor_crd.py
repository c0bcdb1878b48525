"""The kind PodMonitor as the Prometheus operator defines it, with the fields that we use."""

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_DURATION: Final = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?"
    r"(([0-9]+)ms)?)$",
}
_LABELS: Final = {"type": "object", "additionalProperties": _TEXT}
_RELABELING: Final = {
    "type": "object",
    "properties": {
        "sourceLabels": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^[a-zA-Z_][a-zA-Z0-9_]*$"},
        },
        "targetLabel": _TEXT,
        "action": {"type": "string", "default": "replace"},
    },
}
_ENDPOINT: Final = {
    "type": "object",
    "properties": {
        "port": _TEXT,
        "path": _TEXT,
        "interval": _DURATION,
        "scrapeTimeout": _DURATION,
        "relabelings": {"type": "array", "items": _RELABELING},
    },
}
_SPEC: Final = {
    "type": "object",
    "required": ["selector"],
    "properties": {
        "selector": {
            "type": "object",
            "properties": {"matchLabels": _LABELS},
            "x-kubernetes-map-type": "atomic",
        },
        "podMetricsEndpoints": {"type": "array", "items": _ENDPOINT},
    },
}
CRD: Final[dict[str, Any]] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {"spec": _SPEC},
                    }
                },
            }
        ],
    },
}
