"""MCPProxies that must be refused for where their pods run, or whom they talk to."""

from typing import Any

from tests.support.bad_manifests import spec
from tests.support.bad_values import Bad, Manifest, bad
from tests.support.builders import a_manifest


def placed(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose podTemplate is wrong at `field`."""
    return spec(wrong, f"podTemplate{field}", podTemplate=fields)


def near(wrong: str, field: str, /, *requirements: Manifest) -> Bad:
    """A proxy whose pods are drawn to nodes by wrong requirements."""
    terms = "requiredDuringSchedulingIgnoredDuringExecution"
    chosen = {terms: {"nodeSelectorTerms": [{"matchExpressions": list(requirements)}]}}
    path = f".affinity.nodeAffinity.{terms}.nodeSelectorTerms[0].matchExpressions[0]{field}"
    return placed(wrong, path, affinity={"nodeAffinity": chosen})


def named(wrong: str, field: str, /, **requirement: Any) -> Bad:
    """A proxy whose pods are drawn to nodes by a wrong requirement on a field of them."""
    terms = "requiredDuringSchedulingIgnoredDuringExecution"
    chosen = {terms: {"nodeSelectorTerms": [{"matchFields": [requirement]}]}}
    path = f".affinity.nodeAffinity.{terms}.nodeSelectorTerms[0].matchFields[0]{field}"
    return placed(wrong, path, affinity={"nodeAffinity": chosen})


def labelled(wrong: str, field: str, /, **options: str) -> Bad:
    """A proxy whose SELinux label is wrong at `field`."""
    context = {"seLinuxOptions": options}
    return placed(wrong, f".securityContext.seLinuxOptions{field}", securityContext=context)


NOT_OURS_TO_GIVE: dict[str, Manifest] = {
    name: {name: value}
    for name, value in {
        "appArmorProfile": {"type": "Unconfined"},
        "seccompProfile": {"type": "Unconfined"},
        "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}],
        "windowsOptions": {"hostProcess": True},
        "runAsNonRoot": False,
        "capabilities": {"add": ["NET_ADMIN"]},
        "allowPrivilegeEscalation": True,
        "procMount": "Unmasked",
    }.items()
}
"""Fields of the Pod Security Standards that no MCPProxy can set, each as a securityContext."""
OF_THE_HOST: Manifest = {
    "hostPID": True,
    "hostIPC": True,
    "hostUsers": False,
    "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
    "ports": [{"containerPort": 8080, "hostPort": 8080}],
    "ephemeralContainers": [],
    "initContainers": [],
}

SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}

PLACEMENT = [
    placed("a host's network", ".hostNetwork", hostNetwork=True),
    placed("another container", ".containers", containers=[{"name": "main", "image": "x"}]),
    placed("a label of the operator", ".labels", labels={"app.kubernetes.io/instance": "x"}),
    placed("a label's value of 64 characters", ".labels", labels={"a": "x" * 64}),
    placed("a label's value with a slash", ".labels", labels={"a": "x/y"}),
    placed("a node's label as number", ".nodeSelector.cpus", nodeSelector={"cpus": 8}),
    placed("a toleration of nothing", ".tolerations[0]", tolerations=[{}]),
    placed("a toleration without key", ".tolerations[0]", tolerations=[{"value": "x"}]),
    placed(
        "a toleration of any value with one",
        ".tolerations[0]",
        tolerations=[{"key": "a", "operator": "Exists", "value": "x"}],
    ),
    placed(
        "seconds for an effect that has none",
        ".tolerations[0]",
        tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}],
    ),
    placed("an unknown effect", ".tolerations[0].effect", tolerations=[{"effect": "Never"}]),
    placed(
        "a place spread over twice",
        ".topologySpreadConstraints",
        topologySpreadConstraints=[SPREAD, {**SPREAD, "maxSkew": 2}],
    ),
    placed(
        "no skew at all",
        ".topologySpreadConstraints[0].maxSkew",
        topologySpreadConstraints=[{**SPREAD, "maxSkew": 0}],
    ),
    placed(
        "a number of places that does not count",
        ".topologySpreadConstraints[0]",
        topologySpreadConstraints=[{**SPREAD, "minDomains": 2}],
    ),
    near("a requirement without operator", ".operator", {"key": "a"}),
    near("a requirement without values", "", {"key": "a", "operator": "In"}),
    near("values that nobody compares", "", {"key": "a", "operator": "Exists", "values": ["b"]}),
    near("more than a word", "", {"key": "a", "operator": "Gt", "values": ["many"]}),
    near("a key with a space", ".key", {"key": "a b", "operator": "Exists"}),
    named("a field of nodes that is none", ".key", key="spec.x", operator="In", values=["a"]),
    named("two nodes", ".values", key="metadata.name", operator="In", values=["a", "b"]),
    named("no node", ".values", key="metadata.name", operator="In"),
    placed("root", ".securityContext.runAsUser", securityContext={"runAsUser": 0}),
    placed("privileges", ".securityContext.privileged", securityContext={"privileged": True}),
    labelled("an unconfined SELinux type", ".type", type="spc_t"),
    labelled("an SELinux type that is not of containers", ".type", type="unconfined_t"),
    labelled("an SELinux user", ".user", user="system_u"),
    labelled("an SELinux role", ".role", role="system_r"),
    placed(
        "a pod without AppArmor",
        ".annotations",
        annotations={"container.apparmor.security.beta.kubernetes.io/mcpproxy": "unconfined"},
    ),
    *(
        placed(f"{field} of Pod Security", f".securityContext.{field}", securityContext=argument)
        for field, argument in NOT_OURS_TO_GIVE.items()
    ),
    *(
        placed(f"{field} of the host", f".{field}", **{field: source})
        for field, source in OF_THE_HOST.items()
    ),
    placed("no time to end", ".terminationGracePeriodSeconds", terminationGracePeriodSeconds=5),
    placed("a class in upper case", ".priorityClassName", priorityClassName="Agents"),
]


def door(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy whose networkPolicy is wrong at `field`."""
    return spec(wrong, f"networkPolicy{field}", networkPolicy=fields)


EVERYONE = {"ipBlock": {"cidr": "0.0.0.0/0"}}

NETWORK = [
    door("no client at all", ".clients", clients=[]),
    door("a client that is nobody", ".clients[0]", clients=[{}]),
    door("a client that is two", ".clients[0]", clients=[{**EVERYONE, "podSelector": {}}]),
    door(
        "a range without its size",
        ".clients[0].ipBlock.cidr",
        clients=[{"ipBlock": {"cidr": "10.0.0.0"}}],
    ),
    door("a name as range", ".urlAddresses[0].cidr", urlAddresses=[{"cidr": "example.com/8"}]),
    door("talking to all the world by mistake", ".egress[0]", egress=[{}]),
    door("talking on no port", ".egress[0].ports", egress=[{"ports": []}]),
    door(
        "talking on port 65536",
        ".egress[0].ports[0].port",
        egress=[{"ports": [{"port": 65536}]}],
    ),
    door(
        "talking in another protocol",
        ".egress[0].ports[0].protocol",
        egress=[{"ports": [{"port": 1, "protocol": "ICMP"}]}],
    ),
    door(
        "a selector with an unknown operator",
        ".scrapers[0].podSelector.matchExpressions[0].operator",
        scrapers=[{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}],
    ),
    door(
        "a selector without values",
        ".scrapers[0].podSelector.matchExpressions[0]",
        scrapers=[{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}],
    ),
]

MONITORING = [
    spec(
        "an interval of two numbers",
        "monitoring.podMonitor.interval",
        monitoring={"podMonitor": {"interval": "1m30s"}},
    ),
    spec(
        "a timeout of nothing",
        "monitoring.podMonitor.scrapeTimeout",
        monitoring={"podMonitor": {"scrapeTimeout": "0s"}},
    ),
    spec(
        "a monitor with a label of the operator",
        "monitoring.podMonitor.labels",
        monitoring={"podMonitor": {"labels": {"app.kubernetes.io/name": "x"}}},
    ),
    spec(
        "a monitor that may not come in",
        "networkPolicy",
        monitoring={"podMonitor": {}},
        networkPolicy={},
    ),
]


def unseen(wrong: str, field: str, /, **fields: Any) -> Bad:
    """A proxy that is wrong at `field`, where no schema can tell."""
    return bad(wrong, a_manifest(**fields), f"spec.{field}", None)


ONLY_FOR_THE_PARSER = [
    unseen(
        "a label whose key has a space",
        "podTemplate.labels",
        podTemplate={"labels": {"a b": "c"}},
    ),
    unseen(
        "an annotation of the Service whose key has a space",
        "service.annotations",
        service={"annotations": {"a b": "c"}},
    ),
    unseen(
        "a label whose prefix is longer than a DNS name",
        "podTemplate.labels",
        podTemplate={"labels": {f"{'a' * 254}/b": "c"}},
    ),
    unseen(
        "annotations that are too large together",
        "podTemplate.annotations",
        podTemplate={"annotations": {f"a{number}": "x" * 16384 for number in range(16)}},
    ),
    *(
        unseen(
            f"another container without {profile.partition('.')[0]} ({profile[-8:]})",
            "podTemplate.annotations",
            podTemplate={"annotations": {profile: "unconfined"}},
        )
        for profile in (
            "container.apparmor.security.beta.kubernetes.io/sidecar",
            "seccomp.security.alpha.kubernetes.io/pod",
            "container.seccomp.security.alpha.kubernetes.io/mcpproxy",
        )
    ),
    unseen(
        "an address that is none",
        "networkPolicy.clients[0].ipBlock.cidr",
        networkPolicy={"clients": [{"ipBlock": {"cidr": "10.0.0.256/8"}}]},
    ),
    unseen(
        "an exception outside of its range",
        "networkPolicy.urlAddresses[0]",
        networkPolicy={"urlAddresses": [{"cidr": "10.0.0.0/8", "except": ["192.0.2.0/24"]}]},
    ),
]

ALL = [*PLACEMENT, *NETWORK, *MONITORING, *ONLY_FOR_THE_PARSER]
