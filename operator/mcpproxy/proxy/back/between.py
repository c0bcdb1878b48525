"""A request and its answer between a client and a backend, which may be of different eras."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from msgspec import Raw

from mcpproxy.proxy.back.link import Greeting, Link, Outgoing
from mcpproxy.proxy.back.polling import TASK, ended, inputs
from mcpproxy.proxy.core import eras
from mcpproxy.proxy.core.errors import NotMcp
from mcpproxy.proxy.core.exchange import Caller, Client
from mcpproxy.proxy.core.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

LOG_LEVEL: Final = "info"
"""The level of log messages for legacy clients that set none."""
RETRY: Final = 0.05
"""Seconds until a call is made again whose backend wants that and no input; doubled each time."""
MAX_RETRY: Final = 5.0
CALL: Final = "tools/call"
MAX_ROUNDS: Final = 16
"""How often a modern backend may ask a legacy client before its call ends in an error."""


def sent_over(link: Link, outgoing: Outgoing, caller: Caller) -> Coroutine[Any, Any, Message]:
    """Send a request over a link, translated where the eras of client and backend differ."""
    modern_client, modern_backend = caller.client.modern, link.greeting.modern
    if modern_client == modern_backend:
        if not modern_client and caller.log_level is not None and link.stateful:
            return _levelled(link, outgoing, caller)
        if outgoing.converses and link.stateful and modern_client:
            return conversed(link, outgoing, outgoing, caller)
        return link.request(outgoing, caller)
    if modern_client:
        return _to_legacy(link, outgoing, caller)
    return _to_modern(link, outgoing, caller)


async def _levelled(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    await _set_level(link, caller)
    return await link.request(outgoing, caller)


_levels: Final = itertools.count(1)


@dataclass(slots=True)
class _Level:
    """The log level of one upstream session."""

    current: str | None = None
    """None while unknown: before the first request, and while requests for it overlap."""
    requests: int = 0


_known_levels: Final[WeakKeyDictionary[Link, _Level]] = WeakKeyDictionary()


def _session(link: Link) -> Link:
    """The link itself, where others that come and go stand before it."""
    while (behind := getattr(link, "behind", None)) is not None:
        link = behind
    return link


async def _set_level(link: Link, caller: Caller) -> None:
    """Make the log level of a session that of the caller, if it is another one."""
    if "logging" not in link.greeting.capabilities:
        return
    level = _known_levels.setdefault(_session(link), _Level())
    if level.current == caller.log_level:
        return
    level.current = None
    level.requests += 1
    number = level.requests
    params = {"level": jsonrpc.dump(caller.log_level)}
    own = Raw(b'"mcpproxy-level-%d"' % next(_levels))
    answer = await link.request(Outgoing(own, "logging/setLevel", params), caller)
    overlapped = number != level.requests
    level.current = None if overlapped or "result" not in answer else caller.log_level


def bridged(
    outgoing: Outgoing,
    client: Client,
    greeting: Greeting,
    log_level: str | None = None,
    *,
    muted: bool = False,
) -> Outgoing:
    """The request that stands for this one with a backend of the other era.

    `muted` says that log messages are not forwarded.
    """
    if not greeting.modern:
        return outgoing.having(eras.unstamped(outgoing.params))
    if log_level is None and not muted:
        # Where a legacy client sets no level, its server decides; a modern one is to be told.
        # SDKs' servers send log messages also where they declare no capability for that.
        log_level = LOG_LEVEL
    capabilities = None
    if greeting.makes_tasks and outgoing.polls and outgoing.method == CALL:
        # We wait for the task in the client's place.
        capabilities = declaring(client.capabilities, TASKS_EXTENSION)
    revision = greeting.revision
    params = eras.stamped(outgoing.params, client, revision, log_level, capabilities)
    return outgoing.having(params)


def respelt(outgoing: Outgoing, result: bytes) -> bytes | None:
    """A result for a client of the other era than its backend's; None where it has to be read."""
    assert outgoing.link is not None
    if outgoing.link.greeting.modern:
        return eras.legacy_spelling(result)
    return eras.modern_spelling(outgoing.method, result)


def modern_answer(outgoing: Outgoing, answer: Message) -> Message:
    """A legacy backend's answer for a modern client. Raises NotMcp."""
    if "result" in answer:
        _members(answer)
        return {**answer, "result": eras.modern_result(outgoing.method, answer["result"])}
    return {**answer, "error": eras.modern_error(answer["error"])}


def legacy_answer(outgoing: Outgoing, answer: Message) -> Message:
    """A modern backend's answer, which wants no input, for a legacy client."""
    if "result" in answer:
        return {**answer, "id": outgoing.id, "result": eras.legacy_result(answer["result"])}
    error = eras.legacy_error(outgoing.method, answer["error"])
    return {**answer, "id": outgoing.id, "error": error}


def goes_on(answer: Message) -> bool:
    """Whether the answer of a modern backend is a question or a task. Raises NotMcp."""
    return _type(answer) in ("input_required", TASK)


def _type(answer: Message) -> str | None:
    if "result" not in answer:
        return None
    return jsonrpc.string(_members(answer).get("resultType"))


async def _to_legacy(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    if caller.log_level is not None and link.stateful:
        await _set_level(link, caller)
    sent = outgoing.bridged or bridged(outgoing, caller.client, link.greeting)
    return modern_answer(outgoing, await link.request(sent, caller))


async def _to_modern(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    sent = outgoing.bridged or bridged(
        outgoing,
        caller.client,
        link.greeting,
        caller.log_level,
        muted=getattr(caller, "muted", False),
    )
    return legacy_answer(outgoing, await conversed(link, outgoing, sent, caller))


async def conversed(link: Link, outgoing: Outgoing, sent: Outgoing, caller: Caller) -> Message:
    """The answer of a modern backend to a request, `sent` as given; its id is the request's.

    Where the backend wants input, the client is asked and the call made again over the same link,
    with a new id: what the backend knows of it may be in that process alone.
    """
    for round_ in range(MAX_ROUNDS):
        answer = await link.request(sent, caller)
        if _type(answer) == TASK and outgoing.polls:
            answer = await ended(link, outgoing, _members(answer), caller)
        if _type(answer) != "input_required":
            return {**answer, "id": outgoing.id}
        result = _members(answer)
        if "inputRequests" not in result:
            # It is to be asked again, and has not said when.
            await asyncio.sleep(min(RETRY * 2**round_, MAX_RETRY))
        params = {**(sent.params or {}), **await inputs(result, caller)}
        if "requestState" not in result:
            params.pop("requestState", None)
        request_id = jsonrpc.dump(f"{jsonrpc.value(outgoing.id)}-retry-{round_ + 1}")
        sent = outgoing.having(params, request_id)
    raise NotMcp(f"it asked for input more than {MAX_ROUNDS} times")


def _members(answer: Message) -> Message:
    """The members of a result. Raises NotMcp when it is no object: the backend's fault."""
    try:
        return jsonrpc.members(answer["result"])
    except RpcError:
        raise NotMcp("its result is not a JSON object") from None
