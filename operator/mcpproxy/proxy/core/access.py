"""Permission of a client to list, use and call components, and the errors without it.

Lists and calls take the same object, so that they agree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, RpcError
from mcpproxy.proxy.protocol.kinds import ComponentKind

if TYPE_CHECKING:
    # It refers to `Access`.
    from mcpproxy.proxy.core.exchange import ClientIdentity


class AccessDenied(RpcError):
    """Refusal of a client's request by `spec.authorization`; on the wire an ordinary error."""

    def __init__(
        self,
        client: "ClientIdentity | None",
        code: int,
        message: str,
        data: Any = None,
        backend: str = "",
    ) -> None:
        """`backend` is the one that would get the request; clients do not learn it."""
        super().__init__(code, message, data)
        self.client = client
        self.backend = backend

    @classmethod
    def like(
        cls, error: RpcError, client: "ClientIdentity | None", backend: str = ""
    ) -> "AccessDenied":
        """Return a refusal that clients cannot distinguish from this error."""
        return cls(client, error.code, str(error), error.data, backend)


class InsufficientScope(AccessDenied):
    """The request needs scopes that the client's token lacks; HTTP has a challenge for them."""

    def __init__(
        self, client: "ClientIdentity | None", scopes: tuple[str, ...], backend: str = ""
    ) -> None:
        """`scopes` are all that the request needs."""
        message = f"the token lacks a scope that this request needs: {' '.join(scopes)}"
        data = {"scopes": list(scopes)}
        super().__init__(client, INVALID_PARAMS, message, data, backend)
        self.scopes = scopes


class CallLimitExceeded(RpcError):
    """A call that a rule of `spec.limits` does not admit now."""

    def __init__(
        self, rule: str, why: str, wait: float, client: "ClientIdentity", backend: str
    ) -> None:
        """`wait` is the number of seconds after which the call may be admitted."""
        milliseconds = max(math.ceil(wait * 1000), 1)
        shown = f"{math.ceil(wait)} s" if wait >= 1 else f"{milliseconds} ms"
        super().__init__(
            UNAVAILABLE,
            f"rule {rule} of spec.limits {why}; try again in {shown}",
            {"limit": rule, "retryAfterMs": milliseconds},
        )
        self.rule = rule
        self.client, self.backend = client, backend
        self.retry_after = max(math.ceil(wait), 1)
        """Whole seconds, as HTTP has them."""


class CallCondition(Protocol):
    """Condition of a rule that each call must meet."""

    reads_claims: bool
    """True if the condition may depend on the claims of the caller."""

    def holds(self, arguments: Any, claims: Mapping[str, Any], tool: Mapping[str, Any]) -> bool:
        """Return True if a call with these arguments meets the condition."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision on the use of one component."""

    allowed: bool
    """True if every call is allowed."""
    conditions: tuple[CallCondition, ...] = ()
    """Conditions of which a call must meet one, unless `allowed`."""
    rules: tuple[str, ...] = ()
    """Names of the rules of these conditions."""
    scopes: tuple[str, ...] = ()
    """Scopes with which the client would be allowed, all of them; empty if none would help."""
    rule: str = ""
    """Name of the rule that allows every call; empty for the default and for conditions."""

    @property
    def shown(self) -> bool:
        """True if lists show the component."""
        return self.allowed or bool(self.conditions)


DENIED: Final = Verdict(allowed=False)


class Access(Protocol):
    """Permission of all clients to which the same rules apply."""

    @property
    def digest(self) -> str:
        """Digest of the rules that apply."""

    def judge(self, kind: ComponentKind, backend: str, name: str) -> Verdict:
        """Return the decision on a component, by its downstream name or URI."""

    def shows(self, kind: ComponentKind, backend: str, name: str) -> bool:
        """Return True if lists show a component."""

    def uses_tools(self, backend: str) -> bool:
        """Return True if some tool of a backend is shown."""

    def may_reach(self, backend: str) -> bool:
        """Return True if the rules allow anything of a backend, whatever it offers."""

    def has_whole(self, backend: str) -> bool:
        """Return True if the rules allow everything of a backend, whatever it offers."""
