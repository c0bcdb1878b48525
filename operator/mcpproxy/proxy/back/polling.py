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
from mcpproxy.proxy.back.link import Link, Outgoing
from mcpproxy.proxy.core import eras
from mcpproxy.proxy.core.errors import BackendError, NotMcp
from mcpproxy.proxy.core.exchange import Caller, Discarding
from mcpproxy.proxy.core.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INTERNAL_ERROR, UNAVAILABLE, Message, RpcError

TASK: Final = "task"
"""Type of a result that is a task."""
LONGEST_PAUSE: Final = 10.0
"""Seconds between two polls at most, however rarely the backend wants them."""
CANCEL_WITHIN: Final = 5.0
"""Seconds that a backend has to take the end of a task."""
_polls: Final = itertools.count(1)


async def ended(link: Link, outgoing: Outgoing, task: Message, caller: Caller) -> Message:
    """The answer to a request for which the backend has made a task, once that has ended.

    Who waits is cancelled when its time is over, like any other. Raises BackendError, RpcError.
    """
    task_id = jsonrpc.string(task.get("taskId"))
    if task_id is None:
        raise NotMcp("it answers with a task without a taskId")
    outgoing.abandons = functools.partial(_cancel, link, task_id, caller)
    asked: set[str] = set()
    while (answer := _answer(outgoing, task)) is None:
        if jsonrpc.string(task.get("status")) == "input_required":
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


def _answer(outgoing: Outgoing, task: Message) -> Message | None:
    """The response that the state of a task makes; None while it has not ended."""
    status = jsonrpc.string(task.get("status"))
    answer: Message = {"jsonrpc": jsonrpc.VERSION, "id": outgoing.id}
    if status in ("working", "input_required"):
        return None
    if status == "completed" and "result" in task:
        return {**answer, "result": task["result"]}
    if status == "failed":
        error = task.get("error") or jsonrpc.dump(_error(INTERNAL_ERROR, "the task failed", task))
        return {**answer, "error": error}
    if status == "cancelled":
        return {
            **answer,
            "error": jsonrpc.dump(_error(UNAVAILABLE, "the task was cancelled", task)),
        }
    raise NotMcp(f"its task has the status {(status or 'none')[:50]}, or lacks the result")


def _error(code: int, message: str, task: Message) -> dict[str, Any]:
    more = jsonrpc.string(task.get("statusMessage"))
    return {"code": code, "message": message if more is None else f"{message}: {more}"}


def _pause(task: Message) -> float:
    wanted = jsonrpc.value(task.get("pollIntervalMs"))
    seconds = wanted / 1000 if isinstance(wanted, int | float) else 0.0
    if seconds < TASK_POLL.value:
        if seconds:
            TASK_POLL.record()
        return TASK_POLL.value
    return min(seconds, LONGEST_PAUSE)


async def _answer_questions(
    link: Link, task_id: str, task: Message, asked: set[str], caller: Caller
) -> None:
    """Ask the client what it was not asked before, and tell the task."""
    wanted = _members(task.get("inputRequests", jsonrpc.EMPTY))
    new = {key: raw for key, raw in wanted.items() if key not in asked}
    if not new:
        return
    # Each key stands for one question as long as the task lives.
    asked.clear()
    asked.update(wanted)
    answers = await inputs({"inputRequests": jsonrpc.dump(new)}, caller)
    found = await link.request(_about(link, "tasks/update", task_id, caller, answers), caller)
    error = jsonrpc.error_of(found)
    if error is not None:
        raise error


def _about(
    link: Link, method: str, task_id: str, caller: Caller, more: Message | None = None
) -> Outgoing:
    client = caller.client
    params = eras.stamped(
        {"taskId": jsonrpc.dump(task_id), **(more or {})},
        client,
        link.greeting.revision,
        caller.log_level,
        declaring(client.capabilities, TASKS_EXTENSION),
    )
    return Outgoing(Raw(b'"mcpproxy-task-%d"' % next(_polls)), method, params)


async def _cancel(link: Link, task_id: str, caller: Caller) -> None:
    """Tell the backend that nobody waits for a task; never raises."""
    nobody = Discarding(caller.client)
    try:
        async with asyncio.timeout(CANCEL_WITHIN):
            await link.request(_about(link, "tasks/cancel", task_id, nobody), nobody)
    except (BackendError, RpcError, TimeoutError):
        return


def _members(raw: Raw) -> Message:
    """The members of what a backend sent. Raises NotMcp when it is no object."""
    try:
        return jsonrpc.members(raw)
    except RpcError:
        raise NotMcp("its task is not a JSON object") from None


async def _asked(key: str, raw: Raw, caller: Caller) -> Any:
    request = {"jsonrpc": jsonrpc.VERSION, "id": jsonrpc.dump(key), **jsonrpc.members(raw)}
    answer = await caller.ask(request)
    error = jsonrpc.error_of(answer)
    if error is not None:
        raise error
    return answer["result"]


async def _together(wanted: Message, caller: Caller) -> list[Any]:
    asking = [asyncio.create_task(_asked(key, raw, caller)) for key, raw in wanted.items()]
    try:
        return await asyncio.gather(*asking)
    finally:
        for one in asking:
            one.cancel()


async def inputs(result: Message, caller: Caller) -> Message:
    """Ask the client for every input; the members to add to the params of the retry.

    Raises RpcError where the client has no answer.
    """
    wanted = jsonrpc.members(result.get("inputRequests", jsonrpc.EMPTY))
    if len(wanted) > SERVER_REQUESTS.value:
        SERVER_REQUESTS.record()
        raise NotMcp(f"it asks for more than {SERVER_REQUESTS.value} things at once")
    if caller.client.modern:
        # It gets all of them in one result.
        answers = dict(zip(wanted, await _together(wanted, caller), strict=True))
    else:
        answers = {key: await _asked(key, raw, caller) for key, raw in wanted.items()}
    added: Message = {"inputResponses": jsonrpc.dump(answers)} if wanted else {}
    if "requestState" in result:
        added["requestState"] = result["requestState"]
    return added
