"""Ids of tasks, as backends know them and as clients know them.

A backend chooses the ids of its tasks, and nothing in them says whose they are. Where there are
several backends, clients get sealed ids that carry the backend and the client's principal, so that
any instance can route what is asked about a task, and only for whoever created it.
"""

from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.limits.extensions import TASK_ID
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer

PURPOSE: Final = "task"


@dataclass(eq=False, slots=True)
class TaskIds:
    """The mapping of one backend; without a sealer, ids stay as they are."""

    backend: str = ""
    sealer: Sealer | None = None

    def outward(self, own: str, principal: str) -> str:
        """The id by which a client of this principal knows a task. Raises ProtocolError."""
        if self.sealer is None:
            return own
        if len(own) > TASK_ID.value:
            TASK_ID.record()
            raise ProtocolError(f"the id of its task has more than {TASK_ID.value} characters")
        return self.sealer.seal_same(PURPOSE, [self.backend, own, principal])

    def inward(self, shown: str) -> str:
        """The backend's own id; what is none of its sealed ids stays as it is."""
        if self.sealer is None:
            return shown
        found = decode_task_id(self.sealer, shown)
        return shown if found is None or found[0] != self.backend else found[1]


def decode_task_id(sealer: Sealer, shown: str) -> tuple[str, str, str] | None:
    """The backend, its own id and the principal of a sealed id; None for anything else."""
    try:
        backend, own, principal = sealer.open(PURPOSE, shown)
    except InvalidToken:
        return None
    return _text(backend), _text(own), _text(principal)


def _text(found: Any) -> str:
    assert isinstance(found, str)
    return found
