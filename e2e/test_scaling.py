"""An autoscaler that moves the pods of a proxy under load and back, while calls run."""

from collections.abc import Callable, Iterator

import pytest

from e2e import pods, sessions
from e2e.pods import calling
from e2e.world import World, eventually

NAME = "elastic"
UP_SECONDS = 150
DOWN_SECONDS = 180
GENTLE_SECONDS = 2.0

# Figures come every 10 seconds and the autoscaler looks every 15.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def elastic(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy of one to three pods, by their use of the processor; one now."""
    world = new_world("scaling")
    pods.add_on(world, "metrics-server")
    pods.tellers(world, "teller")
    sessions.counter(world)
    scaling = {
        "minReplicas": 1,
        "maxReplicas": 3,
        "targetCPUUtilizationPercentage": 40,
        "scaleDownAfter": "15s",
    }
    requests = {"requests": {"cpu": "50m", "memory": "96Mi"}}
    world.apply(sessions.proxy(NAME, "teller", autoscaling=scaling, resources=requests))
    world.wait_ready(NAME)
    yield world
    world.remove()


def test_a_proxy_is_scaled_under_load_and_back_without_a_failed_call(elastic: World) -> None:
    eventually("the autoscaler has figures", lambda: _measured(elastic), UP_SECONDS)
    eventually("one pod is enough", lambda: _ready(elastic) == 1, DOWN_SECONDS)
    with sessions.calling(elastic, NAME, "teller", pause=GENTLE_SECONDS) as gentle:
        with calling(elastic, NAME, "teller_tell", clients=6, pause=0.0, name="heavy") as heavy:
            eventually("three pods are Ready", lambda: _ready(elastic) == 3, UP_SECONDS)
            print(f"under load: {heavy.check()} calls")
        eventually("one pod is left", lambda: _ready(elastic) == 1, DOWN_SECONDS)
        gentle.wait_calls(3)
        print(f"beside it {gentle.check()}")
    elastic.wait_ready(NAME)


def _measured(world: World) -> bool:
    """Return True if the autoscaler knows the use of the processor, 0% or more."""
    metrics = world.get("horizontalpodautoscaler", NAME)["status"].get("currentMetrics") or [{}]
    return "averageUtilization" in metrics[0].get("containerResource", {}).get("current", {})


def _ready(world: World) -> int:
    """The pods that are Ready, when those are all there are; as the MCPProxy's status says."""
    status = world.status(NAME)
    total, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    return int(ready) if ready == total else 0
