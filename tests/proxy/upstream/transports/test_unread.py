"""Responses that violate the schema: read as SDKs read them, or an immediate error."""

import asyncio
import json
import sys
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.limits.backends import BACKEND_BATCH
from mcpproxy.proxy.core.errors import ProcessExited, ProtocolError
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest
from mcpproxy.proxy.upstream.transports.stdio import spawn
from tests.proxy.upstream.answering import ID, ON_CHANNELS, TRANSPORTS, Told, answering, called
from tests.proxy.upstream.pipe import Pipe

OWN = b'"jsonrpc":"2.0","id":%b' % ID
RESULT = b'{%b,"result":{"a":1}}' % OWN
ERROR = b'"error":{"code":-5,"message":"no"}'
UNKNOWN = b'"error":{"code":-32601,"message":"no"}'
LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":%b}'


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(RESULT.replace(b"1", b"NaN"), {"a": None}, id="NaN"),
        pytest.param(b'{%b,"result":{"a":[-Infinity,"NaN"]}}' % OWN, {"a": [None, "NaN"]}),
        pytest.param(b'{%b,"result":{"a":"x\\ud83d"}}' % OWN, {"a": "x\ufffd"}, id="surrogate"),
        pytest.param(b'{%b,"result":{"a":"\xe9"}}' % OWN, {"a": "\ufffd"}, id="latin-1"),
        pytest.param(b"\xef\xbb\xbf" + RESULT, {"a": 1}, id="BOM"),
        pytest.param(b'{%b,"result":{"a":1},"error":null}' % OWN, {"a": 1}, id="error-null"),
        pytest.param(b'{"jsonrpc":"2.0","id":"@ID@","result":{"a":1}}', {"a": 1}, id="string"),
    ],
)
async def test_a_response_that_sdks_read_is_read(
    transport: str, answer: bytes, result: Any
) -> None:
    if transport.startswith("modern"):
        answer = answer.replace(b'"@ID@"', b'"7"')
    async with answering(transport, answer) as (link, _):
        assert (await called(link))["result"] == result


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b'{"jsonrpc":"2.0",%b}' % ERROR, id="without-id"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,%b}' % ERROR, id="null"),
        pytest.param(b'{"jsonrpc":"2.0","id":"server-error",%b}' % ERROR, id="server-error"),
        pytest.param(b'{%b,"result":null,%b}' % (OWN, ERROR), id="result-null"),
        pytest.param(b'{%b,"error":{"code":"-5","message":"no"}}' % OWN, id="code-as-text"),
    ],
)
async def test_an_error_of_any_shape_reaches_its_caller_with_code_and_message(
    transport: str, answer: bytes
) -> None:
    async with answering(transport, answer) as (link, _):
        response = await called(link)
    assert (response["error"]["code"], response["error"]["message"]) == (-5, "no")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b'{%b,"result":{"a":}}' % OWN, id="malformed"),
        pytest.param(b'{%b,"result":{"a":"x' % OWN, id="cut"),
        pytest.param(b'{"jsonrpc":"2.0","result":{"a":1}}', id="result-without-id"),
        pytest.param(b'[{%b,"result":{"a":}}]' % OWN, id="malformed-batch"),
        pytest.param(b'{"jsonrpc":"2.0","result":{"a":\x1b[31m', id="terminal"),
    ],
)
async def test_an_unread_response_ends_its_call_with_its_first_bytes(
    transport: str, answer: bytes
) -> None:
    async with answering(transport, answer) as (link, _):
        with pytest.raises(ProtocolError) as caught:
            await called(link)
    assert '"jsonrpc":"2.0"' in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_notifications_with_null_params_or_id_are_forwarded(transport: str) -> None:
    caller = Told()
    notification = LOG % b'null,"id":null'
    body = b"[%b,%b]" % (notification, RESULT)
    async with answering(transport, body) as (link, _):
        assert (await called(link, caller))["result"] == {"a": 1}
    assert caller.methods == ["notifications/message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_batch_of_a_backend_is_read_message_by_message(transport: str) -> None:
    caller = Told()
    batch = b"[%b, %b]" % (LOG % b'{"level":"info","data":1}', RESULT)
    async with answering(transport, batch) as (link, _):
        assert (await called(link, caller))["result"] == {"a": 1}
    assert caller.methods == ["notifications/message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_batch_of_a_backend_beyond_the_limit_ends_the_call_with_a_reason(
    transport: str,
) -> None:
    before = BACKEND_BATCH.reached
    batch = b"[%b]" % b",".join([RESULT] * (BACKEND_BATCH.value + 1))
    async with answering(transport, batch) as (link, _):
        with pytest.raises(ProtocolError, match="more than 100 messages"):
            await called(link)
    assert BACKEND_BATCH.reached > before


@pytest.mark.parametrize("transport", ON_CHANNELS)
@pytest.mark.parametrize("unnamed", [UNKNOWN, b'"id":null,"result":{}'])
async def test_a_response_to_a_notification_ends_no_call(transport: str, unnamed: bytes) -> None:
    refused = b'{"jsonrpc":"2.0",%b}' % unnamed
    separator = b"\n" if transport == "stdio" else b"\n\ndata: "
    async with answering(transport, refused + separator + RESULT) as (link, _):
        await link.notify(jsonrpc.notification_message("notifications/initialized"))
        assert (await called(link))["result"] == {"a": 1}


@pytest.mark.parametrize("transport", ON_CHANNELS)
async def test_an_error_without_an_id_ends_a_call_behind_a_notification(transport: str) -> None:
    async with answering(transport, b'{"jsonrpc":"2.0","id":null,%b}' % ERROR) as (link, _):
        await link.notify(jsonrpc.notification_message("notifications/initialized"))
        assert (await called(link))["error"]["code"] == -5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
async def test_a_stdio_server_that_writes_utf_16_gets_an_error_immediately(encoding: str) -> None:
    program = (
        "import sys\n"
        "for line in sys.stdin:\n"
        f'  out = \'{{"jsonrpc":"2.0","id":1,"result":{{}}}}\\n\'.encode(\'{encoding}\')\n'
        "  sys.stdout.buffer.write(out)\n"
        "  sys.stdout.buffer.flush()\n"
    )
    background = TaskSet()
    link = MultiplexedSession(
        await spawn("b", (sys.executable, "-ISu", "-c", program), {}, None), background
    )
    with pytest.raises(ProtocolError, match="cannot read the response"):
        await called(link)
    await link.close()
    await background.close()


async def test_the_error_of_an_exited_stdio_server_quotes_its_last_output() -> None:
    program = "input(); print('Usage: server --stdio')"
    background = TaskSet()
    link = MultiplexedSession(
        await spawn("b", (sys.executable, "-ISu", "-c", program), {}, None), background
    )
    with pytest.raises(ProcessExited, match=r"exited.*Usage: server --stdio"):
        await called(link)
    await link.close()
    await background.close()


class Named(NullContext):
    """A client with a session."""

    def __init__(self, session: str) -> None:
        super().__init__(ClientIdentity("2025-11-25", session=session))


def _request(link: MultiplexedSession, session: str) -> "asyncio.Task[Any]":
    outgoing = UpstreamRequest(Raw(b"1"), "tools/call", {})
    return asyncio.create_task(link.request(outgoing, Named(session)))


async def _responded(pipe: Pipe, link: MultiplexedSession) -> None:
    """Let the backend respond to a first request."""
    greeted = _request(link, "a")
    pipe.says(id=(await pipe.sent.get())["id"], result={})
    await greeted


async def test_a_program_that_starts_gives_its_first_error_to_the_first_request() -> None:
    pipe, background = Pipe(), TaskSet()
    link = MultiplexedSession(pipe, background)
    first, second = _request(link, "a"), _request(link, "a")
    await pipe.sent.get()
    own = (await pipe.sent.get())["id"]
    pipe.writes('{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no"}}')
    assert "error" in await first
    pipe.says(id=own, result={})
    assert "result" in await second
    await link.close()
    await background.close()


@pytest.mark.parametrize("other", ["a", "b"])
async def test_an_error_without_an_id_ends_the_latest_call_and_no_other(other: str) -> None:
    pipe, background = Pipe(), TaskSet()
    link = MultiplexedSession(pipe, background)
    await _responded(pipe, link)
    earlier = _request(link, "a")
    first = (await pipe.sent.get())["id"]
    latest = _request(link, other)
    await pipe.sent.get()
    pipe.writes('{"jsonrpc":"2.0","error":{"code":-32700,"message":"secret"}}')
    if other == "a":
        assert b"secret" in bytes((await latest)["error"])
    else:
        with pytest.raises(ProtocolError, match="names no request") as caught:
            await latest
        assert "secret" not in str(caught.value)
    pipe.says(id=first, result={})
    assert "result" in await earlier
    await link.close()
    await background.close()


async def test_a_request_of_a_backend_that_cannot_be_read_is_refused() -> None:
    pipe, background = Pipe(), TaskSet()
    link = MultiplexedSession(pipe, background)
    pipe.writes('{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"a":}}')
    refused = await pipe.sent.get()
    assert (refused["id"], refused["error"]["code"]) == ("q", -32700)
    await link.close()
    await background.close()


async def test_output_of_a_server_does_not_end_a_call() -> None:
    pipe, background = Pipe(), TaskSet()
    link = MultiplexedSession(pipe, background)
    call = _request(link, "a")
    own = (await pipe.sent.get())["id"]
    for printed in (
        json.dumps({"level": "info", "id": own, "message": "x"}),
        "{'error': 1}",
        "{starting up}",
        '{"result":1}',
        "[INFO] started",
    ):
        pipe.writes(printed)
    pipe.writes(json.dumps({"jsonrpc": "2.0", "id": own, "result": {}}))
    assert "result" in await call
    await link.close()
    await background.close()


async def test_an_unreadable_message_that_is_not_utf_8_ends_no_session() -> None:
    pipe, background = Pipe(), TaskSet()
    link = MultiplexedSession(pipe, background)
    await link.notify(jsonrpc.notification_message("notifications/initialized"))
    await pipe.sent.get()
    pipe.writes_bytes(b'{"jsonrpc":"1.0","id":null,"error":{"code":1,"message":"caf\xe9"}}')
    await _responded(pipe, link)
    assert link.alive
    await link.close()
    await background.close()
