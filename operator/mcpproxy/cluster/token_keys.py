"""The keys of the cluster's ServiceAccount tokens, as the API server publishes them.

ServiceAccounts may read them: Kubernetes binds the role system:service-account-issuer-discovery to
all of them.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError, Forbidden, NotFound
from mcpproxy.desired import TokenKeys
from mcpproxy.limits.pods import TOKEN_KEYS

METADATA: Final = "/.well-known/openid-configuration"
KEY_SET: Final = "/openid/v1/jwks"
FRESH: Final = 30.0
"""Seconds for which the keys are not read again."""
_FORBIDDEN: Final = (
    "the operator must not read the keys of ServiceAccount tokens; bind the ClusterRole"
    " system:service-account-issuer-discovery to its ServiceAccount"
)
_MISSING: Final = "the API server does not publish the keys of ServiceAccount tokens"
_MALFORMED: Final = "the API server publishes keys of ServiceAccount tokens that can't be read"


class TokenKeyReader:
    """Reader of the keys, for all MCPProxies."""

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self._known: TokenKeys | None = None
        self._problem = ""
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> tuple[TokenKeys | None, str]:
        """Return the newest known keys, and why they could not be read lately."""
        async with self._reading:
            now = self._now()
            if self._read_at is None or (now - self._read_at).total_seconds() >= FRESH:
                self._read_at = now
                await self._refresh()
            return self._known, self._problem

    async def _refresh(self) -> None:
        try:
            metadata, keys = await asyncio.gather(
                self._cluster.document(METADATA), self._cluster.document(KEY_SET)
            )
            self._known, self._problem = _token_keys(metadata, keys), ""
        except Forbidden:
            self._problem = _FORBIDDEN
        except NotFound:
            self._problem = _MISSING
        except ClusterError as error:
            self._problem = f"the keys of ServiceAccount tokens were not read: {error}"
        except (KeyError, TypeError, ValueError):
            self._problem = _MALFORMED


def _token_keys(metadata: Any, keys: Any) -> TokenKeys:
    """Return the keys in an order that does not depend on the API server that answered.

    Raise KeyError, TypeError or ValueError for malformed documents.
    """
    entries = sorted({json_text(entry, sort_keys=True) for entry in keys["keys"]})
    key_set = f'{{"keys":[{",".join(entries)}]}}'
    issuer = metadata["issuer"]
    if not isinstance(issuer, str) or not issuer or not entries:
        raise ValueError("no issuer or no keys")
    if len(key_set) > TOKEN_KEYS.value:
        TOKEN_KEYS.record()
        raise ValueError("too many keys")
    return TokenKeys(issuer, key_set)
