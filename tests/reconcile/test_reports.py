"""Every pass ends in a report, whatever fails."""

import asyncio
import json

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import (
    ClusterError,
    FieldNotDeclared,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    ObjectTooLarge,
    Unavailable,
)
from mcpproxy.cluster.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    SERVICE,
    ResourceKind,
)
from tests.reconcile.stage import KEY, Stage


@pytest.mark.parametrize("error", [Unavailable("cut"), Invalid("webhook"), Forbidden("no")])
@pytest.mark.parametrize("request_", ["apply ConfigMap", "apply Deployment"])
async def test_health_of_pods_is_reported_while_writes_fail(
    stage: Stage, error: ClusterError, request_: str
) -> None:
    await stage.is_running()

    def refuse(request: str) -> None:
        if request == request_:
            raise error

    stage.cluster.before_write = refuse
    stage.user_applies(cache={"ttl": "7s"})
    with pytest.raises(type(error)):
        await stage.reconcile()
    assert stage.status.observed_generation == 2
    assert stage.verdict("Ready") == ("True", "Serving")
    await stage.pod_says("tools-1", weather="Unhealthy")
    with pytest.raises(type(error)):
        await stage.reconcile()
    assert stage.verdict("Ready") == ("False", "BackendsUnhealthy")
    stage.cluster.before_write = lambda request: None
    await stage.reconcile()
    assert stage.verdict("Stalled") is None


async def test_a_status_that_an_older_crd_refuses_is_written_without_the_fields_it_lacks(
    stage: Stage,
) -> None:
    apply_status = stage.cluster.apply_status

    async def refuse(manifest: Object, uid: str) -> Object:
        status = manifest["status"]
        if "backendsCounted" in status or "session" in (status.get("backends") or [{}])[0]:
            fields = frozenset({"status.backendsCounted", "status.backends.session"})
            raise FieldNotDeclared("field not declared in schema", fields)
        return await apply_status(manifest, uid)

    stage.cluster.apply_status = refuse  # type: ignore[method-assign]
    await stage.is_running()
    assert "apply the newer CRD" in stage.message("Accepted")
    assert stage.status.components is not None
    assert stage.status.backends_counted is None
    assert await stage.reconcile() is None
    assert stage.cluster.writes == []
    stage.cluster.apply_status = apply_status  # type: ignore[method-assign]
    stage.clock.advance(300)
    await stage.reconcile()
    assert stage.message("Accepted") == "the spec is valid"
    assert stage.status.backends_counted is not None


async def test_a_failure_of_the_operator_itself_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mcpproxy.reconcile.reconciler.build", fail)
    with pytest.raises(ZeroDivisionError):
        await stage.reconcile()
    assert stage.verdict("Stalled") == ("True", "OperatorFailed")
    assert stage.verdict("Ready") == ("True", "Serving")


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE, CONFIG_MAP, POD], ids=lambda kind: kind.name)
async def test_a_refused_read_is_reported_and_causes_no_change(
    stage: Stage, kind: ResourceKind
) -> None:
    await stage.is_running()
    stage.cluster.unreadable[kind.name] = Forbidden(f"cannot read {kind.plural}")
    stage.user_applies(cache={"ttl": "7s"})
    with pytest.raises(Forbidden):
        await stage.reconcile()
    assert stage.verdict("Stalled") == ("True", "Forbidden")
    assert kind.plural in stage.message("Stalled")
    assert set(stage.cluster.writes) <= {"status MCPProxy", "apply Event"}
    stage.cluster.unreadable.clear()
    await stage.reconcile()
    assert stage.verdict("Stalled") is None


async def test_an_unused_kind_is_not_read(stage: Stage) -> None:
    stage.knows = False
    for kind in ON_DEMAND:
        stage.cluster.unreadable[kind.name] = Forbidden(f"cannot read {kind.plural}")
    await stage.is_running()
    assert stage.verdict("Stalled") is None


async def test_a_namespace_that_is_being_deleted_gets_one_refused_write_for_each_proxy(
    stage: Stage,
) -> None:
    await stage.is_running()
    refused: list[str] = []

    def refuse(request: str) -> None:
        # An object that exists can be changed until it is deleted.
        if not request.startswith("status"):
            refused.append(request)
            raise NamespaceTerminating("it is being terminated")

    stage.cluster.before_write = refuse
    stage.cluster.remove(SERVICE, *KEY)
    for _ in range(5):
        assert await stage.reconcile() is None
    assert refused == ["apply Service"]
    assert stage.verdict("Ready") == ("False", "Terminating")
    assert "namespace" in stage.message("Ready")
    stage.cluster.remove(MCP_PROXY, *KEY)
    assert await stage.reconcile() is None


async def test_an_event_refused_by_a_terminating_namespace_is_not_a_warning(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.is_running()
    refused: list[str] = []

    def refuse(request: str) -> None:
        if not request.startswith("status"):
            refused.append(request)
            raise NamespaceTerminating("it is being terminated")

    stage.cluster.before_write = refuse
    await stage.pod_says("tools-1", weather="Unhealthy")
    for _ in range(3):
        assert await stage.reconcile() is None
    assert refused == ["apply Event"]
    assert stage.verdict("Ready") == ("False", "Terminating")
    assert caplog.messages == []


async def test_a_status_is_reduced_until_the_api_server_takes_it(stage: Stage) -> None:
    """Values that an older CRD does not admit, and a limit that is lower than our own."""
    apply_status, sizes = stage.cluster.apply_status, []

    async def refuse(manifest: Object, uid: str) -> Object:
        sizes.append(len(json.dumps(manifest["status"])))
        if len(sizes) == 1:
            raise ObjectTooLarge("etcdserver: request is too large")
        if "summary" in manifest["status"]:
            raise FieldNotDeclared(
                "status.summary: Unsupported value", frozenset({"status.summary"})
            )
        return await apply_status(manifest, uid)

    stage.cluster.apply_status = refuse  # type: ignore[method-assign]
    stage.user_applies()
    await stage.reconcile()
    assert len(sizes) == 3
    assert stage.verdict("Accepted") == ("True", "Valid")
    assert stage.status.summary is None
    assert "status.summary" in stage.message("Accepted")


async def test_a_write_that_takes_long_is_reported_before_it_ends(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = "mcpproxy.reconcile.status_updates.status_write_health"
    monkeypatch.setattr(f"{health}.SLOW", 0.0)
    monkeypatch.setattr(f"{health}.SLOW_WRITES", 0.0)
    apply_new, reported = stage.cluster.apply_new, asyncio.Event()

    async def wait(manifest: Object) -> Object:
        await reported.wait()
        return await apply_new(manifest)

    stage.cluster.apply_new = wait  # type: ignore[method-assign]

    def note(request: str) -> None:
        if request.startswith("status") and not reported.is_set():
            seen.append(stage.message("Ready"))
            reported.set()

    seen: list[str] = []
    stage.cluster.after_write = note
    stage.user_applies()
    await stage.reconcile()
    assert seen == ["the API server has not yet responded to the write of a child"]
    assert stage.verdict("Available") == ("False", "PodsNotReady")


async def test_the_first_of_several_refused_reads_does_not_change_the_message(stage: Stage) -> None:
    await stage.is_running()
    for order in ((SERVICE, POD), (POD, SERVICE)):
        stage.cluster.unreadable = {
            kind.name: Forbidden(f"cannot read {kind.plural}") for kind in order
        }
        with pytest.raises(Forbidden, match="cannot read pods"):
            await stage.reconcile()


async def test_each_backend_that_fails_has_an_event(stage: Stage) -> None:
    names = ("down", "wrongpath")
    backends = [{"name": name, "url": f"http://{name}.example/mcp"} for name in names]
    stage.user_applies(backends=backends)
    await stage.reconcile()
    stage.roll_out("tools-1")
    await stage.reconcile()
    await stage.pod_says("tools-1", down="Unhealthy", wrongpath="Unhealthy")
    await stage.reconcile()
    messages = {
        event["message"]
        for key, event in stage.cluster.objects.items()
        if key[0] == "Event" and event["reason"] == "BackendUnhealthy"
    }
    assert messages == {f"backend {name} is Unhealthy" for name in names}
