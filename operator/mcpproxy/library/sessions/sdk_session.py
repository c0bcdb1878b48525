"""Sessions of the SDK's `Client` as upstream sessions, with the client's own callbacks."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import mcp_types as t
from mcp import Client as SdkClient
from mcp import MCPError
from mcp.client.session import ClientRequestContext
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT
from pydantic import BaseModel, TypeAdapter, ValidationError

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.library.client_handlers import to_wire
from mcpproxy.library.fastmcp_objects import ConnectedClient
from mcpproxy.library.targets import ServerTarget, reopenable, target_of
from mcpproxy.proxy.embed import (
    BackendContext,
    CallContext,
    ClientIdentity,
    Connector,
    Message,
    NegotiatingConnector,
    OnMessage,
    ProtocolError,
    ServerDescription,
    TaskSet,
    TimedOut,
    Unreachable,
    UpstreamRequest,
    UpstreamSession,
    jsonrpc,
    parse_meta,
)

GRACE: Final = 5.0
CALLBACKS: Final = (
    "sampling_callback",
    "list_roots_callback",
    "logging_callback",
    "elicitation_callback",
    "message_handler",
    "extensions",
)
_ANY: Final[Any] = TypeAdapter(dict[str, Any])


AnyClient = SdkClient | ConnectedClient


class RawRequest(BaseModel):
    """A request or notification whose params are not parsed."""

    name_param: ClassVar[str | None] = None
    method: str
    params: dict[str, Any] | None = None


class SdkUpstreamSession:
    """The session of a connected client."""

    stateful = True

    def __init__(self, client: AnyClient) -> None:
        session = client.session
        description = session.discover_result or session.initialize_result
        result = {} if description is None else to_wire(description)
        self.server = ServerDescription(
            client.protocol_version, jsonrpc.decode_object(jsonrpc.encode(result))
        )
        self._client = client

    @property
    def alive(self) -> bool:
        return is_connected(self._client)

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        params = outgoing.params
        request = RawRequest(
            method=outgoing.method,
            params=None if params is None else jsonrpc.decode(jsonrpc.encode_raw(params)),
        )
        token = parse_meta(params or {}).get("progressToken")

        async def report_progress(
            progress: float, total: float | None, message: str | None
        ) -> None:
            params_of_progress = {
                "progressToken": token,
                "progress": progress,
                "total": total,
                "message": message,
            }
            present = {
                name: value for name, value in params_of_progress.items() if value is not None
            }
            note = jsonrpc.notification("notifications/progress", present)
            await caller.notify(jsonrpc.decode_object(note))

        try:
            response = await self._response_of(request, None if token is None else report_progress)
            result = jsonrpc.encode(response)
        except MCPError as error:
            return self._error_response(outgoing, error)
        except ValidationError:
            raise ProtocolError(
                f"the result of {outgoing.method} does not match the protocol revision"
            ) from None
        except RuntimeError:
            raise Unreachable("the SDK client is no longer connected") from None
        return jsonrpc.decode_object(jsonrpc.response(outgoing.id, result))

    async def _response_of(self, request: RawRequest, progress: Any) -> Any:
        """Return the result. The client's callbacks provide input that a modern server requires."""
        session, params = self._client.session, dict(request.params or {})
        for _ in range(self._client.input_required_max_rounds):
            sent: Any = RawRequest(method=request.method, params=params)
            response: Any = await session.send_request(sent, _ANY, progress_callback=progress)
            if response.get("resultType") != "input_required":
                return response
            required = t.InputRequiredResult.model_validate(response, by_name=False)
            answers = {}
            for key, question in (required.input_requests or {}).items():
                context = ClientRequestContext(session=session, request_id=key)
                answer = await session.dispatch_input_request(context, question)
                if isinstance(answer, t.ErrorData):
                    raise MCPError(answer.code, answer.message, answer.data)
                answers[key] = to_wire(answer)
            params |= {"inputResponses": answers, "requestState": required.request_state}
            if required.request_state is None:
                del params["requestState"]
        raise ProtocolError("too many rounds of input requests")

    @staticmethod
    def _error_response(outgoing: UpstreamRequest, error: MCPError) -> Message:
        if error.code == CONNECTION_CLOSED:
            raise Unreachable("the connection of the SDK client was closed")
        if error.code == REQUEST_TIMEOUT:
            raise TimedOut("no response within the timeout of the SDK client")
        failure = jsonrpc.RpcError(error.code, error.message, error.data)
        return jsonrpc.decode_object(jsonrpc.error_response(outgoing.id, failure))

    # The client sends its own notifications.
    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None: ...

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # The client's own callbacks receive messages outside of requests.
        ready()

    # The session belongs to the user.
    async def close(self) -> None: ...


class OwnedSdkSession(SdkUpstreamSession):
    """A session of a client that was connected for this session."""

    def __init__(self, client: SdkClient, end: "ClientLifetime") -> None:
        super().__init__(client)
        self._end = end

    async def close(self) -> None:
        await self._end.close()


class ClientLifetime:
    """A task that holds a client's context, because cancel scopes belong to one task."""

    def __init__(self, client: SdkClient) -> None:
        self._client = client
        self._closing = asyncio.Event()
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with self._client:
                self._connected.set_result(None)
                await self._closing.wait()
        except Exception as error:
            # The backend is unreachable, whatever prevents the client from connecting.
            if not self._connected.done():
                self._connected.set_exception(Unreachable(f"the SDK client failed: {error}"))

    async def connected(self) -> None:
        """Wait until the client is connected. Raise Unreachable."""
        try:
            await asyncio.shield(self._connected)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect. Never raises."""
        self._closing.set()
        done, _ = await asyncio.wait([self._task], timeout=GRACE)
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._connected.done() and not self._connected.cancelled():
            self._connected.exception()


class SdkConnector(NegotiatingConnector):
    """A connector that connects a new copy of a client for every session."""

    def __init__(self, client: SdkClient, settings: BackendSettings, background: TaskSet) -> None:
        super().__init__(settings, background)
        self._client = client

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession:
        fresh = dataclasses.replace(self._client, server=reopenable(self._client.server))
        end = ClientLifetime(fresh)
        await end.connected()
        return OwnedSdkSession(fresh, end)

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        return await self._legacy(client)


def is_connected(client: AnyClient) -> bool:
    """True if an SDK client is between its `__aenter__` and its `__aexit__`."""
    with contextlib.suppress(RuntimeError):
        return client.session is not None
    return False


def target_of_client(client: SdkClient) -> ServerTarget:
    """Return the target of a client. If the client has callbacks, its sessions use them."""
    if not any(getattr(client, name) is not None for name in CALLBACKS):
        return target_of(client.server, None if client.mode == "auto" else client.mode)

    def make_connector(
        settings: BackendSettings, context: BackendContext, background: TaskSet
    ) -> Connector:
        return SdkConnector(client, settings, background)

    return ServerTarget(("client", id(client)), default_settings(), make_connector)


def target_of_session(client: ConnectedClient) -> ServerTarget:
    """Return the target of a connected client, whose only session cannot be replaced."""

    def make_connector(
        settings: BackendSettings, context: BackendContext, background: TaskSet
    ) -> Connector:
        raise Unreachable("the SDK client, which the caller had connected, is no longer connected")

    return ServerTarget(("client", id(client)), default_settings(), make_connector, once=True)


class SdkSession:
    """The shared session of a client that is already connected."""

    def __init__(self, client: AnyClient) -> None:
        self.listening = False
        self._link = SdkUpstreamSession(client)

    async def link(self, context: BackendContext) -> UpstreamSession:
        """Return the session."""
        return self._link

    def gone(self, link: UpstreamSession) -> None:
        """Do nothing: the session belongs to the user."""

    async def close(self) -> None:
        """Do nothing: the session belongs to the user."""
