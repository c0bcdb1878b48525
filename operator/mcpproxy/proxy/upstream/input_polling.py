"""A legacy client before a modern backend: what the backend wants of it, and tasks it waits for.

A modern backend may answer a call with a question, or with a task whose result is to be fetched. A
legacy client knows neither: it is asked by a request, and the task is polled until it has ended.
"""

import asyncio
import functools
import itertools
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.backends import SERVER_REQUESTS
from mcpproxy.limits.extensions import TASK_POLL
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.core.errors import BackendError, ProtocolError
from mcpproxy.proxy.core.exchange import CallContext, NullContext
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INTERNAL_ERROR, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest, UpstreamSession

TASK: Final = "task"
"""Type of a result that is a task."""
LONGEST_PAUSE: Final = 10.0
"""Seconds between two polls at most, however rarely the backend wants them."""
CANCEL_WITHIN: Final = 5.0
"""Seconds that a backend has to take the end of a task."""
_polls: Final = itertools.count(1)


async def wait_for_task(
    link: UpstreamSession, outgoing: UpstreamRequest, task: Message, caller: CallContext
) -> Message:
    """The answer to a request for which the backend has made a task, once that has ended.

    Who waits is cancelled when its time is over, like any other. Raises BackendError, RpcError.
    """
    task_id = jsonrpc.decode_str(task.get("taskId"))
    if task_id is None:
        raise ProtocolError("it answers with a task without a taskId")
    outgoing.abandons = functools.partial(_cancel, link, task_id, caller)
    asked: set[str] = set()
    while (answer := _answer(outgoing, task)) is None:
        if jsonrpc.decode_str(task.get("status")) == "input_required":
            await _answer_questions(link, task_id, task, asked, caller)
        await asyncio.sleep(_pause(task))
        found = await link.request(_about(link, "tasks/get", task_id, caller), caller)
        error = jsonrpc.error_of(found)
        if error is not None:
            outgoing.abandons = None
            return found
        task = _members(found["result"])
    outgoing.abandons = None
    return answer


def _answer(outgoing: UpstreamRequest, task: Message) -> Message | None:
    """The response that the state of a task makes; None while it has not ended."""
    status = jsonrpc.decode_str(task.get("status"))
    answer: Message = {"jsonrpc": jsonrpc.VERSION, "id": outgoing.id}
    if status in ("working", "input_required"):
        return None
    if status == "completed" and "result" in task:
        return {**answer, "result": task["result"]}
    if status == "failed":
        error = task.get("error") or jsonrpc.encode_raw(
            _error(INTERNAL_ERROR, "the task failed", task)
        )
        return {**answer, "error": error}
    if status == "cancelled":
        return {
            **answer,
            "error": jsonrpc.encode_raw(_error(UNAVAILABLE, "the task was cancelled", task)),
        }
    raise ProtocolError(f"its task has the status {(status or 'none')[:50]}, or lacks the result")


def _error(code: int, message: str, task: Message) -> dict[str, Any]:
    more = jsonrpc.decode_str(task.get("statusMessage"))
    return {"code": code, "message": message if more is None else f"{message}: {more}"}


def _pause(task: Message) -> float:
    wanted = jsonrpc.decode(task.get("pollIntervalMs"))
    seconds = wanted / 1000 if isinstance(wanted, int | float) else 0.0
    if seconds < TASK_POLL.value:
        if seconds:
            TASK_POLL.record()
        return TASK_POLL.value
    return min(seconds, LONGEST_PAUSE)


async def _answer_questions(
    link: UpstreamSession, task_id: str, task: Message, asked: set[str], caller: CallContext
) -> None:
    """Ask the client what it was not asked before, and tell the task."""
    wanted = _members(task.get("inputRequests", jsonrpc.EMPTY))
    new = {key: raw for key, raw in wanted.items() if key not in asked}
    if not new:
        return
    # Each key stands for one question as long as the task lives.
    asked.clear()
    asked.update(wanted)
    answers = await collect_inputs({"inputRequests": jsonrpc.encode_raw(new)}, caller)
    found = await link.request(_about(link, "tasks/update", task_id, caller, answers), caller)
    error = jsonrpc.error_of(found)
    if error is not None:
        raise error


def _about(
    link: UpstreamSession,
    method: str,
    task_id: str,
    caller: CallContext,
    more: Message | None = None,
) -> UpstreamRequest:
    client = caller.client
    params = era_translation.add_client_meta(
        {"taskId": jsonrpc.encode_raw(task_id), **(more or {})},
        client,
        link.greeting.revision,
        caller.log_level,
        declaring(client.capabilities, TASKS_EXTENSION),
    )
    return UpstreamRequest(Raw(b'"mcpproxy-task-%d"' % next(_polls)), method, params)


async def _cancel(link: UpstreamSession, task_id: str, caller: CallContext) -> None:
    """Tell the backend that nobody waits for a task; never raises."""
    nobody = NullContext(caller.client)
    try:
        async with asyncio.timeout(CANCEL_WITHIN):
            await link.request(_about(link, "tasks/cancel", task_id, nobody), nobody)
    except (BackendError, RpcError, TimeoutError):
        return


def _members(raw: Raw) -> Message:
    """The members of what a backend sent. Raises ProtocolError when it is no object."""
    try:
        return jsonrpc.decode_object(raw)
    except RpcError:
        raise ProtocolError("its task is not a JSON object") from None


async def _asked(key: str, raw: Raw, caller: CallContext) -> Any:
    request = {
        "jsonrpc": jsonrpc.VERSION,
        "id": jsonrpc.encode_raw(key),
        **jsonrpc.decode_object(raw),
    }
    answer = await caller.ask(request)
    error = jsonrpc.error_of(answer)
    if error is not None:
        raise error
    return answer["result"]


async def _together(wanted: Message, caller: CallContext) -> list[Any]:
    asking = [asyncio.create_task(_asked(key, raw, caller)) for key, raw in wanted.items()]
    try:
        return await asyncio.gather(*asking)
    finally:
        for one in asking:
            one.cancel()


async def collect_inputs(result: Message, caller: CallContext) -> Message:
    """Ask the client for every input; the members to add to the params of the retry.

    Raises RpcError where the client has no answer.
    """
    wanted = jsonrpc.decode_object(result.get("inputRequests", jsonrpc.EMPTY))
    if len(wanted) > SERVER_REQUESTS.value:
        SERVER_REQUESTS.record()
        raise ProtocolError(f"it asks for more than {SERVER_REQUESTS.value} things at once")
    if caller.client.modern:
        # It gets all of them in one result.
        answers = dict(zip(wanted, await _together(wanted, caller), strict=True))
    else:
        answers = {key: await _asked(key, raw, caller) for key, raw in wanted.items()}
    added: Message = {"inputResponses": jsonrpc.encode_raw(answers)} if wanted else {}
    if "requestState" in result:
        added["requestState"] = result["requestState"]
    return added
