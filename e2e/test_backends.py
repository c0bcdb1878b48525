"""A backend goes away and comes back; the status says so, and the others serve on."""

import time

import pytest
from mcp import Client

from e2e.clients import call
from e2e.world import PROXIES, World, eventually

HEALTH_INTERVAL = 5
REPORTING_SECONDS = 2


async def test_an_unreachable_backend_is_unhealthy_within_two_intervals_and_recovers(
    demo: World,
) -> None:
    pods = _pods(demo)
    demo.kubectl("scale", "deployment/counter", "--replicas=0")
    try:
        selector = "app.kubernetes.io/name=counter"
        demo.kubectl("wait", "--for=delete", "pods", "-l", selector, "--timeout=60s")
        gone = time.monotonic()
        eventually("the counter is Unhealthy", lambda: _state(demo, "counter") == "Unhealthy")
        assert time.monotonic() - gone < 2 * HEALTH_INTERVAL + REPORTING_SECONDS

        counter = demo.backend("demo", "counter")
        assert counter["reason"]
        assert counter["message"]
        assert "components" not in counter
        assert demo.kubectl("get", PROXIES, "demo", "--no-headers").split()[3] == "2/3"
        await _others_serve(demo)
    finally:
        demo.kubectl("scale", "deployment/counter", "--replicas=1")
    eventually("the counter is Healthy again", lambda: _state(demo, "counter") == "Healthy")
    demo.wait_ready("demo")
    assert demo.status("demo")["backendsHealthy"] == "3/3"
    assert demo.backend("demo", "counter")["components"]["tools"] == 3
    assert _pods(demo) == pods


async def _others_serve(demo: World) -> None:
    with demo.forwarded("service/demo") as port:
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert (await call(client, "weather_get_forecast", city="Rome"))["city"] == "Rome"
            assert await call(client, "notes_search_notes", text="olives")
            with pytest.raises(Exception, match="counter"):
                await call(client, "counter_increment")


def _state(world: World, backend: str) -> str | None:
    state: str | None = world.backend("demo", backend).get("state")
    return state


def _pods(world: World) -> dict[str, int]:
    """The proxy's pods and how often each was restarted."""
    return {
        pod["metadata"]["name"]: sum(
            containerstatuse["restartCount"]
            for containerstatuse in pod["status"]["containerStatuses"]
        )
        for pod in world.all("pods")
        if pod["metadata"]["labels"].get("app.kubernetes.io/instance") == "demo"
    }
