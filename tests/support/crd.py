"""The schema of the CRD, which takes a third of a second to make."""

import functools
from typing import Any

from mcpproxy.api.crd import definition


@functools.cache
def version() -> dict[str, Any]:
    """The only version in the CRD; tests share it and must not change it."""
    (result,) = definition.definition()["spec"]["versions"]
    assert isinstance(result, dict)
    return result


def spec_schema() -> dict[str, Any]:
    """The schema of the spec."""
    result: dict[str, Any] = version()["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return result
