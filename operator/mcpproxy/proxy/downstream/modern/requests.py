"""Requests of modern clients, which are independent and have the client's identity in `_meta`."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Raw

from mcpproxy.limits.clients import SUBSCRIPTIONS
from mcpproxy.proxy.core.access import Access
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION, declares
from mcpproxy.proxy.core.exchange import (
    ClientIdentity,
    NotificationHandler,
    ResumableStream,
)
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.fair_shares import Holder
from mcpproxy.proxy.gateway.aggregate import INITIALIZE_WAIT
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.gateway.routing.router import extra_fields_of, upstream_request_of
from mcpproxy.proxy.gateway.task_notifications import TaskNotifications
from mcpproxy.proxy.http1.server.response_writer import PING_EVERY
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    Message,
    RpcError,
)
from mcpproxy.proxy.protocol.kinds import BY_METHOD, SUBSCRIBE
from mcpproxy.proxy.relay import Call, relay_request
from mcpproxy.proxy.upstream.large_results import ResultSink

Emit = Callable[[bytes], Awaitable[None]]
LISTEN: Final = "subscriptions/listen"
DISCOVER: Final = "server/discover"
CALL: Final = "tools/call"
_LEGACY_ONLY: Final = frozenset(
    {
        "initialize",
        "ping",
        "logging/setLevel",
        SUBSCRIBE,
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
    }
)
_TASK_METHODS: Final = TASKS_EXTENSION.routed.keys() - _LEGACY_ONLY
_CHECKED_FIRST: Final = _LEGACY_ONLY | _TASK_METHODS
"""Methods of which some are rejected before routing."""
_CHANGE_METHODS: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}


class ModernCallContext:
    """Call context of a call to a modern backend, which sends no server requests."""

    resumption: ResumableStream | None = None

    def __init__(
        self, client: ClientIdentity, log_level: str | None, emit: Emit, network: str = ""
    ) -> None:
        self.client = client
        self.log_level = log_level
        self.network = network
        self._emit = emit

    async def notify(self, message: Message) -> None:
        # Log messages only go to clients that set a level (server/logging).
        quiet = self.log_level is None
        if quiet and jsonrpc.decode_str(message["method"]) == "notifications/message":
            return
        await self._emit(jsonrpc.encode(message))

    async def ask(
        self, request: Message, on_notification: NotificationHandler | None = None
    ) -> Message:
        # A modern backend responds with input_required instead.
        raise RpcError(METHOD_NOT_FOUND, "servers of modern revisions do not send requests")


async def server_discover(gateway: Gateway, access: Access | None = None) -> bytes:
    """Return the result of server/discover."""
    await gateway.aggregate.settled(INITIALIZE_WAIT)
    result: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": list(rev.MODERN),
        "capabilities": gateway.aggregate.capabilities(modern=True, access=access),
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {rev.META_SERVER_INFO: gateway.aggregate.server_info()},
    }
    instructions = gateway.aggregate.instructions(access)
    if instructions is not None:
        result["instructions"] = instructions
    return jsonrpc.encode(result)


async def handle_modern_request(
    gateway: Gateway,
    parking: SuspendedCalls,
    request: Message,
    params: Message,
    caller: ModernCallContext,
    route: Route | None,
    call: Call | None = None,
    sink: ResultSink | None = None,
) -> Message | bytes:
    """Return the response to a request (other than subscriptions/listen). Raise RpcError.

    `route` is its destination if it names a component. `call` is the call if it was routed already,
    and `sink` gets the parts of its large result.
    """
    method = jsonrpc.decode_str(request["method"]) or ""
    kind = BY_METHOD.get(method)
    if kind is not None:
        merged = await gateway.aggregate.listing(kind, params, modern=True, client=caller.client)
        return jsonrpc.response(request["id"], merged)
    if method == DISCOVER:
        return jsonrpc.response(request["id"], await server_discover(gateway, caller.client.access))
    if method in _LEGACY_ONLY:
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")
    if route is None:
        return await relay_request(gateway, request, method, params, caller)
    if call is None:
        extra = extra_fields_of(request)
        upstream = upstream_request_of(request["id"], method, params, route, extra)
        call = Call(gateway, route.backend, upstream, caller.client)
    if parking.owner(params) is not None or gateway.can_request_input(route, params):
        resolves = route.backend.is_program
        return await parking.run(
            lambda context: call.run(request, context, sink, resolves_input=resolves),
            request,
            params,
            caller.client,
            caller.log_level,
            caller.notify,
            caller.network,
        )
    return await call.run(request, caller, sink)


def find_route(
    gateway: Gateway, method: str, params: Message, client: ClientIdentity
) -> Route | None:
    """Return the route of a request, or None without a component or task. Raise RpcError."""
    if method in _CHECKED_FIRST:
        if method in _LEGACY_ONLY:
            return None
        if len(gateway.backends) > 1:
            require_tasks(client)
    if not gateway.routing.is_routed(method):
        return gateway.routing.guess_route(method, params, client)
    return gateway.routing.route(method, params, client)


def require_tasks(client: ClientIdentity) -> None:
    """Raise RpcError if a client does not declare the tasks extension."""
    if not declares(client.capabilities, TASKS_EXTENSION):
        raise RpcError(
            MISSING_CAPABILITY,
            "missing required client capability",
            {"requiredCapabilities": {"extensions": {TASKS_EXTENSION.name: {}}}},
        )


class SubscriptionStream:
    """One `subscriptions/listen`: an acknowledgment, then notifications with the request's id."""

    def __init__(
        self,
        gateway: Gateway,
        request: Message,
        params: Message,
        outbox: MessageQueue | None = None,
        holder: Holder = ("", ""),
        client: ClientIdentity | None = None,
    ) -> None:
        """Create a stream. Its subscriptions count for `holder`; `client` may follow its tasks.

        Raise RpcError.
        """
        filters = jsonrpc.decode(params.get("notifications"))
        if not isinstance(filters, dict):
            raise RpcError(INVALID_PARAMS, "params.notifications must be an object")
        self._id = request["id"]
        self.outbox = MessageQueue() if outbox is None else outbox
        self._acknowledged: dict[str, Any] = {
            name: True for name in _CHANGE_METHODS if filters.get(name) is True
        }
        self._methods = {_CHANGE_METHODS[name] for name in self._acknowledged}
        self._gateway = gateway
        self._client = client
        tasks = filters.get("taskIds")
        self._tasks = _texts(tasks)
        if client is not None and tasks is not None:
            require_tasks(client)
        self._streams = TaskNotifications(client, self._updated) if client and self._tasks else None
        self._unsubscribe = gateway.subscribe(self._changed, "", client)
        self._uris = _texts(filters.get("resourceSubscriptions"))
        self._holder = holder
        self._ends: list[Callable[[], Awaitable[None]]] = []
        self._gauge = gateway.metrics.streams

    def _changed(self, method: str) -> None:
        if method in self._methods:
            self.outbox.announce(self._encode_notification(method, {}))

    def _updated(self, message: Message) -> None:
        params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
        tagged = {**parse_meta(params), **self._meta()}
        changed = {**message, "params": jsonrpc.encode_raw({**params, "_meta": tagged})}
        self.outbox.announce(jsonrpc.encode(changed))

    async def _subscribe(self) -> None:
        """Subscribe to the requested resources; failed subscriptions are not acknowledged."""
        subscribed = []
        for uri in self._uris:
            try:
                end = await self._gateway.subscribe_resource(
                    uri, self._updated, self._holder, self._client
                )
            except RpcError as error:
                self._record_refusal(error, SUBSCRIBE, uri=uri)
                continue
            self._ends.append(end)
            subscribed.append(uri)
        if subscribed:
            self._acknowledged["resourceSubscriptions"] = subscribed

    async def _follow_tasks(self) -> None:
        """Follow the requested tasks; unknown tasks are not acknowledged."""
        if self._streams is None or self._client is None:
            return
        routes = []
        for task in self._tasks:
            params = {"taskId": jsonrpc.encode_raw(task)}
            try:
                route = self._gateway.routing.route("tasks/get", params, self._client)
            except RpcError as error:
                self._record_refusal(error, "tasks/get", taskId=task)
                continue
            routes.append(route)
        acknowledged = await self._streams.open(routes)
        if acknowledged:
            self._acknowledged["taskIds"] = acknowledged

    def _record_refusal(self, error: RpcError, method: str, **params: str) -> None:
        encoded = {"method": jsonrpc.encode_raw(method), "params": jsonrpc.encode_raw(params)}
        self._gateway.routing.record_refusal(error, encoded)

    def _encode_notification(self, method: str, params: dict[str, Any]) -> bytes:
        return jsonrpc.notification(method, {**params, "_meta": self._meta()})

    def _meta(self) -> dict[str, Raw]:
        return {rev.META_SUBSCRIPTION: self._id}

    async def run(self, emit: Emit, ping: Callable[[], Awaitable[None]]) -> bytes:
        """Send notifications until the queue ends; return the response that closes the stream."""
        self._gauge.inc()
        try:
            await self._subscribe()
            await self._follow_tasks()
            acknowledged = "notifications/subscriptions/acknowledged"
            await emit(
                self._encode_notification(acknowledged, {"notifications": self._acknowledged})
            )
            while True:
                try:
                    message = await self.outbox.get(PING_EVERY)
                except TimeoutError:
                    await ping()
                    continue
                if message is None:
                    break
                await emit(message)
        finally:
            self._gauge.dec()
            self._unsubscribe()
            if self._streams is not None:
                self._streams.close()
            for end in self._ends:
                await end()
        result = {"resultType": "complete", "_meta": self._meta()}
        return jsonrpc.response(self._id, jsonrpc.encode(result))


def _texts(value: Any) -> list[str]:
    """Return the distinct strings of a list, up to the limit of one listen."""
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
    kept = list(dict.fromkeys(texts))[: SUBSCRIPTIONS.value]
    if len(kept) < len(texts):
        SUBSCRIPTIONS.record()
    return kept


def is_modern_message(message: Message) -> bool:
    """Return True if the first message of a stream (stdio) is of the modern era."""
    method = jsonrpc.decode_str(message.get("method"))
    if method == DISCOVER:
        return True
    params = message.get("params")
    return params is not None and rev.META_VERSION in parse_meta(jsonrpc.decode_object(params))
