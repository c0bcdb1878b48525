"""Handlers of a ProxyClient: each forwards a feature, disables it, or responds to it locally."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import mcp_types as t
from pydantic import BaseModel

from mcpproxy.proxy.embed import Answer, FeaturePolicy, Message, jsonrpc


class ForwardFeature:
    """Marker of a feature that passes unchanged between backend and client; the default."""

    def __repr__(self) -> str:
        return "FORWARD"


FORWARD: Final = ForwardFeature()

SamplingHandler = Callable[
    [t.CreateMessageRequestParams],
    "Awaitable[t.CreateMessageResult | str] | t.CreateMessageResult | str",
]
ElicitationHandler = Callable[
    [t.ElicitRequestParams],
    "Awaitable[t.ElicitResult | dict[str, Any]] | t.ElicitResult | dict[str, Any]",
]
LogHandler = Callable[[t.LoggingMessageNotificationParams], "Awaitable[None] | None"]
ProgressHandler = Callable[[float, float | None, str | None], "Awaitable[None] | None"]
Roots = Iterable["str | t.Root"] | Callable[[], "Awaitable[Iterable[str | t.Root]]"]


def feature_policy_of(
    roots: Any, sampling: Any, elicitation: Any, logging: Any, progress: Any
) -> FeaturePolicy:
    """Return the policy for handlers that are FORWARD, None (disabled) or a local handler."""
    features: dict[str, tuple[Any, Callable[[Any], Answer]]] = {
        "roots": (roots, _roots),
        "sampling": (sampling, _sampling),
        "elicitation": (elicitation, _elicitation),
        "logging": (logging, _logging),
        "progress": (progress, _progress),
    }
    disabled = frozenset(name for name, (handler, _) in features.items() if handler is None)
    answers = {
        name: adapt(handler)
        for name, (handler, adapt) in features.items()
        if handler is not None and handler is not FORWARD
    }
    return FeaturePolicy(disabled, answers)


async def await_result(value: Any) -> Any:
    """Return a value, awaited if it is awaitable."""
    return await value if inspect.isawaitable(value) else value


def to_wire(model: BaseModel) -> Any:
    """Return a model of the SDK as JSON."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def _plain(params: Message) -> Any:
    return jsonrpc.decode(jsonrpc.encode_raw(params))


def _roots(source: Any) -> Answer:
    async def answer(params: Message) -> Any:
        values: Any = await await_result(source()) if callable(source) else source
        roots = [root if isinstance(root, t.Root) else t.Root(uri=root) for root in values]
        return to_wire(t.ListRootsResult(roots=roots))

    return answer


def _sampling(handler: SamplingHandler) -> Answer:
    async def answer(params: Message) -> Any:
        result = await await_result(
            handler(t.CreateMessageRequestParams.model_validate(_plain(params), by_name=False))
        )
        if isinstance(result, str):
            content = t.TextContent(type="text", text=result)
            result = t.CreateMessageResult(role="assistant", content=content, model="mcpproxy")
        return to_wire(result)

    return answer


def _elicitation(handler: ElicitationHandler) -> Answer:
    async def answer(params: Message) -> Any:
        content = _plain(params)
        model: Any = (
            t.ElicitRequestURLParams if content.get("mode") == "url" else t.ElicitRequestFormParams
        )
        result = await await_result(handler(model.model_validate(content, by_name=False)))
        if isinstance(result, dict):
            result = t.ElicitResult(action="accept", content=result)
        return to_wire(result)

    return answer


def _logging(handler: LogHandler) -> Answer:
    async def listen(params: Message) -> Any:
        model = t.LoggingMessageNotificationParams
        await await_result(handler(model.model_validate(_plain(params), by_name=False)))

    return listen


def _progress(handler: ProgressHandler) -> Answer:
    async def listen(params: Message) -> Any:
        values = _plain(params)
        await await_result(handler(values["progress"], values.get("total"), values.get("message")))

    return listen
