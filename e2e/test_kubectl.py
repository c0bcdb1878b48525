"""Output of kubectl for a proxy, and its commands."""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from e2e import pods
from e2e.pods import ready_pods
from e2e.world import PROXIES, World, eventually

NAME = "shown"


@pytest.fixture(scope="module")
def shown(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy of one pod, Ready."""
    world = new_world("kubectl")
    pods.tellers(world, "teller")
    world.apply(pods.proxy(NAME, "teller", replicas=1))
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_get_shows_a_row_that_answers_the_usual_questions(shown: World) -> None:
    head, row = shown.kubectl("get", PROXIES, NAME).splitlines()
    assert head.split() == (["NAME", "READY", "STATUS", "BACKENDS", "TOOLS", "PODS", "AGE"])
    assert row.split()[:6] == [NAME, "True", "Serving", "1/1", "1", "1/1"]
    wide, told = shown.kubectl("get", PROXIES, NAME, "-o", "wide").splitlines()
    assert wide.split()[7:] == ["URL", "PROMPTS", "RESOURCES", "SESSION", "REASON", "MESSAGE"]
    assert f"http://{NAME}.{shown.namespace}.svc" in told
    assert shown.kubectl("get", "mcpp,mcp", "-o", "name").split()[0].endswith(NAME)


def test_describe_shows_backends_conditions_and_events(shown: World) -> None:
    told = shown.kubectl("describe", PROXIES, NAME)
    for line in (
        r"Backends Healthy: +1/1",
        r"Protocol Version: +20\d\d-\d\d-\d\d",
        r"Transport: +streamable-http",
        r"State: +Healthy",
        r"Type: +Ready",
        r"Events:",
    ):
        assert re.search(line, told), (line, told)


def test_describe_of_a_failing_proxy_shows_failures_and_uncounted_components(
    shown: World,
) -> None:
    shown.apply(pods.proxy("failing", "absent", "teller", replicas=1))

    def is_told() -> bool:
        conditions = {
            condition["type"]: condition
            for condition in shown.status("failing").get("conditions", [])
        }
        return bool(conditions.get("Ready", {}).get("reason") == "BackendsUnhealthy")

    eventually("the failure is told", is_told)
    row = shown.kubectl("get", PROXIES, "failing", "--no-headers").split()
    assert row[:6] == ["failing", "False", "Failing", "1/2", "1", "1/1"]
    told = shown.kubectl("describe", PROXIES, "failing")
    for line in (
        r"Backends Healthy: +1/2",
        r"Backends Counted: +1/2",
        r"Name: +absent\n +Reason: +Unreachable\n( +Session.*\n)* +State: +Unhealthy",
        r"Message: +absent is Unhealthy: \S+",
        r"Reason: +BackendsUnhealthy\n +Status: +False\n +Type: +Ready",
        r"Warning +BackendUnhealthy",
    ):
        assert re.search(line, told), (line, told)
    shown.kubectl("delete", PROXIES, "failing")


def test_scale_changes_the_number_of_pods_and_rollout_status_waits_for_them(shown: World) -> None:
    shown.kubectl("scale", f"{PROXIES}/{NAME}", "--replicas=2")
    eventually("the Deployment follows", lambda: _wanted(shown) == 2)
    shown.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=90s")
    assert ready_pods(shown, NAME) == 2
    shown.kubectl("wait", f"{PROXIES}/{NAME}", "--for=jsonpath={.status.readyReplicas}=2")
    shown.kubectl("wait", f"{PROXIES}/{NAME}", "--for=condition=Ready")
    status = shown.status(NAME)
    chosen = shown.kubectl("get", "pods", "-l", status["selector"], "-o", "json")
    assert len(json.loads(chosen)["items"]) == status["replicas"] == 2
    shown.kubectl("scale", f"{PROXIES}/{NAME}", "--replicas=1", "--current-replicas=2")
    eventually("the Deployment follows", lambda: _wanted(shown) == 1)


def test_explain_shows_the_meaning_and_default_of_a_field(shown: World) -> None:
    told = " ".join(shown.kubectl("explain", "mcpproxies.spec.backends.timeouts.request").split())
    assert "Each progress notification restarts it. Default: 300s." in told


def _wanted(world: World) -> int:
    replicas: int = world.get("deployment", NAME)["spec"]["replicas"]
    return replicas
