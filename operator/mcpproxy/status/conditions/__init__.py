"""The conditions of an MCPProxy: one ordered table of named checks. Pure.

Each check is a function of the `StatusInput`. For each condition, the first check that applies
decides; a condition that no check decides is absent.
"""

from collections.abc import Mapping
from typing import Final

from mcpproxy.status import reasons
from mcpproxy.status.conditions import accepted, available, backends, catalog, optional, progress
from mcpproxy.status.conditions import ready as readiness
from mcpproxy.status.conditions.access import authentication, authorization, exposed, limits
from mcpproxy.status.conditions.condition import Check, ConditionValue, decide
from mcpproxy.status.inputs import StatusInput

CHECKS: Final[Mapping[str, tuple[Check, ...]]] = {
    reasons.ACCEPTED: (
        accepted.spec_is_invalid,
        accepted.spec_is_valid,
    ),
    reasons.AVAILABLE: (
        available.pods_are_unreadable,
        available.deployment_is_blocked,
        available.no_spec_was_valid,
        available.creation_is_suspended,
        available.deployment_is_missing,
        available.deployment_is_scaled_to_zero,
        available.previous_pods_serve,
        available.deployment_has_failed,
        available.no_pod_is_ready,
        available.current_pods_serve,
    ),
    reasons.BACKENDS_HEALTHY: (
        backends.no_pod_is_ready,
        backends.backends_are_unhealthy,
        backends.backends_are_rate_limited,
        backends.backends_are_degraded,
        backends.backends_are_unknown,
        backends.pods_do_not_report,
        backends.pods_differ,
        backends.all_backends_are_healthy,
    ),
    reasons.READY: (
        readiness.mcpproxy_is_deleted,
        readiness.spec_is_invalid,
        readiness.children_are_blocked,
        available.pods_are_unreadable,
        available.deployment_is_blocked,
        available.creation_is_suspended,
        available.deployment_is_missing,
        readiness.no_pods_are_requested,
        available.deployment_has_failed,
        available.no_pod_is_ready,
        readiness.required_backends_are_unhealthy,
        readiness.required_backends_are_unknown,
        readiness.most_pods_do_not_report,
        readiness.proxy_serves,
    ),
    reasons.RECONCILING: (
        progress.mcpproxy_is_deleted,
        progress.reconciliation_is_stalled,
        progress.children_are_blocked,
        progress.changes_are_suspended,
        progress.deployment_is_missing,
        progress.rollout_is_complete,
        progress.replicas_were_set_elsewhere,
        progress.deployment_is_rolling_out,
        progress.deployment_is_scaling,
    ),
    reasons.STALLED: (
        progress.deletion_hides_stalls,
        *progress.STALLS,
    ),
    reasons.SUSPENDED: (optional.mcpproxy_is_suspended,),
    reasons.AUTOSCALED: (
        optional.autoscaling_is_not_requested,
        optional.autoscaler_is_absent,
        optional.autoscaler_is_active,
        optional.autoscaler_is_unknown,
        optional.autoscaler_fails,
    ),
    reasons.MONITORED: (
        optional.monitoring_is_not_requested,
        optional.pod_monitor_is_not_installed,
        optional.pod_monitor_is_absent,
        optional.pod_monitor_exists,
    ),
    reasons.CATALOG_DRIFT: (
        catalog.no_catalog_is_approved,
        catalog.no_pod_has_reported,
        catalog.catalog_differs,
        catalog.catalog_is_unknown,
        catalog.pods_do_not_report,
        catalog.catalog_is_approved,
    ),
    reasons.RULES_UNUSED: (
        authorization.no_rules_exist,
        authorization.catalog_is_unknown,
        authorization.rules_cover_nothing,
        authorization.rules_cover_components,
    ),
    reasons.LIMITS_ENFORCED: (
        limits.no_limits_exist,
        limits.no_pod_reports_limits,
        limits.calls_are_not_counted_together,
        limits.rules_limit_nothing,
        limits.limits_are_enforced,
    ),
    reasons.AUTHENTICATION_READY: (
        authentication.authentication_is_not_requested,
        authentication.keys_are_unavailable,
        authentication.keys_are_not_read,
        authentication.no_pod_has_reported,
        authentication.keys_are_awaited,
        authentication.pods_do_not_report,
        authentication.keys_are_known,
    ),
    reasons.EXPOSED: (
        exposed.exposure_is_not_requested,
        exposed.http_route_is_not_installed,
        exposed.route_is_absent,
        exposed.public_url_is_taken,
        exposed.route_is_not_accepted,
        exposed.controller_has_not_reported,
        exposed.route_is_served,
    ),
}
"""Checks by type of condition, in the order of `status.conditions`."""


def decide_conditions(observed: StatusInput) -> dict[str, ConditionValue]:
    """Return the values of the conditions that the MCPProxy has, in their order."""
    decided = {type_: decide(checks, observed) for type_, checks in CHECKS.items()}
    return {type_: value for type_, value in decided.items() if value is not None}
