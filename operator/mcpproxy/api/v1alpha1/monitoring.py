"""How metrics and traces of the pods are collected: import these models from `api.v1alpha1`."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.kubernetes.labels import MoreLabels

_INTERVAL: Final = r"^([1-9][0-9]{0,4})(ms|s|m|h)$"


def _prometheus(duration: str) -> str:
    if not re.fullmatch(_INTERVAL, duration):
        raise ValueError(f"{duration!r} is not a whole number of ms, s, m or h, such as 30s")
    return duration


Interval = Annotated[str, Field(max_length=8, pattern=_INTERVAL), AfterValidator(_prometheus)]
"""A duration as Prometheus has it: one whole number and its unit."""


class PodMonitor(ApiModel):
    """A PodMonitor, by which the Prometheus operator scrapes /metrics of the pods' admin port."""

    labels: MoreLabels | None = None
    """Labels of the PodMonitor, by which a Prometheus may choose it. Default: none."""
    interval: Interval | None = None
    """Time between two scrapes, such as 30s. Default: that of the Prometheus."""
    scrape_timeout: Interval | None = None
    """How long a scrape may last, such as 10s. Default: that of the Prometheus."""


def _address(url: str) -> str:
    if urlsplit(url).port == 0:
        raise ValueError("Port out of range 1-65535")
    return url


class Tracing(ApiModel):
    """Where traces of calls are sent to. A span tells backend, method, component and outcome, never
    arguments; the trace goes on with the backend, as clients began it."""

    endpoint: Annotated[
        str,
        Field(max_length=2048, pattern=r"^https?://[^\x00-\x20\x7f/?#@]+(/[^\x00-\x20\x7f?#]*)?$"),
        AfterValidator(_address),
    ]
    """Address of an OpenTelemetry collector that takes OTLP over HTTP, such as
    http://otel-collector.observability.svc:4318; /v1/traces is added to it."""
    sampling_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many percent of the traces that begin here are sent; where a client has begun one, it
    decides.
    Default: 100."""


class Monitoring(ApiModel):
    """How metrics and traces of the pods are collected."""

    pod_monitor: PodMonitor | None = None
    """Lets Prometheus scrape the pods; what is scraped bears the label mcpproxy with the name of
    the MCPProxy. Needs the kind PodMonitor of the Prometheus operator; the condition Monitored says
    when it is not there. Default: none."""
    tracing: Tracing | None = None
    """Sends traces of calls. Default: none, so that no call is traced."""
