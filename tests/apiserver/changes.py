"""One change of each field that makes or shapes a child, and where it shows."""

from typing import Any

from tests.apiserver.stage import Object
from tests.support.builders import a_backend

HPA = "horizontalpodautoscaler"
PDB = "poddisruptionbudget"
CPU = "targetCPUUtilizationPercentage"
MEMORY = "targetMemoryUtilizationPercentage"

NETWORK = "networkpolicy"
ROUTE = "httproute"


Change = tuple[str, Object, Object, str, str, str]
"""A field, the spec before and after, and what shows where in which child."""


def door(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the networkPolicy, from an empty one."""
    before, after = ({"networkPolicy": argument} for argument in ({}, fields))
    return (f"networkPolicy.{'.'.join(fields)}", before, after, NETWORK, path, value)


CLIENT: Object = {
    "issuer": "https://login.example.com",
    "clientId": "mcpproxy",
    "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}},
}


ACTOR = {"serviceAccount": {"audience": "stock"}}


def mounted(file: str, auth: Object) -> Change:
    """An identity towards a backend for which the kubelet mounts a token."""
    authentication = {"serviceAccounts": {"audience": "tools.mcpproxy.dev"}}
    before, after = (
        {"authentication": authentication, "backends": [a_backend(auth=value)]}
        for value in ({}, auth)
    )
    path = "{.spec.template.spec.volumes[*].projected.sources[*].serviceAccountToken.audience}"
    name = f"audience of a mounted {file}"
    return (name, before, after, "deployment", path, "stock")


RANGE = {"ipBlock": {"cidr": "10.0.0.0/8"}}
DOORS = [
    door("{.spec.ingress[0].from[*].ipBlock.cidr}", "10.0.0.0/8", clients=[RANGE]),
    door("{.spec.ingress[*].from[*].ipBlock.cidr}", "10.0.0.0/8", scrapers=[RANGE]),
    door(
        "{.spec.egress[*].ports[?(@.port==1)].protocol}",
        "UDP",
        egress=[{"ports": [{"port": 1, "protocol": "UDP"}]}],
    ),
    door(
        "{.spec.egress[?(@.ports[0].port==80)].to[*].ipBlock.cidr}",
        "192.0.2.0/24",
        urlAddresses=[{"cidr": "192.0.2.0/24"}],
    ),
]


def scraped(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the PodMonitor, from an empty one."""
    before, after = ({"monitoring": {"podMonitor": argument}} for argument in ({}, fields))
    field = f"monitoring.podMonitor.{'.'.join(fields)}"
    return (field, before, after, "podmonitor", path, value)


ENDPOINT = "{.spec.podMetricsEndpoints[0]"
MONITORS = [
    scraped("{.metadata.labels.release}", "x", labels={"release": "x"}),
    scraped(f"{ENDPOINT}.interval}}", "15s", interval="15s"),
    scraped(f"{ENDPOINT}.scrapeTimeout}}", "5s", scrapeTimeout="5s"),
]

URL = {"publicUrl": "https://mcp.example.com/tools"}


def attached(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the reference to a Gateway, from one by its name."""
    before, after = (
        {**URL, "expose": {"parentRefs": [{"name": "public", **argument}]}}
        for argument in ({}, fields)
    )
    where = f"{{.spec.parentRefs[0].{path}}}"
    return (f"expose.parentRefs.{path}", before, after, ROUTE, where, value)


def routed(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the Ingress, from an empty one."""
    before, after = ({**URL, "expose": {"ingress": argument}} for argument in ({}, fields))
    return (f"expose.ingress.{'.'.join(fields)}", before, after, "ingress", path, value)


ROUTES = [
    attached("name", "internal", name="internal"),
    attached("namespace", "gateways", namespace="gateways"),
    attached("sectionName", "https", sectionName="https"),
    attached("port", "443", port=443),
    routed("{.spec.ingressClassName}", "nginx", className="nginx"),
    routed("{.spec.tls[0].secretName}", "mcp-tls", tlsSecretName="mcp-tls"),
    routed("{.metadata.annotations.team}", "blue", annotations={"team": "blue"}),
]

POD = "{.spec.template.spec"
TEMPLATE = "{.spec.template"


def template(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the pods' overlay, from none, that shows in the Deployment."""
    field = f"podTemplate.{'.'.join(fields)}"
    return (field, {}, {"podTemplate": fields}, "deployment", path, value)


PODS = [
    template(f"{TEMPLATE}.metadata.labels.team}}", "blue", labels={"team": "blue"}),
    template(f"{TEMPLATE}.metadata.annotations.owner}}", "me", annotations={"owner": "me"}),
    template(f"{POD}.nodeSelector.disk}}", "fast", nodeSelector={"disk": "fast"}),
    template(f"{POD}.tolerations[0].key}}", "a", tolerations=[{"key": "a"}]),
    template(
        f"{POD}.affinity.podAntiAffinity.*[0].topologyKey}}",
        "zone",
        affinity={
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]
            }
        },
    ),
    template(
        f"{POD}.topologySpreadConstraints[*].topologyKey}}",
        "rack",
        topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    ),
    template(f"{POD}.priorityClassName}}", "high", priorityClassName="high"),
    template(f"{POD}.runtimeClassName}}", "gvisor", runtimeClassName="gvisor"),
    template(f"{POD}.schedulerName}}", "mine", schedulerName="mine"),
    template(f"{POD}.serviceAccountName}}", "agents", serviceAccountName="agents"),
    template(f"{POD}.securityContext.runAsUser}}", "7", securityContext={"runAsUser": 7}),
    template(
        f"{POD}.terminationGracePeriodSeconds}} {POD}.containers[0].args[-2:]}}",
        "300 --drain 290",
        terminationGracePeriodSeconds=300,
    ),
]


def container(field: str, path: str, value: str, /, **fields: Any) -> Change:
    """A change from none that shows in the runtime's container."""
    return (field, {}, fields, "deployment", f"{POD}.containers[0].{path}}}", value)


def served(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the Service, from none."""
    return (f"service.{'.'.join(fields)}", {}, {"service": fields}, "service", path, value)


def scaled(path: str, value: str, /, **fields: Any) -> Change:
    """A change of the autoscaler, from one of four pods at the most."""
    before, after = ({"autoscaling": {"maxReplicas": 4, **argument}} for argument in ({}, fields))
    return (f"autoscaling.{'.'.join(fields)}", before, after, HPA, path, value)


def evicted(before: Object, after: Object) -> Change:
    """A change of the budget."""
    (field,), (value,) = after, after.values()
    argument = ({"disruptionBudget": budget} for budget in (before, after))
    return (f"disruptionBudget.{field}", *argument, PDB, f"{{.spec.{field}}}", value)


REQUESTS: Object = {"requests": {"cpu": "75m"}}
LIMITS: Object = {"limits": {"memory": "1Gi"}}
CHANGES: list[Change] = [
    ("replicas", {"replicas": 2}, {"replicas": 3}, "deployment", "{.spec.replicas}", "3"),
    container("image", "image", "example.com/own:1", image="example.com/own:1"),
    container("imagePullPolicy", "imagePullPolicy", "Never", imagePullPolicy="Never"),
    container("resources.requests", "resources.requests.cpu", "75m", resources=REQUESTS),
    container("resources.limits", "resources.limits.memory", "1Gi", resources=LIMITS),
    (
        "imagePullSecrets",
        {"imagePullSecrets": [{"name": "old"}]},
        {"imagePullSecrets": [{"name": "registry"}]},
        "deployment",
        f"{POD}.imagePullSecrets[*].name}}",
        "registry",
    ),
    served("{.spec.type}", "NodePort", type="NodePort"),
    served("{.spec.ports[0].port}", "8080", port=8080),
    served("{.metadata.annotations.scope}", "inner", annotations={"scope": "inner"}),
    (
        "autoscaling",
        {"replicas": 2},
        {"autoscaling": {"maxReplicas": 4}},
        HPA,
        "{.spec.scaleTargetRef.name}",
        "tools",
    ),
    scaled("{.spec.maxReplicas}", "5", maxReplicas=5),
    scaled("{.spec.minReplicas}", "3", minReplicas=3),
    scaled("{.spec.metrics[0].containerResource.target.averageUtilization}", "55", **{CPU: 55}),
    scaled("{.spec.metrics[*].containerResource.name}", "memory", **{MEMORY: 65}),
    scaled("{.spec.behavior.scaleDown.stabilizationWindowSeconds}", "60", scaleDownAfter="1m"),
    mounted("token", {"serviceAccount": {"audience": "stock"}}),
    mounted(
        "actor", {"tokenExchange": {**CLIENT, "actor": {"serviceAccount": {"audience": "stock"}}}}
    ),
    evicted({"maxUnavailable": 1}, {"minAvailable": "50%"}),
    evicted({"minAvailable": 1}, {"maxUnavailable": "30%"}),
    *PODS,
    *DOORS,
    *MONITORS,
    *ROUTES,
]
