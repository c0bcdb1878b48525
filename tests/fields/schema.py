"""The fields of an MCPProxy's spec, and who heeds them."""

from typing import Final

from mcpproxy.api.manifest import RUNTIME_FIELDS
from tests.samples.test_samples import fields
from tests.support.crd import spec_schema

_OF_THE_RUNTIME: Final = (
    *(f".{name}" for name in RUNTIME_FIELDS),
    ".monitoring.profiling",
    ".monitoring.tracing",
)
_OF_THE_OPERATOR: Final = {
    ".backends[].optional",
    ".catalog.approvedHash",
    ".backends[].auth.serviceAccount.audience",
    ".backends[].auth.tokenExchange.actor.serviceAccount.audience",
    ".backends[].auth.passthrough",
    ".authentication.jwt[].insecureHttp",
}
"""Fields that pods may mount and only the operator uses. The last two permit requests of others;
the two before them are audiences of tokens that the kubelet mounts."""


def leaves() -> set[str]:
    """The fields that have none below them."""
    every = set(fields(spec_schema()))
    return {
        path for path in every if not any(o.startswith((f"{path}.", f"{path}[]")) for o in every)
    }


def is_the_runtimes(path: str) -> bool:
    """Return True if the pods implement this field, False if the operator does."""
    below = any(path == top or path.startswith((f"{top}.", f"{top}[]")) for top in _OF_THE_RUNTIME)
    return below and path not in _OF_THE_OPERATOR


def parts(path: str) -> list[str]:
    """`.a[].b` in parts: `a`, `[]`, `b`."""
    return path.removeprefix(".").replace("[]", ".[]").split(".")


def is_required(path: str) -> bool:
    """Return True if the parent of this field requires it."""
    *holders, last = parts(path)
    schema = spec_schema()
    for part in holders:
        schema = schema["items"] if part == "[]" else schema["properties"][part]
    return last in schema.get("required", ())
