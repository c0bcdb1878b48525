"""Models of `spec.monitoring`. Import them from `api.v1alpha1`."""

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.kubernetes.labels import MoreLabels

_INTERVAL: Final = r"^([1-9][0-9]{0,4})(ms|s|m|h)$"


def _check_interval(duration: str) -> str:
    if not re.fullmatch(_INTERVAL, duration):
        raise ValueError(
            f"{duration!r} is not a duration; write an integer with the unit ms, s, m or h, for"
            " example 30s"
        )
    return duration


Interval = Annotated[str, Field(max_length=8, pattern=_INTERVAL), AfterValidator(_check_interval)]
"""Prometheus duration: one whole number and its unit."""


class PodMonitor(ApiModel):
    """A PodMonitor, with which the Prometheus Operator scrapes /metrics on the pods' admin port."""

    labels: MoreLabels | None = None
    """Labels of the PodMonitor, by which a Prometheus server can select it. Default: none."""
    interval: Interval | None = None
    """Time between two scrapes, such as 30s. Default: the scrape interval of the Prometheus
    server."""
    scrape_timeout: Interval | None = None
    """Timeout of a scrape, such as 10s. Default: the scrape timeout of the Prometheus
    server."""


def check_url(url: str) -> str:
    """Return the URL unchanged. Raise ValueError if its port is out of range."""
    if urlsplit(url).port == 0:
        raise ValueError("Port out of range 1-65535")
    return url


CollectorEndpoint = Annotated[
    str,
    Field(max_length=2048, pattern=r"^https?://[^\x00-\x20\x7f/?#@]+(/[^\x00-\x20\x7f?#]*)?$"),
    AfterValidator(check_url),
]
"""URL of an OpenTelemetry collector."""


class Tracing(ApiModel):
    """Export of traces of calls. A span contains the backend, method, component and outcome of a
    call, but never its arguments. The backend continues the trace that the client started."""

    endpoint: CollectorEndpoint
    """URL of an OpenTelemetry collector that accepts OTLP over HTTP, such as
    http://otel-collector.observability.svc:4318; /v1/traces is appended."""
    sampling_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of the traces started by the proxy that is exported, in percent. If a client started
    the trace, the client's sampling decision applies. Default: 100."""


class Monitoring(ApiModel):
    """Collection of metrics, traces and profiles from the pods."""

    pod_monitor: PodMonitor | None = None
    """Lets Prometheus scrape the pods. The scraped metrics have the label mcpproxy with the name of
    the MCPProxy. Requires the kind PodMonitor of the Prometheus Operator; the condition Monitored
    reports whether that kind is missing. Default: none."""
    tracing: Tracing | None = None
    """Exports traces of calls. Default: none; calls are not traced."""
    profiling: Literal["Enabled", "Disabled"] | None = None
    """Enabled serves profiles on the admin port: GET /profile?seconds=10 from the same pod returns
    where the process spends its time, as folded stacks. Default: Disabled."""
