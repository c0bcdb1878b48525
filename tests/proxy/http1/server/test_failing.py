"""Responses whose handlers fail."""

import logging

import pytest

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from tests.proxy.http1.server.served import Client, Served, request

SECRET = "s3cr3t"


def _raise(_: Request, __: ResponseWriter) -> None:
    raise ValueError(SECRET)


async def _raise_before(_: Request, __: ResponseWriter) -> None:
    raise ValueError(SECRET)


async def _raise_during(_: Request, reply: ResponseWriter) -> None:
    await reply.event(b"1")
    raise ValueError(SECRET)


async def _raise_after(_: Request, reply: ResponseWriter) -> None:
    await reply.finish(b"1")
    raise ValueError(SECRET)


async def _refuse_during(_: Request, reply: ResponseWriter) -> None:
    await reply.event(b"1")
    raise HttpError(400, "too late")


async def _refuse_before(_: Request, __: ResponseWriter) -> None:
    raise HttpError(415, "not this", (b"x-a", b"b"))


async def _forget(_: Request, __: ResponseWriter) -> None:
    """Answers nothing."""


def _logged_once(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = [record for record in caplog.records if record.name == "mcpproxy.http"]
    text = logging.Formatter().format(record)
    assert "_raise" in text
    assert "ValueError" in text
    assert SECRET not in text


async def _broken_stream(client: Client) -> None:
    assert (await client.head()).status == 200
    try:
        whole = (await client.rest()).endswith(b"0\r\n\r\n")
    except ConnectionError:
        whole = False
    assert not whole


@pytest.mark.parametrize("how", ["task", "at once", "screen"])
async def test_a_handler_that_fails_is_answered_with_500(
    served: Served, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    if how == "task":
        served.app.handlers["/fails"] = _raise_before
    elif how == "at once":
        served.app.at_once_handlers["/fails"] = _raise
    else:
        served.app.failing["/fails"] = _raise
    client = await served.client()
    answer = await client.ask("/fails", SECRET.encode())
    assert answer.status == 500
    assert SECRET not in answer.body.decode()
    _logged_once(caplog)
    if how != "screen":
        assert (await client.ask("/after")).status == 200


async def test_a_response_that_fails_in_the_middle_is_aborted(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.app.handlers["/fails"] = _raise_during
    client = await served.client()
    await client.send(request("/fails", SECRET.encode()) + request("/after"))
    await _broken_stream(client)
    _logged_once(caplog)
    assert len(served.app.served) == 1


async def test_a_failure_after_the_response_affects_no_client(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.app.handlers["/fails"] = _raise_after
    client = await served.client()
    assert (await client.ask("/fails")).body == b"1"
    assert (await client.ask("/after")).status == 200
    _logged_once(caplog)


async def test_a_handler_may_refuse(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.app.handlers["/refused"] = _refuse_before
    client = await served.client()
    answer = await client.ask("/refused")
    assert (answer.status, answer.headers["x-a"]) == (415, "b")
    assert (await client.ask("/after")).status == 200
    assert not caplog.records


async def test_the_application_renders_the_body_of_an_error_that_has_none(served: Served) -> None:
    async def refuse_with_body(_: Request, __: ResponseWriter) -> None:
        raise HttpError(400, "not this", body=b'{"why":1}')

    served.app.handlers["/refused"] = _refuse_before
    served.app.handlers["/whole"] = refuse_with_body
    client = await served.client()
    answer = await client.ask("/refused")
    assert answer.echo == {"error": {"message": "not this"}}
    assert answer.headers["content-type"] == "application/json"
    assert (await client.ask("/whole")).body == b'{"why":1}'
    assert (await client.ask("/unwanted")).echo == {"error": {"message": "not here"}}


async def test_a_refusal_in_the_middle_of_an_answer_breaks_it_off(served: Served) -> None:
    served.app.handlers["/refused"] = _refuse_during
    client = await served.client()
    await client.send(request("/refused"))
    await _broken_stream(client)


async def test_a_client_without_a_response_sees_the_connection_close(served: Served) -> None:
    served.app.handlers["/forgets"] = _forget
    client = await served.client()
    await client.send(request("/forgets"))
    assert await client.broken()
