"""All limits, by the peer that they restrict."""

from types import ModuleType
from typing import Final

from mcpproxy.limits import (
    access,
    audit,
    backends,
    clients,
    extensions,
    http,
    instances,
    pods,
    sessions,
    tokens,
)
from mcpproxy.limits.limit import Limit


def _defined_in(module: ModuleType) -> tuple[Limit, ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, Limit))


CLIENTS: Final = (
    *_defined_in(http),
    *_defined_in(clients),
    *_defined_in(access),
    *_defined_in(audit),
)
BACKENDS: Final = (
    *_defined_in(backends),
    *_defined_in(sessions),
    *_defined_in(extensions),
    *_defined_in(tokens),
)
INSTANCES: Final = _defined_in(instances)
PODS: Final = _defined_in(pods)
OF_THE_RUNTIME: Final = (*CLIENTS, *BACKENDS, *INSTANCES)
ALL: Final = (*OF_THE_RUNTIME, *PODS)
