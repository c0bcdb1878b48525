"""Input and tasks of modern backends for legacy clients.

A modern backend may answer a call with `input_required`, or with a task whose result has to be
fetched. Legacy clients know neither, so the proxy sends the client a server request for the input,
and polls the task until it is complete.
"""

import asyncio
import itertools
import secrets
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.backends import SERVER_REQUESTS
from mcpproxy.limits.extensions import TASK_POLL
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, declaring
from mcpproxy.proxy.core.errors import BackendError, ProtocolError
from mcpproxy.proxy.core.exchange import CallContext, NullContext
from mcpproxy.proxy.core.translation import era_translation
from mcpproxy.proxy.core.translation.url_elicitation import with_elicitation_id
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INTERNAL_ERROR, UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.upstream.transports.session import (
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

TASK: Final = "task"
"""`resultType` of a result that is a task."""
LONGEST_PAUSE: Final = 10.0
"""Maximum seconds between two polls, whatever `pollIntervalMs` the backend requests."""
CANCEL_WITHIN: Final = 5.0
"""Seconds that a backend has to respond to `tasks/cancel`."""
INPUT_RESPONSES: Final = "inputResponses"
RETRY: Final = 0.05
"""Seconds before a call is repeated if the backend requests a retry without input. Doubles with
each retry."""
MAX_RETRY: Final = 5.0
_polls: Final = itertools.count(1)


async def wait_for_task(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    task: Message,
    caller: CallContext,
    background: TaskSet,
) -> Message:
    """Poll a task until it is complete, and return the response to the request that created it.

    A request timeout cancels this coroutine as it cancels any other call. If no client waits for
    the task any longer, `background` cancels it. Raises BackendError, RpcError.
    """
    task_id = jsonrpc.decode_str(task.get("taskId"))
    if task_id is None:
        raise ProtocolError("the backend created a task without a taskId")
    try:
        return await _poll(link, outgoing, task_id, task, caller)
    except BaseException:
        background.spawn(_cancel(link, task_id, caller))
        raise


async def _poll(
    link: UpstreamSession,
    outgoing: UpstreamRequest,
    task_id: str,
    task: Message,
    caller: CallContext,
) -> Message:
    asked: set[str] = set()
    while (answer := _response_of(outgoing, task)) is None:
        if jsonrpc.decode_str(task.get("status")) == "input_required":
            await _answer_questions(link, task_id, task, asked, caller)
        await asyncio.sleep(_pause(task))
        response = await link.request(_task_request(link, "tasks/get", task_id, caller), caller)
        if jsonrpc.error_of(response) is not None:
            return response
        task = _decode_object(response["result"])
    return answer


def _response_of(outgoing: UpstreamRequest, task: Message) -> Message | None:
    """Return the response that follows from the status of a task, or None while the task runs.

    Raises ProtocolError if the status is unknown or the result is missing.
    """
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
    raise ProtocolError(
        f"the task has the status {(status or 'none')[:50]}, or its result is missing"
    )


def _error(code: int, message: str, task: Message) -> dict[str, Any]:
    more = jsonrpc.decode_str(task.get("statusMessage"))
    return {"code": code, "message": message if more is None else f"{message}: {more}"}


def _pause(task: Message) -> float:
    interval = jsonrpc.decode(task.get("pollIntervalMs"))
    seconds = interval / 1000 if isinstance(interval, int | float) else 0.0
    if seconds < TASK_POLL.value:
        if seconds:
            TASK_POLL.record()
        return TASK_POLL.value
    return min(seconds, LONGEST_PAUSE)


async def _answer_questions(
    link: UpstreamSession, task_id: str, task: Message, asked: set[str], caller: CallContext
) -> None:
    """Get the new inputs from the client, and send them to the task."""
    requested = _decode_object(task.get("inputRequests", jsonrpc.EMPTY))
    new = {key: raw for key, raw in requested.items() if key not in asked}
    if not new:
        return
    # A key identifies one input request for the lifetime of the task.
    asked.clear()
    asked.update(requested)
    answers = await collect_inputs({"inputRequests": jsonrpc.encode_raw(new)}, caller)
    response = await link.request(
        _task_request(link, "tasks/update", task_id, caller, answers), caller
    )
    error = jsonrpc.error_of(response)
    if error is not None:
        raise error


def _task_request(
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
        link.server.revision,
        caller.log_level,
        declaring(client.capabilities, TASKS_EXTENSION),
    )
    return UpstreamRequest(Raw(b'"mcpproxy-task-%d"' % next(_polls)), method, params)


async def _cancel(link: UpstreamSession, task_id: str, caller: CallContext) -> None:
    """Cancel a task that no client waits for. Never raises."""
    nobody = NullContext(caller.client)
    try:
        async with asyncio.timeout(CANCEL_WITHIN):
            await link.request(_task_request(link, "tasks/cancel", task_id, nobody), nobody)
    except (BackendError, RpcError, TimeoutError):
        return


def _decode_object(raw: Raw) -> Message:
    """Return the fields of a JSON object from the backend. Raises ProtocolError for other
    values."""
    try:
        return jsonrpc.decode_object(raw)
    except RpcError:
        raise ProtocolError("the task is not a JSON object") from None


def _as_request(key: str, raw: Raw) -> Message:
    """Return the server request for one requested input. Raises ProtocolError if it has no
    method."""
    try:
        fields = jsonrpc.decode_object(raw)
    except RpcError:
        fields = {}
    if jsonrpc.decode_str(fields.get("method")) is None:
        raise ProtocolError("the backend requested an input without a method")
    return {**fields, "jsonrpc": jsonrpc.VERSION, "id": jsonrpc.encode_raw(key)}


async def _ask_client(request: Message, caller: CallContext) -> Any:
    answer = await caller.ask(request)
    error = jsonrpc.error_of(answer)
    if error is not None:
        raise error
    return answer["result"]


async def _ask_client_at_once(requests: Iterable[Message], caller: CallContext) -> list[Any]:
    asking = [asyncio.create_task(_ask_client(request, caller)) for request in requests]
    try:
        return await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()


async def retry_params(
    params: Message | None, result: Message, caller: CallContext, round_: int
) -> Message:
    """Return the params of the retry of a request whose response is `input_required`.

    They have the inputs and the state of this response only. If it requests no input, the retry
    waits, because the backend does not say when: 50 ms in round 0, and twice as long in each
    further one. Raises as `collect_inputs` does.
    """
    added = await collect_inputs(result, caller)
    if INPUT_RESPONSES not in added:
        await asyncio.sleep(min(RETRY * 2**round_, MAX_RETRY))
    replaced = (INPUT_RESPONSES, "requestState")
    kept = {name: raw for name, raw in (params or {}).items() if name not in replaced}
    return {**kept, **added}


async def collect_inputs(result: Message, caller: CallContext) -> Message:
    """Get every requested input from the client, and return the fields to add to the retry's
    params.

    Raises RpcError if the client responds with an error, ProtocolError if the backend requests too
    many inputs, or one without a method.
    """
    requested = jsonrpc.decode_object(result.get("inputRequests", jsonrpc.EMPTY))
    if len(requested) > SERVER_REQUESTS.value:
        SERVER_REQUESTS.record()
        raise ProtocolError(
            f"the backend requested more than {SERVER_REQUESTS.value} inputs at once"
        )
    requests = {key: _as_request(key, raw) for key, raw in requested.items()}
    if caller.client.modern:
        # Modern clients get all input requests in one result.
        answers = await _ask_client_at_once(requests.values(), caller)
    else:
        answers = [
            await _ask_client(with_elicitation_id(request, secrets.token_urlsafe(12)), caller)
            for request in requests.values()
        ]
    responses = jsonrpc.encode_raw(dict(zip(requests, answers, strict=True)))
    added: Message = {INPUT_RESPONSES: responses} if requests else {}
    if "requestState" in result:
        added["requestState"] = result["requestState"]
    return added
