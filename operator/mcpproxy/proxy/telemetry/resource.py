"""The OpenTelemetry resource that spans and log records of a proxy describe."""

from opentelemetry.sdk.resources import Resource


def build_resource(name: str, version: str) -> Resource:
    """Return the resource of the proxy `name`; `version` is that of the program."""
    return Resource.create(
        {"service.name": "mcpproxy", "service.version": version, "mcpproxy.name": name}
    )
