"""Checks of AuthenticationReady: pods have the keys that verify credentials of clients."""

from collections.abc import Sequence
from typing import Literal

from mcpproxy.api.v1alpha1.status import IssuerStatus
from mcpproxy.report_aggregation import merge_issuers
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.conditions.messages import LISTED
from mcpproxy.status.disagreement import missing_reports
from mcpproxy.status.inputs import StatusInput


def authentication_is_not_requested(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no `authentication`."""
    return ABSENT if observed.spec is None or observed.spec.authentication is None else None


def no_pod_has_reported(observed: StatusInput) -> ConditionValue | None:
    """Apply without any report on keys, such as while all pods run an earlier configuration."""
    if _issuers(observed):
        return None
    message = "no ready pod has reported on the keys that verify credentials"
    return ConditionValue("Unknown", reasons.NOT_REPORTED, message)


def keys_are_unavailable(observed: StatusInput) -> ConditionValue | None:
    """Apply if a pod has no key of an issuer, so that its tokens are refused."""
    lacking = [state for state in _issuers(observed) if state.message and not state.keys]
    if not lacking:
        return None
    return ConditionValue("False", reasons.KEYS_UNAVAILABLE, _describe(observed, lacking))


def keys_are_not_read(observed: StatusInput) -> ConditionValue | None:
    """Apply if keys could not be read lately, and pods use earlier ones."""
    troubled = [state for state in _issuers(observed) if state.message]
    parts = [observed.token_keys_problem, _describe(observed, troubled)]
    if not any(parts):
        return None
    return ConditionValue("False", reasons.KEYS_NOT_READ, "; ".join(filter(None, parts)))


def keys_are_awaited(observed: StatusInput) -> ConditionValue | None:
    """Apply if a pod has not read the keys of an issuer yet."""
    awaited = [state.issuer for state in _issuers(observed) if not state.keys]
    if not awaited:
        return None
    message = f"the keys of {_list(awaited)} have not been read yet"
    return ConditionValue("Unknown", reasons.KEYS_UNKNOWN, message)


def pods_do_not_report(observed: StatusInput) -> ConditionValue | None:
    """Apply if reports of serving pods are missing."""
    missing = missing_reports(observed)
    if not missing:
        return None
    message = f"{missing} of {len(observed.serving)} pods have not reported"
    return ConditionValue("Unknown", reasons.NOT_REPORTED, message)


def keys_are_known(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    counts = [f"{state.issuer} ({state.keys})" for state in _issuers(observed)]
    return ConditionValue("True", reasons.KEYS_KNOWN, f"keys are known of {_list(counts)}")


def _issuers(observed: StatusInput) -> list[IssuerStatus]:
    return merge_issuers([report.authentication for report in observed.reports]) or []


def _describe(observed: StatusInput, states: Sequence[IssuerStatus]) -> str:
    return _list([_describe_issuer(observed, state) for state in states])


def _describe_issuer(observed: StatusInput, state: IssuerStatus) -> str:
    """Return an issuer's problem, how many pods have it, and the age of the keys in use."""
    reports = [report.authentication or [] for report in observed.reports]
    affected = sum(
        any(item.issuer == state.issuer and item.message for item in report) for report in reports
    )
    who = "" if affected == len(reports) else f"{affected} of {len(reports)} pods: "
    kept = f"; keys of {state.keys_from} are used for up to a day" if state.keys_from else ""
    return f"{who}{state.issuer}: {state.message}{kept}"


def _list(parts: Sequence[str]) -> str:
    return "; ".join(parts[:LISTED]) + ("; and others" if len(parts) > LISTED else "")
