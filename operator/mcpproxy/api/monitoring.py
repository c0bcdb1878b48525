"""How metrics of the pods are collected: import these models from `api.v1alpha1`."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mcpproxy.api.model import ApiModel
from mcpproxy.api.selectors import MoreLabels

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


class Monitoring(ApiModel):
    """How metrics of the pods are collected."""

    pod_monitor: PodMonitor | None = None
    """Lets Prometheus scrape the pods. Needs the kind PodMonitor of the Prometheus operator; the
    condition Monitored says when it is not there. Default: none."""
