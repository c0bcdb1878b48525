"""Translation of requests and responses between a client and a backend of different eras."""

import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from msgspec import Raw, structs

from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.core.translation.url_elicitation import to_input_required
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.input_polling import TASK, retry_params, wait_for_task
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

LOG_LEVEL: Final = "info"
"""Log level for legacy clients that have not set one."""
CALL: Final = "tools/call"
MAX_ROUNDS: Final = 16
"""Maximum rounds of input that a modern backend may request for one call of a legacy client."""


def send_request(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    caller: CallContext,
    background: TaskSet,
    exchange: HttpExchange | None = None,
) -> Coroutine[Any, Any, Message]:
    """Send a request over an upstream session, translated if client and backend differ in era.

    If the request was sent already, `exchange` is continued. `background` runs tasks that the call
    does not wait for.
    """
    modern_client, modern_backend = caller.client.modern, link.server.modern
    if modern_client == modern_backend:
        if not modern_client and caller.log_level is not None and link.stateful:
            return _with_log_level(link, outgoing, caller, exchange)
        if outgoing.resolves_input and link.stateful and modern_client:
            return resolve_input(link, outgoing, outgoing, caller, background, exchange)
        return _request_or_resume(link, outgoing, caller, exchange)
    if modern_client:
        return _to_legacy(link, outgoing, caller, exchange)
    return _to_modern(link, outgoing, caller, background, exchange)


def _request_or_resume(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    caller: CallContext,
    exchange: HttpExchange | None,
) -> Coroutine[Any, Any, Message]:
    """Send a request, or wait for its response if it was sent already."""
    if exchange is None:
        return link.request(outgoing, caller)
    return exchange.session.resume(exchange, caller, outgoing.large_result)


async def _with_log_level(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    caller: CallContext,
    exchange: HttpExchange | None,
) -> Message:
    await _set_log_level(link, caller)
    return await _request_or_resume(link, outgoing, caller, exchange)


_levels: Final = itertools.count(1)


@dataclass(slots=True)
class _LogLevel:
    """Log level of one upstream session."""

    current: str | None = None
    """None if unknown: before the first `logging/setLevel`, and while several of them overlap."""
    requests: int = 0

    def begin_change(self) -> int:
        """Record a request to change the level; return its number."""
        self.current = None
        self.requests += 1
        return self.requests

    def end_change(self, number: int, level: str | None) -> None:
        """Record the response to a request; `level` is None if it failed."""
        self.current = level if number == self.requests else None


_log_levels: Final[WeakKeyDictionary[UpstreamSession, _LogLevel]] = WeakKeyDictionary()


def _innermost_session(link: UpstreamSession) -> UpstreamSession:
    """Return the session behind all wrappers."""
    while (behind := getattr(link, "behind", None)) is not None:
        link = behind
    return link


async def _set_log_level(link: UpstreamSession, caller: CallContext) -> None:
    """Set the log level of a session to that of the caller, if it differs."""
    if "logging" not in link.server.capabilities:
        return
    level = _log_levels.setdefault(_innermost_session(link), _LogLevel())
    if level.current == caller.log_level:
        return
    number = level.begin_change()
    params = {"level": jsonrpc.encode_raw(caller.log_level)}
    request_id = Raw(b'"mcpproxy-level-%d"' % next(_levels))
    answer = await link.request(UpstreamRequest(request_id, "logging/setLevel", params), caller)
    level.end_change(number, caller.log_level if "result" in answer else None)


def translate_request(
    outgoing: UpstreamRequest,
    client: ClientIdentity,
    server: ServerDescription,
    log_level: str | None = None,
    *,
    muted: bool = False,
) -> UpstreamRequest:
    """Return the request to send to a backend of the other era.

    `muted` means that log messages are not forwarded to the client.
    """
    if not server.modern:
        return outgoing.copy_with(era_translation.strip_modern_fields(outgoing.params))
    if log_level is None and not muted:
        # If a legacy client sets no level, its server chooses one. A modern server sends only what
        # the request asks for, and the SDKs' servers log without declaring the capability.
        log_level = LOG_LEVEL
    capabilities = None
    if server.makes_tasks and outgoing.polls and outgoing.method == CALL:
        # The proxy polls the task for the client.
        capabilities = declaring(client.capabilities, TASKS_EXTENSION)
    revision = server.revision
    params = era_translation.add_client_meta(
        outgoing.params, client, revision, log_level, capabilities
    )
    return outgoing.copy_with(params)


def translate_result_bytes(method: str, result: bytes, server: ServerDescription) -> bytes | None:
    """Translate a result for a client of the other era, or return None if it has to be decoded."""
    if server.modern:
        return era_translation.to_legacy_result_bytes(result)
    return era_translation.to_modern_result_bytes(method, result)


def to_modern_response(outgoing: UpstreamRequest, answer: Message) -> Message:
    """Translate the response of a legacy backend for a modern client.

    Raises ProtocolError, and RpcError if the client lacks a capability that it needs.
    """
    if "result" in answer:
        _result_object(answer)
        return {
            **answer,
            "result": era_translation.to_modern_result(outgoing.method, answer["result"]),
        }
    required = to_input_required(outgoing.method, outgoing.params, answer["error"])
    if required is not None:
        return {"jsonrpc": jsonrpc.VERSION, "id": outgoing.id, "result": required}
    return {**answer, "error": era_translation.to_modern_error(answer["error"])}


def to_legacy_response(outgoing: UpstreamRequest, answer: Message) -> Message:
    """Translate the complete response of a modern backend for a legacy client."""
    if "result" in answer:
        return {
            **answer,
            "id": outgoing.id,
            "result": era_translation.to_legacy_result(answer["result"]),
        }
    error = era_translation.to_legacy_error(outgoing.method, answer["error"])
    return {**answer, "id": outgoing.id, "error": error}


def is_unfinished(answer: Message) -> bool:
    """True if the response of a modern backend requests input or is a task. Raises
    ProtocolError."""
    return _result_type(answer) in ("input_required", TASK)


def _result_type(answer: Message) -> str | None:
    if "result" not in answer:
        return None
    return jsonrpc.decode_str(_result_object(answer).get("resultType"))


async def _to_legacy(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    caller: CallContext,
    exchange: HttpExchange | None,
) -> Message:
    if caller.log_level is not None and link.stateful:
        await _set_log_level(link, caller)
    sent = exchange.request if exchange else translate_request(outgoing, caller.client, link.server)
    if outgoing.large_result is not None:
        added = era_translation.fields_of_modern_results(outgoing.method)
        sent = structs.replace(sent, large_result=replace(outgoing.large_result, added=added))
    return to_modern_response(outgoing, await _request_or_resume(link, sent, caller, exchange))


async def _to_modern(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    caller: CallContext,
    background: TaskSet,
    exchange: HttpExchange | None,
) -> Message:
    sent = (
        exchange.request
        if exchange
        else translate_request(
            outgoing,
            caller.client,
            link.server,
            caller.log_level,
            muted=getattr(caller, "muted", False),
        )
    )
    answer = await resolve_input(link, outgoing, sent, caller, background, exchange)
    return to_legacy_response(outgoing, answer)


async def resolve_input(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    sent: UpstreamRequest,
    caller: CallContext,
    background: TaskSet,
    exchange: HttpExchange | None = None,
) -> Message:
    """Send a request to a modern backend until it is complete; return the response with the id of
    `outgoing`.

    `sent` is the first request to send; `exchange` is continued if it was sent already. If the
    backend requests input, the client is asked, and the call is repeated over the same session with
    a new id, because the backend's state may exist in that process only. Raises BackendError,
    RpcError.
    """
    for round_ in range(MAX_ROUNDS):
        answer = await _request_or_resume(link, sent, caller, exchange)
        exchange = None
        if _result_type(answer) == TASK and outgoing.polls:
            task = _result_object(answer)
            answer = await wait_for_task(link, outgoing, task, caller, background)
        if _result_type(answer) != "input_required":
            return {**answer, "id": outgoing.id}
        result = _result_object(answer)
        params = await retry_params(sent.params, result, caller, round_)
        request_id = jsonrpc.encode_raw(f"{jsonrpc.decode(outgoing.id)}-retry-{round_ + 1}")
        sent = outgoing.copy_with(params, request_id)
    raise ProtocolError(f"the backend requested input in more than {MAX_ROUNDS} rounds")


def _result_object(answer: Message) -> Message:
    """Return the fields of a result. Raises ProtocolError if it is not an object: the backend is
    at fault."""
    try:
        return jsonrpc.decode_object(answer["result"])
    except RpcError:
        raise ProtocolError("the result is not a JSON object") from None
