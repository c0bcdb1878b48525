"""Model of `spec.audit`. Import it from `api.v1alpha1`."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.scalars import find_duplicates
from mcpproxy.api.v1alpha1.monitoring import CollectorEndpoint

AuditedArguments = Literal["None", "Digest", "Full"]
WhenFull = Literal["Drop", "Refuse"]

_PATH: Final = r"^([^\x00-\x20.]+\.)*([^\x00-\x20.*][^\x00-\x20.]*|\*)$"
_ONLY_WITH_FULL: Final = (
    "audit.redact applies to recorded arguments: set arguments to Full, or remove redact"
)


def _check_path(path: str) -> str:
    if not re.fullmatch(_PATH, path):
        raise ValueError(f"{path!r} is not a path that ends with a key or *, such as **.token")
    return path


RedactedPath = Annotated[
    str, Field(min_length=1, max_length=256, pattern=_PATH), AfterValidator(_check_path)
]


def _check_paths_are_unique(paths: list[str]) -> list[str]:
    if duplicates := find_duplicates(paths):
        raise ValueError(f"{', '.join(duplicates)} is listed twice, remove one of them")
    return paths


class AuditExport(ApiModel):
    """Export of audit records to an OpenTelemetry collector."""

    endpoint: CollectorEndpoint
    """URL of an OpenTelemetry collector that accepts OTLP over HTTP, such as
    http://otel-collector.observability.svc:4318; /v1/logs is appended."""


class Audit(ApiModel):
    """Audit log: one record for each call, each denied call and each failed authentication. A
    record names the caller, the component, the rule and the outcome; it never contains a token or a
    result."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.redact) || (has(self.arguments) && self.arguments == 'Full')",
                _ONLY_WITH_FULL,
                ".redact",
            )
        )
    )
    otlp: AuditExport | None = None
    """Exports the records to an OpenTelemetry collector. Default: none; each record is a line of
    JSON on the standard output of the pod."""
    arguments: AuditedArguments | None = None
    """Arguments in the records. None omits them. Digest records the SHA-256 of their canonical
    JSON. Full records the arguments; those of more than 64 KiB are replaced by their digest.
    Default: Digest."""
    redact: (
        Annotated[
            list[RedactedPath],
            Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
            AfterValidator(_check_paths_are_unique),
        ]
        | None
    ) = None
    """Members of the arguments whose values are replaced by "[redacted]", as paths of keys joined
    with dots: * stands for one key or index, ** for any number of them. Case does not matter.
    Requires arguments: Full. Default: none."""
    lists: bool | None = None
    """true also records requests for lists. Default: false."""
    on_full: WhenFull | None = None
    """Handling of calls while records cannot be written as fast as calls arrive. Drop serves
    the calls without a record and counts them in mcpproxy_audit_dropped_total. Refuse rejects the
    calls with a JSON-RPC error until records can be written again. Default: Drop."""

    @model_validator(mode="after")
    def _check_redaction(self) -> Self:
        if self.redact is not None and self.arguments != "Full":
            raise ValueError(f"redact: {_ONLY_WITH_FULL}")
        return self
