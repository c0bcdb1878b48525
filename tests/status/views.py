"""Observed things for tests: a proxy that serves, unless said otherwise."""

from dataclasses import replace
from typing import Any

from mcpproxy.api.v1alpha1.status import (
    BackendStatus,
    ComponentCounts,
    Condition,
    MCPProxyStatus,
    PodReport,
)
from mcpproxy.status.compute import build_status, find_condition
from mcpproxy.status.inputs import DeploymentView, PodView, StatusInput
from tests.support.builders import a_backend, an_mcpproxy

EARLIER = "2026-01-01T00:00:00Z"
NOW = "2026-01-01T01:00:00Z"


def a_view(name: str = "weather", state: str = "Healthy", **fields: Any) -> BackendStatus:
    """Return the view of one pod of one backend."""
    if state in ("Healthy", "Degraded"):
        fields.setdefault("components", ComponentCounts(tools=2, prompts=0))
    return BackendStatus.model_validate({"name": name, "state": state, **fields})


def a_report(*views: BackendStatus, catalog: str | None = "c1", **fields: Any) -> PodReport:
    """Return the report of one pod."""
    return PodReport(
        config_hash="h", version="1", backends=list(views), catalog_hash=catalog, **fields
    )


def a_pod(name: str = "tools-1", *views: BackendStatus, **fields: Any) -> PodView:
    """A ready pod that runs the current configuration."""
    report = a_report(*views) if views else None
    return replace(PodView(name, ready=True, current=True, report=report), **fields)


def a_deployment(desired: int = 1, **fields: Any) -> DeploymentView:
    """A Deployment that is complete."""
    done = DeploymentView(True, desired, desired, desired, desired, desired)
    return replace(done, **fields)


def observed(
    *pods: PodView, backends: tuple[str, ...] = ("weather",), **fields: Any
) -> StatusInput:
    """One MCPProxy with these pods."""
    proxy = an_mcpproxy(backends=[a_backend(name) for name in backends])
    result = StatusInput(
        name="tools",
        namespace="team",
        generation=3,
        spec=proxy.spec,
        deployment=a_deployment(max(len(pods), 1)),
        pods=pods,
    )
    return replace(result, **fields)


def status_of(seen: StatusInput, before: MCPProxyStatus | None = None) -> MCPProxyStatus:
    """Its status."""
    return build_status(seen, before, NOW)


def condition(status: MCPProxyStatus, type_: str) -> Condition:
    """One condition that must be there."""
    result = find_condition(status, type_)
    assert result is not None, f"no condition {type_}"
    return result


def verdict(status: MCPProxyStatus, type_: str) -> tuple[str, str]:
    """Status and reason of one condition."""
    result = condition(status, type_)
    return result.status, result.reason
