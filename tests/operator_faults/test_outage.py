"""While the API server is away, pods stay as they are; soon after, statuses are right again.

For 20 seconds by default, longer than the Lease lasts, and for two minutes with STRESS=1.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from mcpproxy.cluster.resources import MCP_PROXY, POD, SERVICE
from tests.apiserver.operator_process import StatusServer
from tests.apiserver.server import ApiServer
from tests.apiserver.wire import wired
from tests.operator_faults.story import Story, supervised
from tests.stress.size import size

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(400)]

AWAY: Final = size(20, 120)
"""Seconds without an API server."""
RIGHT: Final = 30.0
"""Seconds within which statuses are right again."""


def ready(story: Story) -> str:
    """Return the status of the Ready condition."""
    conditions = (story.find(MCP_PROXY) or {}).get("status", {}).get("conditions", [])
    return next((str(item["status"]) for item in conditions if item["type"] == "Ready"), "")


def test_after_an_outage_of_the_api_server_the_status_is_right_within_30_seconds(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    lease = ("--leader-elect", "--lease-namespace", namespace)
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path / "wire"))
        client = stack.enter_context(apiserver.client())
        pod = StatusServer()
        stack.callback(pod.stop)
        log = tmp_path / "log"
        supervisor = stack.enter_context(supervised(wire, namespace, log, *lease))
        story = Story(client, namespace, supervisor, pod)
        story.create()
        supervisor.until(lambda: ready(story) == "True", "it is Ready")
        before = client.get(POD.path(namespace)).json()["items"]
        wire.fault = lambda request: "cut"
        wire.sever()
        supervisor.operator.wait(AWAY / 2)
        # Nobody can tell the operator of either.
        story.report("Unhealthy")
        client.delete(SERVICE.path(namespace, "tools"))
        supervisor.operator.wait(AWAY / 2)
        assert ready(story) == "True"
        assert client.get(POD.path(namespace)).json()["items"] == before
        wire.fault = lambda request: None
        began = time.monotonic()
        supervisor.until(lambda: ready(story) == "False", "the status is right")
        supervisor.until(lambda: story.find(SERVICE) is not None, "the Service is back")
        assert time.monotonic() - began < RIGHT
        assert supervisor.restarts == 0
        assert client.get(POD.path(namespace)).json()["items"] == before
