"""The error of a call beyond a limit."""

import math
from typing import Final

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, RpcError

RETRY_SOON: Final = 1.0
"""Seconds after which a call may be tried again if nothing tells when it would be admitted."""


class LimitExceeded(RpcError):
    """A call that a rule of `spec.limits` does not admit now."""

    def __init__(self, rule: str, why: str, wait: float, client: ClientIdentity) -> None:
        """`wait` is the number of seconds after which the call may be admitted."""
        milliseconds = max(math.ceil(wait * 1000), 1)
        shown = f"{math.ceil(wait)} s" if wait >= 1 else f"{milliseconds} ms"
        super().__init__(
            UNAVAILABLE,
            f"rule {rule} of spec.limits {why}; try again in {shown}",
            {"limit": rule, "retryAfterMs": milliseconds},
        )
        self.rule = rule
        self.client = client
        self.retry_after = max(math.ceil(wait), 1)
        """Whole seconds, as HTTP has them."""
