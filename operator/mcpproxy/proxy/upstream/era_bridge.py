"""A request and its answer between a client and a backend, which may be of different eras."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from msgspec import Raw

from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.input_polling import TASK, collect_inputs, wait_for_task
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)

LOG_LEVEL: Final = "info"
"""The level of log messages for legacy clients that set none."""
RETRY: Final = 0.05
"""Seconds until a call is made again whose backend wants that and no input; doubled each time."""
MAX_RETRY: Final = 5.0
CALL: Final = "tools/call"
MAX_ROUNDS: Final = 16
"""How often a modern backend may ask a legacy client before its call ends in an error."""


def send_request(
    link: UpstreamSession, outgoing: UpstreamRequest, caller: CallContext
) -> Coroutine[Any, Any, Message]:
    """Send a request over a link, translated where the eras of client and backend differ."""
    modern_client, modern_backend = caller.client.modern, link.greeting.modern
    if modern_client == modern_backend:
        if not modern_client and caller.log_level is not None and link.stateful:
            return _levelled(link, outgoing, caller)
        if outgoing.converses and link.stateful and modern_client:
            return resolve_input(link, outgoing, outgoing, caller)
        return link.request(outgoing, caller)
    if modern_client:
        return _to_legacy(link, outgoing, caller)
    return _to_modern(link, outgoing, caller)


async def _levelled(
    link: UpstreamSession, outgoing: UpstreamRequest, caller: CallContext
) -> Message:
    await _set_level(link, caller)
    return await link.request(outgoing, caller)


_levels: Final = itertools.count(1)


@dataclass(slots=True)
class _LogLevel:
    """The log level of one upstream session."""

    current: str | None = None
    """None while unknown: before the first request, and while requests for it overlap."""
    requests: int = 0


_known_levels: Final[WeakKeyDictionary[UpstreamSession, _LogLevel]] = WeakKeyDictionary()


def _session(link: UpstreamSession) -> UpstreamSession:
    """The link itself, where others that come and go stand before it."""
    while (behind := getattr(link, "behind", None)) is not None:
        link = behind
    return link


async def _set_level(link: UpstreamSession, caller: CallContext) -> None:
    """Make the log level of a session that of the caller, if it is another one."""
    if "logging" not in link.greeting.capabilities:
        return
    level = _known_levels.setdefault(_session(link), _LogLevel())
    if level.current == caller.log_level:
        return
    level.current = None
    level.requests += 1
    number = level.requests
    params = {"level": jsonrpc.encode_raw(caller.log_level)}
    own = Raw(b'"mcpproxy-level-%d"' % next(_levels))
    answer = await link.request(UpstreamRequest(own, "logging/setLevel", params), caller)
    overlapped = number != level.requests
    level.current = None if overlapped or "result" not in answer else caller.log_level


def translate_request(
    outgoing: UpstreamRequest,
    client: ClientIdentity,
    greeting: ServerDescription,
    log_level: str | None = None,
    *,
    muted: bool = False,
) -> UpstreamRequest:
    """The request that stands for this one with a backend of the other era.

    `muted` says that log messages are not forwarded.
    """
    if not greeting.modern:
        return outgoing.having(era_translation.strip_modern_fields(outgoing.params))
    if log_level is None and not muted:
        # Where a legacy client sets no level, its server decides; a modern one is to be told.
        # SDKs' servers send log messages also where they declare no capability for that.
        log_level = LOG_LEVEL
    capabilities = None
    if greeting.makes_tasks and outgoing.polls and outgoing.method == CALL:
        # We wait for the task in the client's place.
        capabilities = declaring(client.capabilities, TASKS_EXTENSION)
    revision = greeting.revision
    params = era_translation.add_client_meta(
        outgoing.params, client, revision, log_level, capabilities
    )
    return outgoing.having(params)


def translate_result_bytes(outgoing: UpstreamRequest, result: bytes) -> bytes | None:
    """A result for a client of the other era than its backend's; None where it has to be read."""
    assert outgoing.link is not None
    if outgoing.link.greeting.modern:
        return era_translation.to_legacy_result_bytes(result)
    return era_translation.to_modern_result_bytes(outgoing.method, result)


def to_modern_response(outgoing: UpstreamRequest, answer: Message) -> Message:
    """A legacy backend's answer for a modern client. Raises ProtocolError."""
    if "result" in answer:
        _members(answer)
        return {
            **answer,
            "result": era_translation.to_modern_result(outgoing.method, answer["result"]),
        }
    return {**answer, "error": era_translation.to_modern_error(answer["error"])}


def to_legacy_response(outgoing: UpstreamRequest, answer: Message) -> Message:
    """A modern backend's answer, which wants no input, for a legacy client."""
    if "result" in answer:
        return {
            **answer,
            "id": outgoing.id,
            "result": era_translation.to_legacy_result(answer["result"]),
        }
    error = era_translation.to_legacy_error(outgoing.method, answer["error"])
    return {**answer, "id": outgoing.id, "error": error}


def is_unfinished(answer: Message) -> bool:
    """Whether the answer of a modern backend is a question or a task. Raises ProtocolError."""
    return _type(answer) in ("input_required", TASK)


def _type(answer: Message) -> str | None:
    if "result" not in answer:
        return None
    return jsonrpc.decode_str(_members(answer).get("resultType"))


async def _to_legacy(
    link: UpstreamSession, outgoing: UpstreamRequest, caller: CallContext
) -> Message:
    if caller.log_level is not None and link.stateful:
        await _set_level(link, caller)
    sent = outgoing.bridged or translate_request(outgoing, caller.client, link.greeting)
    return to_modern_response(outgoing, await link.request(sent, caller))


async def _to_modern(
    link: UpstreamSession, outgoing: UpstreamRequest, caller: CallContext
) -> Message:
    sent = outgoing.bridged or translate_request(
        outgoing,
        caller.client,
        link.greeting,
        caller.log_level,
        muted=getattr(caller, "muted", False),
    )
    return to_legacy_response(outgoing, await resolve_input(link, outgoing, sent, caller))


async def resolve_input(
    link: UpstreamSession, outgoing: UpstreamRequest, sent: UpstreamRequest, caller: CallContext
) -> Message:
    """The answer of a modern backend to a request, `sent` as given; its id is the request's.

    Where the backend wants input, the client is asked and the call made again over the same link,
    with a new id: what the backend knows of it may be in that process alone.
    """
    for round_ in range(MAX_ROUNDS):
        answer = await link.request(sent, caller)
        if _type(answer) == TASK and outgoing.polls:
            answer = await wait_for_task(link, outgoing, _members(answer), caller)
        if _type(answer) != "input_required":
            return {**answer, "id": outgoing.id}
        result = _members(answer)
        if "inputRequests" not in result:
            # It is to be asked again, and has not said when.
            await asyncio.sleep(min(RETRY * 2**round_, MAX_RETRY))
        params = {**(sent.params or {}), **await collect_inputs(result, caller)}
        if "requestState" not in result:
            params.pop("requestState", None)
        request_id = jsonrpc.encode_raw(f"{jsonrpc.decode(outgoing.id)}-retry-{round_ + 1}")
        sent = outgoing.having(params, request_id)
    raise ProtocolError(f"it asked for input more than {MAX_ROUNDS} times")


def _members(answer: Message) -> Message:
    """The members of a result. Raises ProtocolError when it is no object: the backend's fault."""
    try:
        return jsonrpc.decode_object(answer["result"])
    except RpcError:
        raise ProtocolError("its result is not a JSON object") from None
