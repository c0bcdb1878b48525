"""Remedies for backends that cannot be used on this machine, for the person who started a command.

A pod's remedies are in docs/troubleshooting.md: outside of a cluster, Secrets are files, and
Services have no addresses.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mcpproxy.api.v1alpha1 import BackendSpec
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.proxy.core.reports import BackendReport

_HEALTHY: Final = "Healthy"
_LOOPBACK: Final = ("//127.", "//localhost", "//[::1]")


def with_remedies(
    reports: Iterable[BackendReport | BackendStatus], specs: Iterable[BackendSpec]
) -> list[BackendStatus]:
    """Return the statuses with a remedy at the end of each message, where one is known."""
    statuses = (BackendStatus.model_validate(report.to_manifest()) for report in reports)
    by_name: Mapping[str, BackendSpec] = {spec.name: spec for spec in specs}
    return [_with_remedy(status, by_name.get(status.name)) for status in statuses]


def _with_remedy(status: BackendStatus, spec: BackendSpec | None) -> BackendStatus:
    remedy = None if spec is None or status.state == _HEALTHY else find_remedy(status.reason, spec)
    if remedy is None or status.message is None:
        return status
    return status.model_copy(update={"message": f"{status.message}; {remedy}"})


def find_remedy(reason: str | None, spec: BackendSpec) -> str | None:
    """Return what to do on this machine about a reason for which a backend cannot be used."""
    if reason == "ValueMissing":
        return "outside of a cluster, write it to DIR/secret/NAME/KEY and set --values DIR"
    if reason == "Unauthorized":
        return "set a header with credentials, such as -H 'Authorization: Bearer TOKEN'"
    if reason != "Unreachable" or spec.stdio is not None:
        return None
    if spec.service is not None:
        name = spec.service.name
        return f"outside of a cluster, set --resolve {name}=HOST:PORT"
    url = spec.url or ""
    if url.startswith("https://") and any(host in url for host in _LOOPBACK):
        return "start the server, or write http:// if it has no TLS"
    return "start the server, or correct the URL"
