"""The Deployment of the runtime."""

from typing import Final

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired import pod_template
from mcpproxy.desired.types import BuildOptions, Manifest, OwnerRef, metadata
from mcpproxy.desired.volumes import mounts, volumes

ANNOTATION_VERSION: Final = f"{constants.GROUP}/operator-version"

_START_UP_SECONDS = 120
_DEFAULT_REQUESTS = {"cpu": "50m", "memory": "128Mi"}
_POD_IP: Final = {"apiVersion": "v1", "fieldPath": "status.podIP"}
_ARGS: Final = (
    *("run", "-f", f"{constants.CONFIG_DIR}/{constants.CONFIG_FILE}"),
    *("--transport", "http", "--host", "::", "--port", str(constants.PORT_HTTP)),
    *("--admin-host", "::", "--admin-port", str(constants.PORT_ADMIN)),
    *("--values", constants.VALUES_DIR, "--sealing-keys", constants.SEALING_DIR),
)


def build(proxy: MCPProxy, options: BuildOptions, owner: OwnerRef) -> Manifest:
    """Return the Deployment, without `replicas` if an autoscaler or a user may set them."""
    meta = metadata(proxy, owner, proxy.metadata.name)
    meta["annotations"] = {ANNOTATION_VERSION: options.version}
    spec: Manifest = {
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": constants.selector_labels(proxy.metadata.name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {
            "metadata": pod_template.pod_metadata(proxy),
            "spec": _pod(proxy, options, owner),
        },
    }
    if proxy.spec.replicas is not None:
        spec["replicas"] = proxy.spec.replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def _pod(proxy: MCPProxy, options: BuildOptions, owner: OwnerRef) -> Manifest:
    pod_spec: Manifest = {
        **pod_template.pod_fields(proxy),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_container(proxy, options)],
        "volumes": volumes(proxy, owner),
    }
    if proxy.spec.image_pull_secrets:
        pod_spec["imagePullSecrets"] = [
            {"name": name}
            for name in sorted(secret.name for secret in proxy.spec.image_pull_secrets)
        ]
    return pod_spec


def _container(proxy: MCPProxy, options: BuildOptions) -> Manifest:
    image = proxy.spec.image or options.image
    return {
        "name": constants.CONTAINER,
        "image": image,
        "imagePullPolicy": proxy.spec.image_pull_policy or _pull_policy(image),
        "command": ["mcpproxy"],
        "args": [*_ARGS, *_instances_arguments(proxy), *pod_template.drain_arguments(proxy)],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": _POD_IP}}],
        "ports": [
            {"name": "http", "containerPort": constants.PORT_HTTP, "protocol": "TCP"},
            {"name": "admin", "containerPort": constants.PORT_ADMIN, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/livez", period=1, failures=_START_UP_SECONDS),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        # A terminating pod is removed from endpoints with a delay, until which it still serves.
        "lifecycle": {"preStop": {"sleep": {"seconds": pod_template.DRAIN_SECONDS}}},
        "resources": _resources(proxy),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts(proxy),
    }


def _instances_arguments(proxy: MCPProxy) -> list[str]:
    """Return the option with the name of all pods, if they count calls together."""
    if not defaults.pods_count_together(proxy.spec):
        return []
    name = constants.instances_service_name(proxy.metadata.name)
    if proxy.metadata.namespace is not None:
        name = f"{name}.{proxy.metadata.namespace}.svc"
    return ["--instances", f"{name}:{constants.PORT_HTTP}"]


def _pull_policy(image: str) -> str:
    """Return the default that Kubernetes computes only for the first image of a Deployment."""
    last = image.partition("@")[0].rpartition("/")[2]
    tag = last.partition(":")[2] or ("" if "@" in image else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "admin"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _resources(proxy: MCPProxy) -> Manifest:
    """Return the resources of the spec, or the default requests.

    The two are never mixed: a default request could exceed a limit of the spec.
    """
    if proxy.spec.resources is None:
        return {"requests": dict(_DEFAULT_REQUESTS)}
    resources = proxy.spec.resources.to_manifest()
    return {
        kind: {name: str(quantity) for name, quantity in sorted(amounts.items())}
        for kind, amounts in sorted(resources.items())
    }
