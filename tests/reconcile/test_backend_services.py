"""The Services of backends that are not reached: what is wrong with them is said."""

from typing import Any

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Forbidden
from mcpproxy.reconcile.status_updates.backend_services import EXPLAINED
from mcpproxy.reconcile.status_updates.status_writer import SERVICES_AGAIN
from tests.reconcile.stage import Stage
from tests.support.builders import a_backend

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
LABELS = {"app": "weather"}


def a_service(namespace: str = "team", **spec: Any) -> Object:
    """The Service that the backend names."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "weather-service", "namespace": namespace},
        "spec": {"clusterIP": "10.0.0.9", "selector": LABELS, "ports": [{"port": 8080}], **spec},
    }


def a_pod(**status: Any) -> Object:
    """A pod that the Service selects."""
    metadata = {"name": "weather-1", "namespace": "team", "labels": LABELS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


async def failing(
    stage: Stage, *objects: Object, namespace: str | None = None, reason: str = "Unreachable"
) -> str:
    """The message of a backend behind a Service that no pod reaches, among these objects."""
    service = {"name": "weather-service", "port": 8080, "namespace": namespace}
    argument = {key: value for key, value in service.items() if value is not None}
    stage.user_applies(backends=[a_backend("weather", service=argument)])
    await stage.reconcile()
    stage.roll_out("tools-1")
    for live in objects:
        stage.cluster.put(live)
    await stage.reconcile()
    await stage.pod_says("tools-1", weather="Unhealthy", reason=reason)
    again = await stage.reconcile()
    (backend,) = stage.status.backends or []
    assert backend.state == "Unhealthy"
    message = backend.message or ""
    if "; " in message:
        assert again is not None
        assert again <= SERVICES_AGAIN
        assert message in stage.message("Ready")
    return message.partition("; ")[2]


CASES: list[tuple[list[Object], str]] = [
    (
        [],
        (
            "Service weather-service does not exist in namespace team; create it or correct"
            " service.name"
        ),
    ),
    (
        [a_service(ports=[{"port": 443}, {"port": 80}]), a_pod(**READY)],
        "Service weather-service has no port 8080; set service.port to one of 80, 443",
    ),
    (
        [
            a_service(clusterIP="None", ports=[{"port": 8080, "targetPort": 9000}]),
            a_pod(**READY),
        ],
        (
            "Service weather-service is headless, so connections use port 8080 of the pods instead"
            " of its targetPort; change the port of the Service to 9000 and set service.port to"
            " 9000"
        ),
    ),
    (
        [a_service()],
        "Service weather-service has no endpoints: no pod has the labels app=weather",
    ),
    (
        [a_service(), a_pod()],
        "Service weather-service has no endpoints: none of its 1 pods is ready",
    ),
    ([a_service(), a_pod(**READY)], ""),
    ([a_service(selector=None)], ""),
    ([a_service(type="ExternalName", selector=None, ports=[])], ""),
    ([a_service(clusterIP="None"), a_pod(**READY)], ""),
    ([a_service(type="ExternalName", ports=[])], ""),
    ([a_service(type="ExternalName", ports=[]), a_pod()], ""),
    ([a_service(publishNotReadyAddresses=True), a_pod()], ""),
]


@pytest.mark.parametrize(("objects", "note"), CASES)
async def test_the_problem_of_a_service_follows_the_message_of_the_backend(
    stage: Stage, objects: list[Object], note: str
) -> None:
    assert await failing(stage, *objects) == note


async def test_a_timeout_is_also_explained_and_other_failures_are_not(stage: Stage) -> None:
    assert "does not exist" in await failing(stage, reason="TimedOut")


async def test_a_failure_unrelated_to_services_reads_no_services(stage: Stage) -> None:
    assert await failing(stage, reason="NotMCP") == ""


async def test_the_status_reveals_nothing_about_a_foreign_service_without_its_consent(
    stage: Stage,
) -> None:
    assert await failing(stage, namespace="office") == ""


async def test_a_service_in_another_namespace_that_consents_is_explained(stage: Stage) -> None:
    service = a_service("office")
    service["metadata"]["annotations"] = {constants.ANNOTATION_ALLOW_FROM: "team"}
    result = await failing(stage, service, namespace="office")
    assert result == ("Service weather-service has no endpoints: no pod has the labels app=weather")


async def test_a_service_that_cannot_be_read_does_not_change_the_message(stage: Stage) -> None:
    refused = Forbidden('User "operator" cannot get resource "services"')
    get = stage.cluster.get

    async def refuse(kind: Any, namespace: str, name: str) -> Any:
        if name == "weather-service":
            raise refused
        return await get(kind, namespace, name)

    stage.cluster.get = refuse  # type: ignore[method-assign]
    assert await failing(stage) == ""


async def test_the_service_of_a_reachable_backend_is_not_read(stage: Stage) -> None:
    service = {"name": "weather-service", "port": 8080}
    await stage.is_running(backends=[a_backend("weather", service=service)])
    read: list[str] = []
    get = stage.cluster.get

    async def noting(kind: Any, namespace: str, name: str) -> Any:
        read.append(name)
        return await get(kind, namespace, name)

    stage.cluster.get = noting  # type: ignore[method-assign]
    await stage.reconcile()
    assert "weather-service" not in read


async def test_the_services_that_one_pass_reads_are_bounded(stage: Stage) -> None:
    count = EXPLAINED + 3
    named = [a_backend(f"b{n}", service={"name": "absent", "port": 80}) for n in range(count)]
    stage.user_applies(backends=named)
    await stage.reconcile()
    stage.roll_out("tools-1")
    await stage.reconcile()
    states: Any = {f"b{n}": "Unhealthy" for n in range(count)}
    await stage.pod_says("tools-1", reason="Unreachable", **states)
    await stage.reconcile()
    messages = [backend.message or "" for backend in stage.status.backends or []]
    assert sum("does not exist" in message for message in messages) == EXPLAINED
