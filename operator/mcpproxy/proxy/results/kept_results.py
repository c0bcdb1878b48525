"""Results of tools that are too large to send, which clients read as resources instead.

The URI of a kept result is a sealed token. It names the process that keeps the result, so that any
instance finds it, and the principal that may read it.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import KEPT_RESULT_BYTES, KEPT_RESULT_TIME, KEPT_RESULTS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.core.translation.era_translation import to_modern_result
from mcpproxy.proxy.core.translation.request_names import unknown_component_error
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import RESULTS
from mcpproxy.proxy.results.linked_content import contents_of, linked_result
from mcpproxy.proxy.results.result_limit import READ_RESOURCE

SCHEME: Final = "mcpproxy-result:"
PURPOSE: Final = "result"


@dataclass(slots=True)
class KeptResult:
    """One result, as a resource."""

    contents: bytes
    """The result of resources/read, as JSON of the legacy era."""
    expiry: asyncio.TimerHandle


class KeptResults:
    """Results that one process keeps for their clients."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._owner = ""
        self._kept: dict[int, KeptResult] = {}
        self._shares: FairShares[int] = FairShares(KEPT_RESULTS.value)
        """Holders of the kept results."""
        self._size = 0
        """Bytes of all kept results."""
        self._numbers = itertools.count(1)

    def serve_as(self, owner: str) -> None:
        """Let other instances find the results of this process under the identifier `owner`."""
        self._owner = owner

    def link(
        self, backend: str, client: ClientIdentity, limit: int, result: dict[str, Any], size: int
    ) -> Raw | None:
        """Keep the result of a tool; return a result of at most about `limit` bytes that links to
        it.

        `size` is the number of bytes of the result. Return None if it is too large to keep.
        """
        if size > KEPT_RESULT_BYTES.value // 8:
            return None
        number = next(self._numbers)
        token = {"n": number, "o": self._owner, "p": client.principal, "b": backend}
        uri = SCHEME + self._sealer.seal(PURPOSE, token)
        contents = jsonrpc.encode({"contents": contents_of(result, uri)})
        self._keep(number, contents, client)
        return linked_result(result, uri, size, limit, client.revision)

    def _keep(self, number: int, contents: bytes, client: ClientIdentity) -> None:
        if self._shares.is_full:
            KEPT_RESULTS.record()
            self._make_room()
        while self._kept and self._size + len(contents) > KEPT_RESULT_BYTES.value:
            KEPT_RESULT_BYTES.record()
            self._make_room()
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(KEPT_RESULT_TIME.value, self._drop, number)
        self._kept[number] = KeptResult(contents, expiry)
        self._shares.add(number, client.holder)
        self._size += len(contents)

    def _make_room(self) -> None:
        oldest = self._shares.choose()
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, number: int) -> None:
        kept = self._kept.pop(number, None)
        self._shares.discard(number)
        if kept is not None:
            kept.expiry.cancel()
            self._size -= len(kept.contents)

    def reads(self, method: str, target: str) -> bool:
        """Return True if a request reads a kept result; `target` is the URI in it."""
        return method == READ_RESOURCE and target.startswith(SCHEME)

    def read(self, uri: str, client: ClientIdentity) -> Message:
        """Return the response with a kept result, which has no id yet. Raise RpcError."""
        token = self._token(uri)
        kept = None
        if token is not None and (token["o"], token["p"]) == (self._owner, client.principal):
            kept = self._kept.get(token["n"])
        if token is None or kept is None:
            # The error does not reveal that the result belongs to another principal.
            raise unknown_component_error(RESULTS, uri)
        self._shares.touch(token["n"])
        result = Raw(kept.contents)
        if client.modern:
            result = to_modern_result(READ_RESOURCE, result)
        return {"jsonrpc": jsonrpc.VERSION, "result": result}

    def backend_of(self, uri: str) -> str | None:
        """Return the backend whose result has this URI; None if the URI is not that of a result."""
        token = self._token(uri)
        return None if token is None else token["b"]

    def owner_of(self, uri: str) -> str | None:
        """Return the instance that keeps the result with this URI; None if it is not a result's."""
        token = self._token(uri)
        return None if token is None else token["o"]

    def _token(self, uri: str) -> dict[str, Any] | None:
        if not uri.startswith(SCHEME):
            return None
        try:
            token: dict[str, Any] = self._sealer.open(PURPOSE, uri.removeprefix(SCHEME))
        except InvalidToken:
            return None
        return token

    def close(self) -> None:
        """Forget all results."""
        for number in list(self._kept):
            self._drop(number)
