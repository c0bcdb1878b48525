"""What a ProxyClient's handlers mean: forward a feature, withdraw it, or answer it here."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import mcp_types as t
from pydantic import BaseModel

from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.client_features import Answer, FeaturePolicy


class ForwardFeature:
    """Marks a feature that passes between backend and client untouched: the default."""

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
    """Each of them is FORWARD, None (withdrawn) or what answers in the client's place."""
    given: dict[str, tuple[Any, Callable[[Any], Answer]]] = {
        "roots": (roots, _roots),
        "sampling": (sampling, _sampling),
        "elicitation": (elicitation, _elicitation),
        "logging": (logging, _logging),
        "progress": (progress, _progress),
    }
    withdrawn = frozenset(name for name, (handler, _) in given.items() if handler is None)
    answers = {
        name: adapt(handler)
        for name, (handler, adapt) in given.items()
        if handler is not None and handler is not FORWARD
    }
    return FeaturePolicy(withdrawn, answers)


async def await_result(found: Any) -> Any:
    """A value, awaited where it has to be."""
    return await found if inspect.isawaitable(found) else found


def to_wire(model: BaseModel) -> Any:
    """A model of the SDK as JSON."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def _plain(params: Message) -> Any:
    return jsonrpc.decode(jsonrpc.encode_raw(params))


def _roots(given: Any) -> Answer:
    async def answer(params: Message) -> Any:
        found: Any = await await_result(given()) if callable(given) else given
        roots = [root if isinstance(root, t.Root) else t.Root(uri=root) for root in found]
        return to_wire(t.ListRootsResult(roots=roots))

    return answer


def _sampling(handler: SamplingHandler) -> Answer:
    async def answer(params: Message) -> Any:
        found = await await_result(
            handler(t.CreateMessageRequestParams.model_validate(_plain(params), by_name=False))
        )
        if isinstance(found, str):
            content = t.TextContent(type="text", text=found)
            found = t.CreateMessageResult(role="assistant", content=content, model="mcpproxy")
        return to_wire(found)

    return answer


def _elicitation(handler: ElicitationHandler) -> Answer:
    async def answer(params: Message) -> Any:
        content = _plain(params)
        model: Any = (
            t.ElicitRequestURLParams if content.get("mode") == "url" else t.ElicitRequestFormParams
        )
        found = await await_result(handler(model.model_validate(content, by_name=False)))
        if isinstance(found, dict):
            found = t.ElicitResult(action="accept", content=found)
        return to_wire(found)

    return answer


def _logging(handler: LogHandler) -> Answer:
    async def listen(params: Message) -> Any:
        model = t.LoggingMessageNotificationParams
        await await_result(handler(model.model_validate(_plain(params), by_name=False)))

    return listen


def _progress(handler: ProgressHandler) -> Answer:
    async def listen(params: Message) -> Any:
        said = _plain(params)
        await await_result(handler(said["progress"], said.get("total"), said.get("message")))

    return listen
