"""Model of `spec.extensions`. Import it from `api.v1alpha1`."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mcpproxy.api.base import ApiModel
from mcpproxy.api.kubernetes.scalars import find_duplicates

_PART: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"

ExtensionName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=rf"^({_PART}/)?{_PART}$")
]
"""Identifier of an extension, such as io.modelcontextprotocol/tasks."""


def _check_extensions_are_unique(extensions: list[str]) -> list[str]:
    if duplicates := find_duplicates(extensions):
        raise ValueError(f"{', '.join(duplicates)} is listed twice; remove one of the two")
    return extensions


class Extensions(ApiModel):
    """MCP extensions that pass between clients and backends."""

    deny: (
        Annotated[
            list[ExtensionName],
            Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
            AfterValidator(_check_extensions_are_unique),
        ]
        | None
    ) = None
    """Extensions that are neither advertised to clients and backends nor routed, such as
    io.modelcontextprotocol/tasks. Default: none."""
