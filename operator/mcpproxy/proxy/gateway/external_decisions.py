"""Decisions of an external service, such as the Open Policy Agent, on calls that the rules allow.

No decision is cached: the service may depend on anything, such as the time of day.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.limits.access import (
    EXTERNAL_ANSWER,
    EXTERNAL_DECISIONS,
    EXTERNAL_QUESTION,
    EXTERNAL_TURNS,
)
from mcpproxy.proxy.authorization.call_arguments import read_params
from mcpproxy.proxy.core.access import AccessDenied
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.fair_shares import FairShares, Holder
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.errors import HttpClientError
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, UNAVAILABLE, Message, RpcError

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1.access.authorization import ExternalDecision

DEFAULT_TIMEOUT: Final = "1s"
log = logging.getLogger("mcpproxy.authorization")
_HEADERS: Final = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
)


_REFUSALS: Final = frozenset({400, 413, 422, 431})
"""Statuses with which a service refuses a request because of what it contains."""


class NoDecision(Exception):
    """The service gave no decision."""


class RefusedByService(Exception):
    """The request prevents the decision itself: by its content, or because of other requests of
    its caller."""


class ExternalDecisions:
    """Client of the service of `spec.authorization.external`."""

    def __init__(
        self,
        spec: "ExternalDecision",
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> None:
        """`resolve` maps hosts to the `host:port` to connect to instead."""
        self._timeout = parse_duration(spec.timeout or DEFAULT_TIMEOUT)
        self._allows_on_failure = spec.on_failure == "Allow"
        self._http = HttpClient(spec.url, self._timeout, tls, resolve)
        self._running: FairShares[int] = FairShares(EXTERNAL_DECISIONS.value)
        self._turns: WeakValueDictionary[Holder, asyncio.Semaphore] = WeakValueDictionary()
        """Turns of callers, while they have calls here. No caller may overload the service."""
        self._numbers = itertools.count(1)
        self._failing = False

    async def check(
        self, method: str, params: Message, backend: str, client: ClientIdentity
    ) -> None:
        """Raise RpcError unless the service allows a request with these downstream params."""
        try:
            question = _encode_question(method, params, backend, client)
        except RpcError as error:
            raise AccessDenied.like(error, client, backend) from None
        if not self._running.admits(client.holder):
            EXTERNAL_DECISIONS.record()
            why = "too many calls wait for spec.authorization.external; try again later"
            raise AccessDenied(client, UNAVAILABLE, why, backend=backend)
        try:
            allowed = await self._decide(question, client)
        except RefusedByService:
            # A caller must not be able to prevent decisions, so that onFailure allows its call.
            allowed = False
        except NoDecision as error:
            allowed = self._allows_on_failure
            if not self._failing:
                done = "allowed" if allowed else "denied"
                log.warning(
                    "spec.authorization.external gives no decision: %s; calls are %s"
                    " (spec.authorization.external.onFailure) until it does",
                    *(error, done),
                )
            self._failing = True
        else:
            self._failing = False
        if not allowed:
            raise AccessDenied(
                client,
                INVALID_PARAMS,
                "the service of spec.authorization.external does not allow this request",
                backend=backend,
            )

    async def _decide(self, question: bytes, client: ClientIdentity) -> bool:
        number = next(self._numbers)
        self._running.add(number, client.holder)
        try:
            async with self._turn(client.holder), asyncio.timeout(self._timeout):
                return await self._post(question)
        except TimeoutError:
            raise NoDecision(f"no answer within {self._timeout:g} s") from None
        except (HttpClientError, OSError, ssl.SSLError) as error:
            raise NoDecision(str(error)) from None
        finally:
            self._running.discard(number)

    @contextlib.asynccontextmanager
    async def _turn(self, holder: Holder) -> AsyncIterator[None]:
        """Wait until few other calls of the caller are decided. Raise RefusedByService."""
        turns = self._turns.get(holder)
        if turns is None:
            turns = self._turns[holder] = asyncio.Semaphore(EXTERNAL_TURNS.value)
        if turns.locked():
            EXTERNAL_TURNS.record()
        try:
            async with asyncio.timeout(self._timeout):
                await turns.acquire()
        except TimeoutError:
            raise RefusedByService from None
        try:
            yield
        finally:
            turns.release()

    async def _post(self, body: bytes) -> bool:
        response = await self._http.request(b"POST", _HEADERS, body)
        try:
            if response.status in _REFUSALS:
                raise RefusedByService
            if response.status != 200:
                raise NoDecision(f"HTTP status {response.status}")
            answer = b""
            while chunk := await response.next_chunk():
                answer += chunk
                if len(answer) > EXTERNAL_ANSWER.value:
                    EXTERNAL_ANSWER.record()
                    raise NoDecision(f"the answer has more than {EXTERNAL_ANSWER.value} bytes")
        finally:
            response.close()
        return _parse_decision(answer)

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _parse_decision(answer: bytes) -> bool:
    """Return the decision. An undefined result denies the call. Raise NoDecision."""
    decoded: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        decoded = json.loads(answer)
    if not isinstance(decoded, dict):
        raise NoDecision("the answer is not a JSON object")
    result = decoded.get("result", False)
    if isinstance(result, dict):
        result = result.get("allow", False)
    if not isinstance(result, bool):
        raise NoDecision("the result is neither a boolean nor an object with allow")
    return result


def _encode_question(method: str, params: Message, backend: str, client: ClientIdentity) -> bytes:
    """Return the body of a request to the service. Raise RpcError for ambiguous params."""
    described = {
        "method": method,
        "backend": backend,
        "params": read_params(params),
        "caller": _caller(client.identity),
    }
    try:
        question = json.dumps({"input": described}).encode()
    except RecursionError:
        raise RpcError(INVALID_PARAMS, "params are nested too deeply; nest them less") from None
    if len(question) > EXTERNAL_QUESTION.value:
        EXTERNAL_QUESTION.record()
        most = EXTERNAL_QUESTION.value
        why = f"params are too large for spec.authorization.external; its input has {most} bytes"
        raise RpcError(INVALID_PARAMS, f"{why} at most")
    return question


def _caller(identity: Identity) -> dict[str, Any]:
    caller: dict[str, Any] = {
        "method": identity.method,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "client": identity.client,
        "groups": sorted(identity.groups),
        "scopes": sorted(identity.scopes),
        "apiKey": identity.api_key,
        "actor": identity.actor,
        "claims": dict(identity.claims),
    }
    if identity.service_account is not None:
        namespace, name = identity.service_account
        caller["serviceAccount"] = {"namespace": namespace, "name": name}
    return {name: value for name, value in caller.items() if value not in ("", [], {})}
