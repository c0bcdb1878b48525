"""Mapping of task ids between backends (upstream) and clients (downstream).

A backend chooses the ids of its tasks, and they do not identify the backend. If there are several
backends, or if principals are known, clients get sealed ids with the backend and the client's
principal. Any instance can then route requests about a task, and only for the principal that
created it.
"""

from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.limits.extensions import TASK_ID
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer

PURPOSE: Final = "task"


@dataclass(frozen=True, eq=False, slots=True)
class TaskIds:
    """Mapping of one backend; without a sealer, ids stay unchanged."""

    backend: str = ""
    sealer: Sealer | None = None

    def to_downstream(self, upstream_id: str, principal: str) -> str:
        """Return the downstream id of a task for this principal. Raise ProtocolError."""
        if self.sealer is None:
            return upstream_id
        if len(upstream_id) > TASK_ID.value:
            TASK_ID.record()
            raise ProtocolError(f"the task id has more than {TASK_ID.value} characters")
        return self.sealer.seal_same(PURPOSE, [self.backend, upstream_id, principal])

    def to_upstream(self, downstream_id: str) -> str:
        """Return the upstream id. An id that is not a sealed id of this backend stays unchanged."""
        if self.sealer is None:
            return downstream_id
        decoded = decode_task_id(self.sealer, downstream_id)
        return downstream_id if decoded is None or decoded[0] != self.backend else decoded[1]


def decode_task_id(sealer: Sealer, downstream_id: str) -> tuple[str, str, str] | None:
    """Return the backend, the upstream id and the principal of a sealed id; None for other ids."""
    try:
        backend, upstream_id, principal = sealer.open(PURPOSE, downstream_id)
    except InvalidToken:
        return None
    return _text(backend), _text(upstream_id), _text(principal)


def _text(value: Any) -> str:
    assert isinstance(value, str)
    return value
