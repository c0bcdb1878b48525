"""Types of strings and numbers whose form Kubernetes or HTTP prescribes."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mcpproxy.api import constants
from mcpproxy.api.authority import parse_authority, parse_origin

DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=constants.DNS_LABEL)]
"""Name of a Service, which begins with a letter."""
NamespaceName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
"""Name of a namespace, which may begin with a digit."""
_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{_PART}(\.{_PART})*$")]
# Like Kubernetes, exclude `.` and names that begin with `..`, because keys become file names.
KeyName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$")
]
HeaderName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
]
HeaderValue = Annotated[str, Field(max_length=16384, pattern=r"^[^\x00\r\n]*$")]
VariableName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]
_AUTHORITY = r"((\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"


def _check_host(text: str) -> str:
    if text != "*" and parse_authority(text) is None:
        raise ValueError("must be a host, optionally with a port from 1 to 65535")
    return text


def _check_origin(text: str) -> str:
    if text != "*" and parse_origin(text.removesuffix("/")) is None:
        raise ValueError("must be a scheme and a host, optionally with a port from 1 to 65535")
    return text


AllowedHost = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=rf"^(\*|{_AUTHORITY})$"),
    AfterValidator(_check_host),
]
"""A host with or without a port, `*.` and a domain, or `*`."""
AllowedOrigin = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=rf"^(\*|[A-Za-z][A-Za-z0-9+.-]*://{_AUTHORITY}/?)$",
    ),
    AfterValidator(_check_origin),
]
"""A scheme and a host with or without a port, a scheme, `*.` and a domain, or `*`."""
Port = Annotated[int, Field(ge=1, le=65535)]

_PERCENT: Final = r"^(100|[1-9]?[0-9])%$"
_MOST_PODS: Final = 1000


def _check_int_or_percent(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(_PERCENT, value):
        return value
    if type(value) is int and 0 <= value <= _MOST_PODS:
        return value
    raise ValueError(
        f"{value!r} must be a number from 0 to {_MOST_PODS} or a percentage such as 50%"
    )


IntOrPercent = Annotated[
    int | str,
    BeforeValidator(_check_int_or_percent),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _PERCENT,
            "maxLength": 4,
            "minimum": 0,
            "maximum": _MOST_PODS,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A number of pods, or a percentage of them such as `50%`."""

BY_NAME: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
"""Schema extras of a list whose entries have unique names."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def check_names_are_unique(entries: list[N]) -> list[N]:
    """Return the entries unchanged. Raise ValueError if two entries have the same name."""
    duplicates = find_duplicates([entry.name for entry in entries])
    if duplicates:
        raise ValueError(
            f"several entries have the name {', '.join(duplicates)}; rename or remove all but one"
        )
    return entries


def find_duplicates(words: Sequence[str]) -> list[str]:
    """Return the words that occur more than once, sorted."""
    return sorted({word for word in words if words.count(word) > 1})
