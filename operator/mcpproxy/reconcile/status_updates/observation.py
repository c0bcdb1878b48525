"""Observation of one MCPProxy: its snapshot and the reports of its pods as a `StatusInput`."""

from collections.abc import Callable
from datetime import datetime

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.resources import AUTOSCALER, ProxyKey
from mcpproxy.desired import config_map
from mcpproxy.reconcile.exposure.route_views import route_view
from mcpproxy.reconcile.object_views import (
    autoscaler_view,
    deployment_view,
    mounted_config_map,
    pod_address,
)
from mcpproxy.reconcile.snapshot import Snapshot, requested_kinds
from mcpproxy.reconcile.status_updates.effective_spec import effective_spec, route_kind
from mcpproxy.status.inputs import ConditionReason, PodView, StatusInput
from mcpproxy.status.pod_problems import is_ready, is_starting, pod_problem


class Observer:
    """Converter of snapshots to the input of the status."""

    def __init__(self, reports: PodReportWatcher[ProxyKey], now: Callable[[], datetime]) -> None:
        self._reports = reports
        self._now = now

    def observe(
        self,
        snapshot: Snapshot,
        blocked: ConditionReason | None,
        pending_changes: tuple[str, ...],
    ) -> StatusInput:
        """Return the input of the status, without notes on Services."""
        metadata, deployment = snapshot.parent["metadata"], snapshot.deployment
        current = _current_config_map(snapshot)
        spec = effective_spec(snapshot, blocked)
        return StatusInput(
            name=metadata["name"],
            namespace=metadata["namespace"],
            generation=metadata["generation"],
            spec=spec,
            suspended=snapshot.suspended,
            pending_changes=pending_changes,
            missing_kinds=snapshot.missing_kinds,
            hidden_services=snapshot.hidden_services,
            token_keys_problem=snapshot.token_keys_problem,
            rejected=snapshot.rejected,
            terminating=snapshot.terminating,
            finalizers=tuple(sorted(metadata.get("finalizers") or [])),
            unread=frozenset(snapshot.unread),
            blocked=blocked,
            deployment=deployment_view(deployment) if deployment else None,
            autoscaler=autoscaler_view(snapshot.child(AUTOSCALER) or {}),
            absent=_absent(snapshot, spec),
            route=route_view(snapshot.child(route_kind(spec)), snapshot.routes),
            pods=tuple(self._pod(pod, snapshot, current) for pod in snapshot.pods),
        )

    def awaits_report(self, snapshot: Snapshot, observed: StatusInput) -> bool:
        """Return True if a pod that serves the current configuration is about to report.

        While it is not known whose pods these are, their reports are not read.
        """
        return snapshot.knows_pods and any(
            view.ready and view.current and self._is_connecting(pod)
            for view, pod in zip(observed.pods, snapshot.pods, strict=True)
        )

    def _is_connecting(self, pod: Object) -> bool:
        state = self._reports.view(pod["metadata"]["uid"])
        return pod_address(pod) is not None and not state.settled

    def _pod(self, pod: Object, snapshot: Snapshot, current: str | None) -> PodView:
        """Return the view of one pod; `current` is the name of the ConfigMap that it should
        mount."""
        metadata = pod["metadata"]
        mounted = mounted_config_map(pod["spec"], snapshot.parent["metadata"]["name"])
        state = self._reports.view(metadata["uid"])
        report = state.report
        return PodView(
            name=metadata["name"],
            ready=is_ready(pod),
            current=mounted is not None and mounted == current,
            superseded=metadata["uid"] in snapshot.superseded,
            problem=pod_problem(pod, self._now()),
            starting=is_starting(pod, self._now()),
            report=report if report and mounted and _is_about(report, mounted) else None,
            unread=state.error,
        )


def _absent(snapshot: Snapshot, spec: MCPProxySpec | None) -> frozenset[str]:
    """Return the kinds of optional children that the spec requests and that do not exist."""
    requested = requested_kinds(spec) if spec is not None else set()
    return frozenset(kind.name for kind in requested if snapshot.child(kind) is None)


def _current_config_map(snapshot: Snapshot) -> str | None:
    """Return the name of the ConfigMap that pods should mount."""
    if snapshot.proxy is not None and not snapshot.suspended:
        return config_map.name(snapshot.proxy)
    deployment = snapshot.deployment
    if deployment is None:
        return None
    return mounted_config_map(
        deployment["spec"]["template"]["spec"], snapshot.parent["metadata"]["name"]
    )


def _is_about(report: PodReport, config_map_name: str) -> bool:
    """Return True if a report is about this ConfigMap, whose name ends in its hash."""
    return report.config_hash.startswith(config_map_name.rpartition("-")[2])
