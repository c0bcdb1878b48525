"""Names that the operator, the runtime, the manifests and the tests share."""

import hashlib
import re
from typing import Final

GROUP: Final = "mcpproxy.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "MCPProxy"
PLURAL: Final = "mcpproxies"
SINGULAR: Final = "mcpproxy"
SHORT_NAMES: Final = ("mcpp",)
API_VERSION: Final = f"{GROUP}/{VERSION}"
CRD_NAME: Final = f"{PLURAL}.{GROUP}"

OPERATOR: Final = "mcpproxy-operator"
"""Value of LABEL_NAME on the operator's pods."""
FIELD_MANAGER: Final = "mcpproxy-operator"

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
ANNOTATION_ALLOW_FROM: Final = f"{GROUP}/allow-from"
"""Annotation of a Service that lists the namespaces whose NetworkPolicies may name its pods."""
APP_NAME: Final = "mcpproxy"

CONTAINER: Final = "mcpproxy"
PORT_HTTP: Final = 8080
PORT_ADMIN: Final = 8081
PORT_SERVICE: Final = 80
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
"""Hosts at which a proxy serves only its own machine."""
MCP_PATH: Final = "/mcp"
METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
"""Path of the metadata of a protected resource (RFC 9728); the path of the resource follows."""
LIMITS_PATH: Final = "/.mcpproxy/limits"
"""Path of messages about `spec.limits`, at the endpoint for instances."""
WATCHES_PATH: Final = "/.mcpproxy/watches"
"""Path of messages about watched backends, at the endpoint for instances."""

CONFIG_DIR: Final = "/etc/mcpproxy"
CONFIG_FILE: Final = "mcpproxy.yaml"
VALUES_DIR: Final = "/var/run/mcpproxy/values"
SEALING_DIR: Final = "/var/run/mcpproxy/sealing"

MAX_NAME: Final = 63
DNS_LABEL: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


def selector_labels(proxy: str) -> dict[str, str]:
    """Return the immutable labels that select the pods of one MCPProxy."""
    return {LABEL_NAME: APP_NAME, LABEL_INSTANCE: proxy}


def child_labels(proxy: str) -> dict[str, str]:
    """Return the labels of every child of one MCPProxy."""
    return {**selector_labels(proxy), LABEL_MANAGED_BY: FIELD_MANAGER}


def config_map_name(proxy: str, content: str) -> str:
    """Return the name of the immutable ConfigMap that holds `content`, which determines the
    name."""
    return f"{proxy}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def sealing_secret_name(proxy: str, uid: str) -> str:
    """Return the name of the Secret whose keys seal session ids; it is written once and never read.

    The name contains the uid of the MCPProxy, so that no unrelated Secret has it.
    """
    return f"{proxy}-sealing-{uid}"


def instances_service_name(proxy: str) -> str:
    """Return the name of the headless Service whose addresses are those of all pods."""
    name = f"{proxy}-instances"
    if len(name) <= MAX_NAME:
        return name
    return f"{proxy[:44]}-{hashlib.sha256(proxy.encode()).hexdigest()[:8]}-instances"


CLUSTER_ISSUER_KEY: Final = "issuer"
CLUSTER_JWKS_KEY: Final = "jwks"
"""Keys of the ConfigMap with the issuer and the keys of the cluster's ServiceAccount tokens."""
NOT_LISTED: Final = "NotListed"
"""Reason of a backend that became RateLimited before all of its components were listed."""
RIGHTS: Final = b":rights"
"""Stands for the claims of a caller among the names of headers, none of which has a colon."""
LIST_FAILED: Final = "ListFailed"
"""Reason of a Healthy backend some of whose lists could not be fetched."""
CHANGE_STREAM_FAILED: Final = "ChangeStreamFailed"
"""Reason of a Healthy backend whose change notifications cannot be received."""
TOKEN_FILE: Final = "token"
"""Name of the file with the token of the pods' ServiceAccount for a backend."""
ACTOR_FILE: Final = "actor"
"""Name of the file with the token that names the proxy in exchanges."""


def cluster_keys_name(proxy: str) -> str:
    """Return the name of the ConfigMap with the keys of the cluster's ServiceAccount tokens."""
    return f"{proxy}-service-account-keys"


def service_url(proxy: str, namespace: str, port: int) -> str:
    """Return the URL that clients in the cluster connect to."""
    authority = f"{proxy}.{namespace}.svc" + ("" if port == 80 else f":{port}")
    return f"http://{authority}{MCP_PATH}"


def value_path(kind: str, name: str, key: str) -> str:
    """Return the path of a referenced value below the values directory.

    `kind` is `secret` or `configmap`.
    """
    return f"{kind}/{name}/{key}"


def mounted_token_path(backend: str, file: str) -> str:
    """Return the path of a token of the pods' ServiceAccount below the values directory."""
    return value_path("serviceaccount", backend, file)


def is_dns_label(name: str) -> bool:
    """True if a Service can have this name (RFC 1035 label, at most 63 characters)."""
    return len(name) <= MAX_NAME and re.fullmatch(DNS_LABEL, name) is not None
