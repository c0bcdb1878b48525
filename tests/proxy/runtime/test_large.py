"""Answers too large to be held: they reach the client while they come, and end with it."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.large import FORMS, HALF, RESULT, SHOWN, Client, Endless, last, written
from tests.proxy.runtime.raw import Raw
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import KINDS, LOGGED, SESSIONS, called, plain, stage
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
LARGE = 20_000_000
"""Twice what the sockets of the proxy hold at most, or more."""


def small_buffer(connection: socket.socket, option: int) -> None:
    """Have the kernel hold little for one end, so that an answer need not be larger than that."""
    connection.setsockopt(socket.SOL_SOCKET, option, 65_536)


def in_halves(form: str, client: Client) -> Callable[[Any, asyncio.StreamWriter], Any]:
    """Writes an answer: the second half once the client has got something of the first."""

    async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
        whole = written(form, request_id)
        writer.write(whole[:HALF])
        await client.began.wait()
        writer.write(whole[HALF:])

    return write


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_response_is_forwarded_as_it_arrives(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        for count in (1, 2, 3):
            client = Client(raw, kind)
            if form == "told":
                # The notification comes at once: it must not be what the backend waits for.
                client.began = Patient(2)
            backend.writes = in_halves(form, client)
            async with asyncio.timeout(10):
                answer = await client.message()
            assert answer["result"]["content"] == SHOWN
            assert answer["id"] == "mine"
            assert len(backend.calls) == count


class Patient(asyncio.Event):
    """Set with the nth time that it is."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def set(self) -> None:
        """Once more."""
        self._left -= 1
        if self._left <= 0:
            super().set()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_truncated_large_response_is_truncated_for_the_client(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(written(form, request_id)[:HALF])
            await writer.drain()
            writer.close()

        backend.writes = write
        with pytest.raises(httpx2.RemoteProtocolError):
            await Client(raw, kind).read()
        backend.writes = None
        assert (await called(raw, kind))["result"]["content"]
        assert len(backend.calls) == 3


@pytest.mark.parametrize(
    "change",
    [lambda body: body.replace(b'"uri"', b"]]]]]"), lambda body: body[:-1]],
    ids=["garbled", "open"],
)
@pytest.mark.parametrize("form", ["length", "events"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_response_with_invalid_json_is_aborted(
    proxy: Any, http: Any, kind: str, form: str, change: Callable[[bytes], bytes]
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(written(form, request_id, change=change))

        backend.writes = write
        with pytest.raises(httpx2.RemoteProtocolError):
            await Client(raw, kind).read()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_disconnected_client_cancels_the_request_to_the_backend(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)
        answer = Endless(form)
        answer.goes_on.set()
        backend.writes = answer.write
        client = Client(raw, kind)
        client.leave = True
        assert await client.read()
        await answer.left()


@pytest.mark.parametrize("form", ["length", "chunked", "events"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_disconnected_earlier_cancels_the_request_to_the_backend(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)
        answer = Endless(form)
        backend.writes = answer.write
        client = asyncio.create_task(Client(raw, kind).read())
        await answer.asked.wait()
        client.cancel()
        await asyncio.wait([client])
        answer.goes_on.set()
        await answer.left()
        assert answer.sent < 20_000_000


@pytest.mark.parametrize("form", ["length", "chunked", "events"])
@pytest.mark.parametrize(
    "kind", ["legacy", "modern", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SESSIONS)]
)
async def test_a_client_that_does_not_read_pauses_the_backend(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)
        large = {**RESULT, "content": [{"type": "text", "text": "w" * LARGE}]}
        sent = [0]

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            small_buffer(writer.get_extra_info("socket"), socket.SO_SNDBUF)
            whole = written(form, request_id, large)
            for at in range(0, len(whole), 100_000):
                writer.write(whole[at : at + 100_000])
                await writer.drain()
                sent[0] = at

        backend.writes = write
        held = asyncio.Event()
        reading = asyncio.create_task(taking_nothing(raw, kind, held))
        before = -1

        def stopped() -> bool:
            nonlocal before
            same, before = before == sent[0] > 0, sent[0]
            return same

        await soon(stopped, "the backend to be held back")
        await soon(lambda: not backend.deadlines, "the client to be waited for")
        assert sent[0] < LARGE / 2
        held.set()
        async with asyncio.timeout(30):
            assert len(await reading) > LARGE


async def taking_nothing(raw: Raw, kind: str, until: asyncio.Event) -> bytes:
    """The answer to a call, of which nothing is read at first."""
    headers, body = Client(raw, kind).request()
    url = httpx2.URL(raw.url)
    headers |= {"host": f"{url.host}:{url.port}", "connection": "close"}
    headers |= {"content-length": str(len(body))}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"POST {url.path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
    loop, taken = asyncio.get_running_loop(), bytearray()
    with socket.socket() as connection:
        small_buffer(connection, socket.SO_RCVBUF)
        connection.setblocking(False)
        await loop.sock_connect(connection, (url.host, url.port))
        await loop.sock_sendall(connection, head + body)
        await until.wait()
        while part := await loop.sock_recv(connection, 2**18):
            taken += part
    return bytes(taken)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_error_is_an_error_all_the_same(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        data = {"uri": "a:b", "more": "y" * HALF}
        error: dict[str, Any] = {"code": -32602, "message": "no", "data": data}

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(written(form, request_id, error, "error"))

        backend.writes = write
        answer = await Client(raw, kind).message()
        assert answer["error"] == {**error, "data": {**data, "uri": "a:p/b"}}
        assert answer["id"] == "mine"


@pytest.mark.parametrize("kind", SESSIONS)
async def test_messages_during_a_large_response_do_not_corrupt_it(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        client = Client(raw, kind)

        async def before(session: bytes) -> None:
            async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
                whole = written("events", request_id)
                writer.write(whole[:HALF])
                await client.began.wait()
                backend.say(session, LOGGED)
                writer.write(whole[HALF:])

            backend.writes = write

        backend.before = before
        answer = await client.message()
        assert answer["result"]["content"] == SHOWN


@pytest.mark.parametrize("kind", ["legacy", *SESSIONS])
async def test_a_large_resumable_response_has_an_id(proxy: Any, http: Any, kind: str) -> None:
    async with stage(proxy, http, kind, plain) as (backend, raw):

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            whole = written("events", request_id)
            head, _, body = whole.partition(b"\r\n\r\n")
            prime = b"id: 1\ndata: \n\n"
            writer.write(b"%b\r\n\r\n%x\r\n%b\r\n" % (head, len(prime), prime))
            writer.write(body.replace(b"event: message\n", b"id: 2222\nev: 1\n"))

        backend.writes = write
        text = (await Client(raw, kind).read()).decode()
        assert text.rstrip().rpartition("\r\n\r\n")[2].startswith("id: ")
        assert last(text)["result"]["content"] == SHOWN


async def test_a_truncated_large_response_is_requested_again_if_possible(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "legacy", plain) as (backend, raw):
        # A client of this revision is not sent away meanwhile.
        await raw.initialize("2025-06-18")

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            head, _, body = written("length", request_id).partition(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
            writer.write(head + b"id: 1\nretry: 0\ndata: \n\ndata: " + body[:HALF])
            backend.resumed = head + b"id: 2\ndata: " + body + b"\n\n"
            await writer.drain()
            writer.close()

        backend.writes = write
        assert (await Client(raw, "legacy").message())["result"]["content"] == SHOWN
        assert len(backend.calls) == 1


@pytest.mark.parametrize("form", ["length", "events"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_response_has_no_time_limit_while_it_makes_progress(
    proxy: Any, http: Any, kind: str, form: str
) -> None:
    async with stage(proxy, http, kind, plain, "30s") as (backend, raw):
        await called(raw, kind)
        client = Client(raw, kind)

        async def write(request_id: Any, writer: asyncio.StreamWriter) -> None:
            whole = written(form, request_id)
            writer.write(whole[:HALF])
            await client.began.wait()
            await soon(lambda: backend.deadlines, "the first half on its way")
            (deadline,) = backend.deadlines
            before = deadline.ends_at
            writer.write(whole[HALF : 2 * HALF])
            await soon(lambda: deadline.ends_at > before, "more time")
            writer.write(whole[2 * HALF :])

        backend.writes = write
        assert (await client.message())["result"]["content"] == SHOWN
        assert not backend.deadlines
