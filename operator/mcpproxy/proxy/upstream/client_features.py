"""Policy for the client features that a backend may use: withdrawn, or answered by the proxy.

Roots, sampling and elicitation are server requests; logging and progress are notifications. The
backend does not see the capability of a withdrawn feature. If the proxy answers a feature, the
backend sees its capability, whatever the client declared.
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
    NotificationHandler,
)
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.era_bridge import MAX_ROUNDS
from mcpproxy.proxy.upstream.input_polling import retry_params
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

log = logging.getLogger("mcpproxy.backend")

Answer = Callable[[Message], Awaitable[Any]]
"""Handler of a request or notification: takes the params, and returns the result of a request as
JSON."""
Send = Callable[[UpstreamRequest, CallContext], Awaitable[Message]]

ASKED: Final[Mapping[str, str]] = {
    "roots/list": "roots",
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
}
"""Method of a server request → the client capability that it requires."""
TOLD: Final[Mapping[str, str]] = {
    "notifications/message": "logging",
    "notifications/progress": "progress",
}
DECLARED: Final[Mapping[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
}
"""Declaration of each capability that the proxy answers."""


FAILED: Final = Raw(b'{"code":-32603,"message":"the handler of the proxy failed"}')


@dataclass(frozen=True)
class FeaturePolicy:
    """The features that one backend may use with clients."""

    withdrawn: frozenset[str] = frozenset()
    """Features that are not forwarded: roots, sampling, elicitation, logging, progress."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Handlers of the features that the proxy answers or receives in the client's place."""
    denied: frozenset[str] = frozenset()
    """Extensions that are removed from the capabilities of clients."""
    reads_results: bool = False
    """True if the proxy reads the results, because their size is limited."""
    presumed: bool = False
    """True if the backend may use features that the client did not declare, because its session
    is older."""

    passes_all: bool = field(init=False, compare=False, repr=False)
    """True if the policy changes nothing."""

    def __post_init__(self) -> None:
        # Computed once, because every call reads it.
        changes = self.withdrawn or self.answers or self.presumed or self.denied
        object.__setattr__(self, "passes_all", not (changes or self.reads_results))

    @property
    def answers_itself(self) -> bool:
        """True if the proxy answers some server requests."""
        return any(feature in self.answers for feature in ASKED.values())

    def client(self, client: ClientIdentity) -> ClientIdentity:
        """Return the client as the backend sees it."""
        if self.passes_all:
            return client
        return replace(client, capabilities=self.capabilities(client.capabilities))

    def seen(self, declared: bytes) -> bytes | None:
        """Return the capabilities that the backend sees.

        Returns None if they equal those of a client that declares nothing.
        """
        if self.passes_all:
            return None if declared == b"{}" else declared
        capabilities = self.capabilities(declared)
        return None if capabilities == self.capabilities(b"{}") else capabilities

    def capabilities(self, declared: bytes) -> bytes:
        """Return the capabilities that the backend sees; the client's own keep their encoding."""
        capabilities = _parse_capabilities(without(declared, self.denied))
        for feature in ASKED.values():
            if feature in self.withdrawn:
                capabilities.pop(feature, None)
            elif feature in self.answers:
                capabilities[feature] = Raw(jsonrpc.canonical(DECLARED[feature]))
        return jsonrpc.encode(dict(sorted(capabilities.items())))

    def forwards(self, method: str) -> bool:
        """True if the backend receives this client notification."""
        not_forwarded = self.withdrawn | self.answers.keys()
        return method != ROOTS_CHANGED or "roots" not in not_forwarded

    def caller(self, caller: CallContext) -> CallContext:
        """Return the context of a call as the backend sees it."""
        return caller if self.passes_all else _FilteredContext(self, caller)

    async def call(self, send: Send, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Send a request under this policy. Raises BackendError, and RpcError of the handlers."""
        if self.passes_all:
            return await send(outgoing, caller)
        seen = self.caller(caller)
        if rev.META_VERSION not in parse_meta(outgoing.params or {}):
            return await send(
                outgoing.copy_with(self._without_progress_token(outgoing.params)), seen
            )
        return await self._modern_call(send, outgoing, seen)

    async def _modern_call(
        self, send: Send, outgoing: UpstreamRequest, caller: CallContext
    ) -> Message:
        """Send a modern request, which has the capabilities in `_meta` and gets questions in its
        result."""
        params = self._with_meta(outgoing.params or {}, caller.client)
        request_id = outgoing.id
        for round_ in range(MAX_ROUNDS):
            sent = outgoing.copy_with(params, request_id)
            answer = await send(sent, caller)
            result = jsonrpc.decode_object(answer["result"]) if "result" in answer else {}
            needs_input = jsonrpc.decode_str(result.get("resultType")) == "input_required"
            if not needs_input or not self.answers_itself:
                self._check_input_requests(result if needs_input else {})
                return {**answer, "id": outgoing.id}
            params = await retry_params(params, result, caller, round_)
            request_id = jsonrpc.encode_raw(f"{jsonrpc.decode(outgoing.id)}-answer-{round_ + 1}")
        raise ProtocolError(f"the backend requested input in more than {MAX_ROUNDS} rounds")

    def _check_input_requests(self, result: Message) -> None:
        """Raise ProtocolError if a backend requests input that it was not offered."""
        for question in jsonrpc.decode_object(result.get("inputRequests", jsonrpc.EMPTY)).values():
            method = jsonrpc.decode_str(jsonrpc.decode_object(question).get("method")) or ""
            if ASKED.get(method) in self.withdrawn:
                raise ProtocolError(
                    f"the backend requested {ASKED[method]}, which the proxy does not forward to"
                    " clients"
                )

    def _without_progress_token(self, params: Message | None) -> Message | None:
        """Return the params without a progress token, if progress is withdrawn."""
        meta = parse_meta(params or {})
        if params is None or "progress" not in self.withdrawn or "progressToken" not in meta:
            return params
        kept = {name: raw for name, raw in meta.items() if name != "progressToken"}
        return {**params, "_meta": jsonrpc.encode_raw(kept)}

    def _with_meta(self, params: Message, client: ClientIdentity) -> Message:
        meta = dict(parse_meta(params))
        meta[rev.META_CAPABILITIES] = Raw(client.capabilities)
        if "logging" in self.withdrawn:
            meta.pop(rev.META_LOG_LEVEL, None)
        with_meta = {**params, "_meta": jsonrpc.encode_raw(meta)}
        return self._without_progress_token(with_meta) or with_meta


def _parse_capabilities(declared: bytes) -> Message:
    """Return the capabilities by name; none if they are not an object."""
    try:
        return jsonrpc.decode_object(declared)
    except RpcError:
        return {}


EVERYTHING: Final = FeaturePolicy()
"""Policy that forwards all features unchanged."""


class _FilteredContext:
    """Context of a call under a policy."""

    def __init__(self, forwarding: FeaturePolicy, caller: CallContext) -> None:
        self.client = forwarding.client(caller.client)
        self.muted = "logging" in forwarding.withdrawn
        self.log_level = None if self.muted else caller.log_level
        self.resumption = caller.resumption
        self._declared = _parse_capabilities(caller.client.capabilities)
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
            await self._call_handler(feature, answer, message)

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        feature = ASKED.get(jsonrpc.decode_str(request.get("method")) or "", "")
        answer = self._forwarding.answers.get(feature)
        if answer is not None:
            return await self._call_handler(feature, answer, request)
        if feature in self._forwarding.withdrawn or (feature and feature not in self._declared):
            return {"error": NOT_OFFERED}
        return await self._caller.ask(request, notify_backend)

    @staticmethod
    async def _call_handler(feature: str, answer: Answer, message: Message) -> Message:
        """Call a handler, and return its result, or an error whatever it raises."""
        try:
            params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
            return {"result": jsonrpc.encode_raw(await answer(params))}
        except Exception:
            log.exception("the handler for %s failed", feature)
            return {"error": FAILED}
