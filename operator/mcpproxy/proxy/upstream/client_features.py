"""What of a client a backend gets to see: features can be withdrawn, or answered on the spot.

Roots, sampling and elicitation are asked for, logging and progress are told. A feature that is
withdrawn is not among the capabilities that the backend sees; one with an answer of its own is,
whatever the client declared.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.core.catalog.extensions import without
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    ROOTS_CHANGED,
    CallContext,
    ClientIdentity,
    Told,
)
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.era_bridge import MAX_ROUNDS
from mcpproxy.proxy.upstream.input_polling import collect_inputs
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

log = logging.getLogger("mcpproxy.backend")

Answer = Callable[[Message], Awaitable[Any]]
"""Takes the params of a request or notification; gives the result, as JSON, of a request."""
Send = Callable[[UpstreamRequest, CallContext], Awaitable[Message]]

ASKED: Final[Mapping[str, str]] = {
    "roots/list": "roots",
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
}
"""Server request → the client capability that allows it."""
TOLD: Final[Mapping[str, str]] = {
    "notifications/message": "logging",
    "notifications/progress": "progress",
}
DECLARED: Final[Mapping[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
}
"""How a capability is declared that is answered here."""


FAILED: Final = Raw(b'{"code":-32603,"message":"the handler of the proxy failed"}')


@dataclass(frozen=True)
class FeaturePolicy:
    """What passes between one backend and the clients."""

    withdrawn: frozenset[str] = frozenset()
    """Features that do not pass: roots, sampling, elicitation, logging, progress."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Features that are answered (or listened to) here in the client's place."""
    denied: frozenset[str] = frozenset()
    """Extensions that a client may declare without the backend seeing it."""
    presumed: bool = False
    """Whether the backend may ask for what a client never declared: its session is older."""

    @property
    def passes_all(self) -> bool:
        """Whether nothing is changed."""
        return not (self.withdrawn or self.answers or self.presumed or self.denied)

    @property
    def answers_itself(self) -> bool:
        """Whether server requests are answered here."""
        return any(feature in self.answers for feature in ASKED.values())

    def client(self, client: ClientIdentity) -> ClientIdentity:
        """The client as the backend sees it."""
        if self.passes_all:
            return client
        return replace(client, capabilities=self.capabilities(client.capabilities))

    def seen(self, declared: bytes) -> bytes | None:
        """Capabilities as the backend sees them; None where it sees no more than of a client that
        declares nothing."""
        if self.passes_all:
            return None if declared == b"{}" else declared
        seen = self.capabilities(declared)
        return None if seen == self.capabilities(b"{}") else seen

    def capabilities(self, declared: bytes) -> bytes:
        """Capabilities as the backend sees them: the client's own are not re-spelled."""
        found = _members(without(declared, self.denied))
        for feature in ASKED.values():
            if feature in self.withdrawn:
                found.pop(feature, None)
            elif feature in self.answers:
                found[feature] = Raw(jsonrpc.canonical(DECLARED[feature]))
        return jsonrpc.encode(dict(sorted(found.items())))

    def tells(self, method: str) -> bool:
        """Whether the backend hears this notification of its clients."""
        kept = self.withdrawn | self.answers.keys()
        return method != ROOTS_CHANGED or "roots" not in kept

    def caller(self, caller: CallContext) -> CallContext:
        """The client's side of an exchange as the backend sees it."""
        return caller if self.passes_all else _FilteredContext(self, caller)

    async def call(self, send: Send, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Send a request on. Raises BackendError, and RpcError of the answers."""
        if self.passes_all:
            return await send(outgoing, caller)
        seen = self.caller(caller)
        if rev.META_VERSION not in parse_meta(outgoing.params or {}):
            return await send(outgoing.having(self._unreported(outgoing.params)), seen)
        return await self._modern_call(send, outgoing, seen)

    async def _modern_call(
        self, send: Send, outgoing: UpstreamRequest, caller: CallContext
    ) -> Message:
        """A modern request says in `_meta` what the client can; questions come in the result."""
        params = self._stamped(outgoing.params or {}, caller.client)
        request_id = outgoing.id
        for round_ in range(MAX_ROUNDS):
            sent = outgoing.having(params, request_id)
            answer = await send(sent, caller)
            result = jsonrpc.decode_object(answer["result"]) if "result" in answer else {}
            asks = jsonrpc.decode_str(result.get("resultType")) == "input_required"
            if not asks or not self.answers_itself:
                self._check_questions(result if asks else {})
                return {**answer, "id": outgoing.id}
            params = {**params, **await collect_inputs(result, caller)}
            if "requestState" not in result:
                params.pop("requestState", None)
            request_id = jsonrpc.encode_raw(f"{jsonrpc.decode(outgoing.id)}-answer-{round_ + 1}")
        raise ProtocolError(f"it asked for input more than {MAX_ROUNDS} times")

    def _check_questions(self, result: Message) -> None:
        """Raises ProtocolError where a backend asks for what it was not offered."""
        for question in jsonrpc.decode_object(result.get("inputRequests", jsonrpc.EMPTY)).values():
            method = jsonrpc.decode_str(jsonrpc.decode_object(question).get("method")) or ""
            if ASKED.get(method) in self.withdrawn:
                raise ProtocolError(
                    f"it asks for {ASKED[method]}, which is not forwarded to clients"
                )

    def _unreported(self, params: Message | None) -> Message | None:
        """Params without the wish for progress, where that is withdrawn."""
        found = parse_meta(params or {})
        if params is None or "progress" not in self.withdrawn or "progressToken" not in found:
            return params
        kept = {name: raw for name, raw in found.items() if name != "progressToken"}
        return {**params, "_meta": jsonrpc.encode_raw(kept)}

    def _stamped(self, params: Message, client: ClientIdentity) -> Message:
        found = dict(parse_meta(params))
        found[rev.META_CAPABILITIES] = Raw(client.capabilities)
        if "logging" in self.withdrawn:
            found.pop(rev.META_LOG_LEVEL, None)
        stamped = {**params, "_meta": jsonrpc.encode_raw(found)}
        return self._unreported(stamped) or stamped


def _members(declared: bytes) -> Message:
    """Capabilities by their names; none where they are no object."""
    try:
        return jsonrpc.decode_object(declared)
    except RpcError:
        return {}


EVERYTHING: Final = FeaturePolicy()
"""All features pass as they are."""


class _FilteredContext:
    """A caller seen through what is forwarded."""

    def __init__(self, forwarding: FeaturePolicy, caller: CallContext) -> None:
        self.client = forwarding.client(caller.client)
        self.muted = "logging" in forwarding.withdrawn
        self.log_level = None if self.muted else caller.log_level
        self._declared = _members(caller.client.capabilities)
        self._forwarding = forwarding
        self._caller = caller

    async def notify(self, message: Message) -> None:
        feature = TOLD.get(jsonrpc.decode_str(message.get("method")) or "", "")
        if feature in self._forwarding.withdrawn:
            return
        answer = self._forwarding.answers.get(feature)
        if answer is None:
            await self._caller.notify(message)
        else:
            await self._taken(feature, answer, message)

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        feature = ASKED.get(jsonrpc.decode_str(request.get("method")) or "", "")
        answer = self._forwarding.answers.get(feature)
        if answer is not None:
            return await self._taken(feature, answer, request)
        if feature in self._forwarding.withdrawn or (feature and feature not in self._declared):
            return {"error": NOT_OFFERED}
        return await self._caller.ask(request, told)

    @staticmethod
    async def _taken(feature: str, answer: Answer, message: Message) -> Message:
        """What a handler answers; an error where it fails, whatever it raises."""
        try:
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            return {"result": jsonrpc.encode_raw(await answer(params))}
        except Exception:
            log.exception("the handler for %s failed", feature)
            return {"error": FAILED}

    async def streamed(self, retry: int | None) -> None:
        await self._caller.streamed(retry)

    async def paused(self) -> None:
        await self._caller.paused()
