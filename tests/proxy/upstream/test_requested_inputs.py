"""Inputs that a modern backend requests in a result, as requests to the client."""

import json
from typing import Any

import pytest

from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.exchange import ClientIdentity, NotificationHandler, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.input_polling import collect_inputs

ROOTS = {"method": "roots/list"}


class Asked(NullContext):
    """A client that answers with the id and the method of each request."""

    def __init__(self, revision: str) -> None:
        super().__init__(ClientIdentity(revision))
        self.requests: list[Any] = []

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        self.requests.append({name: json.loads(bytes(raw)) for name, raw in request.items()})
        return {"result": request["id"]}


async def _collected(revision: str, **requested: Any) -> tuple[Any, list[Any]]:
    caller = Asked(revision)
    result: Message = {"inputRequests": jsonrpc.encode_raw(requested)}
    added = await collect_inputs(result, caller)
    return json.loads(bytes(added["inputResponses"])), caller.requests


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_requested_input_has_its_key_as_the_id_of_the_request(revision: str) -> None:
    answers, requests = await _collected(revision, a=ROOTS, b={**ROOTS, "id": 7, "jsonrpc": "1"})
    assert answers == {"a": "a", "b": "b"}
    assert requests == [{"jsonrpc": "2.0", "id": key, **ROOTS} for key in ("a", "b")]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("entry", [{}, {"id": 7, "params": {}}, {"method": 7}, 7, None])
async def test_a_requested_input_without_a_method_is_an_error_of_the_backend(
    revision: str, entry: Any
) -> None:
    with pytest.raises(ProtocolError, match="without a method"):
        await _collected(revision, a=ROOTS, b=entry)
