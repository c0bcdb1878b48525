"""The status is about the spec that is in effect, not about one that the operator can't apply."""

from typing import Any

import pytest

from mcpproxy.cluster.resources import (
    AUTOSCALER,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INGRESS,
    POD_MONITOR,
)
from tests.reconcile.stage import KEY, Stage
from tests.reconcile.test_exposure import LOCAL, about, tell
from tests.support.builders import a_backend
from tests.support.on_demand import ASKED, PUBLIC

KEYS = {"apiKeys": [{"name": "a", "hashFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}
RUNNING: dict[str, Any] = {
    **ASKED[HTTP_ROUTE],
    "service": {"port": 9000},
    "monitoring": {"podMonitor": {}},
    "autoscaling": {"maxReplicas": 3},
}
CHANGES: dict[str, dict[str, Any]] = {
    "authentication": {"authentication": KEYS},
    "publicUrl": {"publicUrl": "https://new.example.com/tools"},
    "port": {"service": {"port": 7000}},
    "default port": {"service": {}},
    "no route": {"expose": None},
    "another route": {"expose": {"ingress": {}}},
    "no monitor": {"monitoring": None},
    "autoscaler": {"autoscaling": {"maxReplicas": 9}},
    "backends": {"backends": [a_backend(), a_backend("calendar")]},
    "session": {"session": {"mode": "PerClient"}},
    "limits": {"limits": {"rules": [{"name": "few", "calls": 1, "window": "60s"}]}},
}
FOREIGN = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": KEY.name, "namespace": KEY.namespace},
    "spec": {},
}
HELD: dict[str, dict[str, Any]] = {
    "suspended": {"suspend": True},
    "blocked": {"disruptionBudget": {"maxUnavailable": 1}},
    "invalid": {"podTemplate": {"annotations": {"not a key!": "x"}}},
}
"""Ways in which the operator changes nothing."""


def _shown(stage: Stage) -> dict[str, Any]:
    """The parts of the status about the pods and the optional children."""
    status = stage.status.to_manifest()
    about_it = ("url", "addresses", "backends", "sessionMode", "components")
    result = {field: status.get(field) for field in about_it}
    for type_ in ("Exposed", "Monitored", "Autoscaled", "LimitsEnforced", "AuthenticationReady"):
        verdict = stage.verdict(type_)
        result[type_] = verdict and (*verdict, stage.message(type_))
    return result


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("held", HELD)
async def test_a_change_that_is_not_applied_does_not_appear_as_if_it_were(
    stage: Stage, change: str, held: str
) -> None:
    await stage.is_running(**RUNNING)
    await tell(stage, about(LOCAL))
    before = _shown(stage)
    assert before["Exposed"][:2] == ("True", "RouteAccepted")
    assert "without spec.authentication" in before["Exposed"][2]
    assert before["addresses"][1]["url"].endswith(":9000/mcp")
    if held == "blocked":
        stage.cluster.put(FOREIGN)
    fields = {**RUNNING, **HELD[held], **CHANGES[change]}
    stage.user_applies(**{name: value for name, value in fields.items() if value is not None})
    await stage.reconcile()
    assert _shown(stage) == before


@pytest.mark.parametrize(
    ("fields", "type_", "kind"),
    [
        ({"monitoring": {"podMonitor": {}}}, "Monitored", POD_MONITOR),
        ({"autoscaling": {"maxReplicas": 3}}, "Autoscaled", AUTOSCALER),
        (ASKED[HTTP_ROUTE], "Exposed", HTTP_ROUTE),
        (ASKED[INGRESS], "Exposed", INGRESS),
    ],
)
@pytest.mark.parametrize("held", ["suspended", "blocked"])
async def test_an_optional_child_that_was_not_created_is_reported_with_the_cause(
    stage: Stage, held: str, fields: dict[str, Any], type_: str, kind: Any
) -> None:
    await stage.is_running()
    stage.cluster.put(FOREIGN)
    stage.user_applies(**fields, **HELD[held])
    await stage.reconcile()
    verdict = stage.verdict(type_)
    assert verdict is not None
    assert verdict[0] == "Unknown"
    cause = "spec.suspend is true" if held == "suspended" else "already exists and is not"
    assert f"the {kind.name} " in stage.message(type_)
    assert cause in stage.message(type_)
    stage.cluster.remove(DISRUPTION_BUDGET, *KEY)
    stage.user_applies(**fields)
    await stage.reconcile()
    assert cause not in stage.message(type_)
    assert "does not exist" not in stage.message(type_)


async def test_a_new_proxy_that_is_blocked_has_no_monitor(stage: Stage) -> None:
    stage.cluster.put({**FOREIGN, "apiVersion": "apps/v1", "kind": "Deployment"})
    stage.user_applies(**PUBLIC, monitoring={"podMonitor": {}})
    await stage.reconcile()
    assert stage.verdict("Monitored") == ("Unknown", "PodMonitorPending")
    assert "Deployment tools already exists" in stage.message("Monitored")
