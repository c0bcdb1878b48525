"""Notifications about tasks reach only those who listen to the task."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.result_names import TASK_NOTIFICATIONS
from mcpproxy.proxy.core.translation.task_ids import TaskIds
from mcpproxy.proxy.gateway.task_notifications import _TaskStream
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

OWN, OTHER = "task-of-bob", "task-of-ann"


@pytest.mark.parametrize("method", sorted(TASK_NOTIFICATIONS))
async def test_a_notification_about_a_task_of_another_client_is_dropped(method: str) -> None:
    names = PrefixMapping("", TaskIds("b", Sealer([b"k" * 32], os.urandom)))
    backend: Any = SimpleNamespace(name="b", names=names)
    received: list[Message] = []
    client = ClientIdentity("2026-07-28", principal="bob")
    stream = _TaskStream(backend, {OWN: "sealed"}, client, received.append)
    for task in (OTHER, OWN):
        params = {"taskId": task, "status": "working", "statusMessage": f"secret of {task}"}
        await stream.notify(jsonrpc.notification_message(method, params))
    await stream.notify(jsonrpc.notification_message(method, {"taskId": ["no", "text"]}))
    assert [jsonrpc.decode(message["params"])["statusMessage"] for message in received] == [
        f"secret of {OWN}"
    ]
