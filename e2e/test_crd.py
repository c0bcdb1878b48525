"""The CRD is applied over an older one, while objects are stored and clients call."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from e2e import pods
from e2e.audit import AuditLog
from e2e.pods import calling, pods_of
from e2e.world import PROXIES, SERVICE_ACCOUNT, Object, World, eventually, steadily
from scripts.machine import ROOT, CommandFailed

NAME = "stored"
CRD = ROOT / "crds" / f"{PROXIES}.yaml"
STEADY_SECONDS = 10
NEWER = (
    "audit",
    "authentication",
    "authorization",
    "catalog",
    "expose",
    "limits",
    "monitoring",
    "podTemplate",
    "publicUrl",
)
NEWER_OF_BACKENDS = ("auth", "circuitBreaker", "forwardHeaders", "results", "tls")
"""Fields that the older CRD does not have; no other story's proxy uses them."""


@pytest.fixture
def older(new_world: Callable[[str], World]) -> Iterator[World]:
    """A CRD without the newer fields is installed, and a proxy is stored."""
    world = new_world("crd")
    pods.tellers(world, "teller")
    _apply_crd(world, _older(yaml.safe_load(CRD.read_text(encoding="utf-8"))))
    try:
        world.apply(_stored())
        world.wait_ready(NAME)
        eventually("both pods are Ready", lambda: world.status(NAME).get("readyReplicas") == 2)
        yield world
    finally:
        _apply_crd(world, yaml.safe_load(CRD.read_text(encoding="utf-8")))
    world.remove()


def test_a_newer_crd_over_an_older_one_leaves_objects_children_and_status_as_they_are(
    older: World, audit: AuditLog
) -> None:
    with pytest.raises(CommandFailed, match="unknown field"):
        older.apply(_forwarding())
    with calling(older, NAME, "teller_tell") as caller:
        before, position = _everything(older), audit.position()
        _apply_crd(older, yaml.safe_load(CRD.read_text(encoding="utf-8")))
        steadily("all is as it was", lambda: _everything(older) == before, STEADY_SECONDS)
        written = audit.writes(position, lambda write: write.user == SERVICE_ACCOUNT)
        assert [str(write) for write in written] == []

        older.apply(_forwarding())
        older.wait_ready(NAME)
        after = _everything(older)
        assert after[f"Deployment/{NAME}"] != before[f"Deployment/{NAME}"]
        assert after[f"Service/{NAME}"] == before[f"Service/{NAME}"]
        pods_before = {name for name in before if name.startswith("Pod/")}
        assert len(pods_before) == 2
        assert pods_before.isdisjoint(after)
        caller.wait_calls(20)
        print(f"{caller.check()} calls")


def _older(crd: Any) -> Any:
    """The CRD as it was before the newer fields, their rules and a column were there."""
    [version] = crd["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    backend = spec["properties"]["backends"]["items"]
    _without(spec, NEWER)
    _without(backend, NEWER_OF_BACKENDS)
    del version["additionalPrinterColumns"][-1]
    return crd


def _without(schema: Any, fields: tuple[str, ...]) -> None:
    for field in fields:
        del schema["properties"][field]
    rules = schema.get("x-kubernetes-validations", [])
    kept = [rule for rule in rules if not any(field in rule["rule"] for field in fields)]
    schema["x-kubernetes-validations"] = kept


def _apply_crd(world: World, crd: Any) -> None:
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    world.cluster.kubectl(*apply, stdin=json.dumps(crd))
    name = crd["metadata"]["name"]
    world.cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}")


def _stored() -> Object:
    """An MCPProxy of which every field is an old one."""
    return pods.proxy(NAME, "teller", replicas=2, disruptionBudget={"maxUnavailable": 1})


def _forwarding() -> Object:
    """The same with a field that only the newer CRD knows."""
    result = _stored()
    result["spec"]["backends"][0]["forwardHeaders"] = ["X-Tenant"]
    return result


def _everything(world: World) -> dict[str, Any]:
    """The object, its children, and its pods' uids, by kind and name."""
    proxy = world.get(PROXIES, NAME)
    results = [proxy, *world.owned(proxy["metadata"]["uid"])]
    children = {f"{item['kind']}/{item['metadata']['name']}": item for item in results}
    running = pods_of(world, NAME)
    uids = {f"Pod/{pod['metadata']['name']}": pod["metadata"]["uid"] for pod in running}
    return children | uids
