"""Checks of Accepted: the spec is valid."""

from collections.abc import Sequence

from mcpproxy.api import constants
from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.messages import LISTED
from mcpproxy.status.inputs import StatusInput


def spec_is_invalid(observed: StatusInput) -> ConditionValue | None:
    """Apply if the spec is invalid."""
    if observed.rejected is None:
        return None
    kept = "; the pods continue with the last valid spec" if observed.deployment else ""
    return ConditionValue("False", reasons.INVALID_SPEC, f"{observed.rejected}{kept}")


def spec_is_valid(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases, with notes for reviewers of the spec."""
    notes = (
        _unverified_certificates(observed),
        _hidden_services(observed),
        _undeclared_fields(observed),
    )
    return ConditionValue("True", reasons.VALID, f"the spec is valid{''.join(notes)}")


def _unverified_certificates(observed: StatusInput) -> str:
    names = [
        backend.name
        for backend in (observed.spec.backends if observed.spec else ())
        if backend.tls is not None and backend.tls.insecure_skip_verify
    ]
    if not names:
        return ""
    return f"; tls.insecureSkipVerify: the proxy does not verify the certificates of {_list(names)}"


def _hidden_services(observed: StatusInput) -> str:
    """Return the namespaces that the NetworkPolicy admits as a whole, and the remedy.

    The sentence is the same for a Service that does not exist, so that it does not reveal which
    Services another namespace has.
    """
    names = sorted(f"{namespace}/{name}" for namespace, name in observed.hidden_services)
    if not names:
        return ""
    return (
        f"; networkPolicy: all pods in the namespaces of {_list(names)} are allowed; to allow only"
        f" the pods of a Service, annotate it with {constants.ANNOTATION_ALLOW_FROM}:"
        f" {observed.namespace}"
    )


def _undeclared_fields(observed: StatusInput) -> str:
    fields = ", ".join(sorted(observed.undeclared))
    note = "; the installed CRD is older than the operator and lacks {}; apply the newer CRD"
    return note.format(fields) if fields else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (" and others" if len(names) > LISTED else "")
