"""A server with the tools that the official suite requires for the tasks extension.

python -m scripts.conformance_tasks --port PORT

It supports only the revision 2026-07-28. The state of a task is computed when it is requested.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

EXTENSION: Final = "io.modelcontextprotocol/tasks"
REVISION: Final = "2026-07-28"
TTL_MS: Final = 600_000
_META: Final = "io.modelcontextprotocol/"
_NAMES: Final = {
    "tools/call": "name",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
JSON = dict[str, Any]


class Refused(Exception):
    """A request ends with an error."""

    def __init__(self, code: int, message: str, data: Any = None, status: int = 400) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data
        self.status = status


def _text(text: str, **more: Any) -> JSON:
    return {"content": [{"type": "text", "text": text}], **more}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _question(message: str, member: str) -> JSON:
    properties = {member: {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [member]}
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


@dataclass
class Task:
    """A task."""

    name: str
    seconds: float
    outcome: JSON
    """The outcome of the task, as a field `result` or `error`."""
    questions: JSON = field(default_factory=dict)
    created: str = field(default_factory=_now)
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def status(self) -> str:
        """The current status."""
        if self.cancelled:
            return "cancelled"
        if self.questions:
            return "input_required"
        if time.monotonic() - self.started < self.seconds:
            return "working"
        return "failed" if "error" in self.outcome else "completed"

    def state(self) -> JSON:
        """Return the task as in the response that creates it."""
        own = {"taskId": self.name, "status": self.status, "createdAt": self.created}
        return {**own, "lastUpdatedAt": _now(), "ttlMs": TTL_MS, "pollIntervalMs": 100}

    def details(self) -> JSON:
        """Return the task as in tasks/get and notifications."""
        details = self.state()
        if details["status"] == "input_required":
            details["inputRequests"] = self.questions
        elif details["status"] in ("completed", "failed"):
            details |= self.outcome
        return details


class Server:
    """The methods of the server."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._numbers = itertools.count(1)
        self._tools: dict[str, tuple[bool, Callable[[JSON], Task]]] = {
            "slow_compute": (False, self._slow),
            "failing_job": (True, lambda a: self._task(1.0, _text("it failed", isError=True))),
            "protocol_error_job": (False, self._protocol_error),
            "confirm_delete": (False, self._confirm),
            "multi_input": (False, self._multi),
            "test_tool_with_task": (True, self._greet_by_name),
        }
        """Tool → (True if it requires the extension, function that creates its task)."""

    def _task(self, seconds: float, result: JSON, **questions: JSON) -> Task:
        name = f"task-{next(self._numbers)}-{time.time_ns():x}"
        outcome = {"result": {"resultType": "complete", **result}}
        task = self._tasks[name] = Task(name, seconds, outcome, questions)
        return task

    def _slow(self, arguments: JSON) -> Task:
        seconds = float(arguments.get("seconds", 1))
        return self._task(seconds, _text(f"computed for {seconds:g} s"))

    def _protocol_error(self, arguments: JSON) -> Task:
        task = self._task(0.2, {})
        task.outcome = {"error": {"code": -32603, "message": "internal error"}}
        return task

    def _confirm(self, arguments: JSON) -> Task:
        return self._task(0.0, _text("deleted"), confirm=_question("Delete it?", "confirm"))

    def _multi(self, arguments: JSON) -> Task:
        first, second = _question("First?", "one"), _question("Second?", "two")
        return self._task(0.0, _text("both answered"), first=first, second=second)

    def _greet_by_name(self, arguments: JSON) -> Task:
        return self._task(0.2, _text(f"Hello, {arguments['user_name']}!"))

    async def answer(self, method: str, params: JSON) -> JSON:
        """Return the result of a request. Raise Refused."""
        if method == "server/discover":
            return self._discover_result()
        if method == "tools/list":
            return {"tools": self._tool_list(), "ttlMs": 0, "cacheScope": "private"}
        if method == "tools/call":
            return await self._call_tool(params)
        if method in ("tasks/get", "tasks/update", "tasks/cancel"):
            return self._about_task(method, params)
        raise Refused(-32601, f"method not found: {method}", status=404)

    def _discover_result(self) -> JSON:
        capabilities: JSON = {"tools": {}, "extensions": {EXTENSION: {}}}
        info = {f"{_META}serverInfo": {"name": "tasks", "version": "1"}}
        result = {"supportedVersions": [REVISION], "capabilities": capabilities, "_meta": info}
        return {**result, "ttlMs": 0, "cacheScope": "private"}

    def _tool_list(self) -> list[JSON]:
        names = ("greet", *self._tools)
        return [{"name": name, "inputSchema": {"type": "object"}} for name in names]

    async def _call_tool(self, params: JSON) -> JSON:
        name, arguments = params.get("name"), params.get("arguments") or {}
        if name == "greet":
            return _text(f"Hello, {arguments.get('name', 'World')}!")
        needs, make = self._tools.get(str(name), (False, None))
        if make is None:
            raise Refused(-32602, f"unknown tool: {name}")
        declared = _declared(params)
        if needs and not declared:
            raise _missing()
        if name == "test_tool_with_task":
            answers = params.get("inputResponses") or {}
            if "user_name" not in answers:
                input_requests = {"user_name": _question("What is your name?", "user_name")}
                return {"resultType": "input_required", "inputRequests": input_requests}
            content = answers["user_name"].get("content") or {}
            arguments = {"user_name": next(iter(content.values()), "nobody")}
        task = make(arguments)
        if declared and not (name == "slow_compute" and task.status == "completed"):
            return {"resultType": "task", **task.state()}
        await asyncio.sleep(task.seconds)
        if "error" in task.outcome:
            raise Refused(**task.outcome["error"])
        result: JSON = task.outcome["result"]
        return result

    def _about_task(self, method: str, params: JSON) -> JSON:
        if not _declared(params):
            raise _missing()
        task = self._tasks.get(str(params.get("taskId")))
        if task is None:
            raise Refused(-32602, "task not found")
        if method == "tasks/get":
            return task.details()
        if method == "tasks/cancel" and task.status in ("working", "input_required"):
            task.cancelled = True
        for key in params.get("inputResponses") or {}:
            task.questions.pop(key, None)
        return {}

    async def notes(self, ids: list[str], listen_id: Any) -> Any:
        """Yield the events of a listen stream: the acknowledgement, then each change of a task's
        status."""
        known = {task_id: "" for task_id in ids if task_id in self._tasks}
        tag = {f"{_META}subscriptionId": listen_id}
        yield _event("notifications/subscriptions/acknowledged", _acknowledged(known), tag)
        while True:
            for task_id in known:
                task = self._tasks[task_id]
                if known[task_id] != task.status:
                    known[task_id] = task.status
                    yield _event("notifications/tasks", task.details(), tag)
            await asyncio.sleep(0.05)


def _acknowledged(known: JSON) -> JSON:
    return {"notifications": {"taskIds": list(known)} if known else {}}


def _event(method: str, params: JSON, tag: JSON) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": {**params, "_meta": tag}}
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def _declared(params: JSON) -> bool:
    capabilities = (params.get("_meta") or {}).get(f"{_META}clientCapabilities") or {}
    return EXTENSION in (capabilities.get("extensions") or {})


def _missing() -> Refused:
    needed: JSON = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    return Refused(-32021, "missing required client capability", needed)


def _check_headers(request: Request, method: str, params: JSON) -> None:
    member = _NAMES.get(method)
    name = request.headers.get("mcp-name")
    wrong = request.headers.get("mcp-method") != method
    if wrong or (member in params and name != params[member]):
        raise Refused(-32020, "the headers do not match the body")


def app() -> Starlette:
    """Return the ASGI app."""
    server = Server()

    async def post(request: Request) -> Response:
        message = await request.json()
        if "id" not in message:
            return Response(status_code=202)
        method, params = message["method"], message.get("params") or {}
        answer: JSON = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            if request.headers.get("mcp-protocol-version") != REVISION:
                data = {"supported": [REVISION]}
                raise Refused(-32022, "unsupported protocol version", data)
            _check_headers(request, method, params)
            if method == "subscriptions/listen":
                ids = params["notifications"].get("taskIds")
                if ids is not None and not _declared(params):
                    raise _missing()
                stream = server.notes(ids or [], message["id"])
                return StreamingResponse(stream, media_type="text/event-stream")
            result = await server.answer(method, params)
            return JSONResponse({**answer, "result": {"resultType": "complete", **result}})
        except Refused as refused:
            return JSONResponse({**answer, "error": refused.error}, refused.status)

    return Starlette(routes=[Route("/mcp", post, methods=["POST"])])


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app(), port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
