"""A collector gets what it is configured to get, and can neither redirect, delay nor fill."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from mcpproxy.limits.audit import COLLECTOR_ANSWER
from mcpproxy.proxy.telemetry import collector_session
from mcpproxy.proxy.telemetry.collector_session import CollectorSession

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each POST so; gives its URL and the bodies that it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/logs", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _with_body(body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def _post(url: str, body: bytes = b"spans") -> requests.Response:
    return CollectorSession({}).post(url, data=body, headers={"x-own": "1"}, timeout=3.0)


def test_a_request_arrives_with_its_body_and_the_response_is_that_of_the_collector() -> None:
    with serving(_with_body(b"answer", x_its="2")) as (url, bodies):
        response = _post(url)
    assert bodies == [b"spans"]
    assert (response.status_code, response.content, response.headers["x-its"]) == (
        200,
        b"answer",
        "2",
    )


def test_a_redirect_is_not_followed() -> None:
    with serving(_with_body(b"")) as (other, stolen):

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(307)
            handler.send_header("location", other)
            handler.send_header("content-length", "0")
            handler.end_headers()

        with serving(redirect) as (url, _):
            assert _post(url).status_code == 307
    assert stolen == []


def test_the_response_of_a_collector_is_read_up_to_its_limit() -> None:
    with serving(_with_body(b"x" * (4 * COLLECTOR_ANSWER.value))) as (url, _):
        response = _post(url)
    assert response.status_code == 200
    assert len(response.content) == COLLECTOR_ANSWER.value


def test_a_compressed_response_is_not_decompressed() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    with serving(_with_body(bomb, content_encoding="gzip")) as (url, _):
        assert _post(url).content == bomb


def test_a_response_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_session, "EXPORT_WITHIN", 0.3)
    ended = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        try:
            while not ended.wait(0.05):
                handler.wfile.write(b"x")
                handler.wfile.flush()
        except OSError:
            pass

    with serving(drip) as (url, _):
        began = time.monotonic()
        with pytest.raises(requests.Timeout, match=r"no response within 0\.3 s"):
            _post(url)
        ended.set()
    assert time.monotonic() - began < 10


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_with_body(b"")) as (proxy, through):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        with serving(_with_body(b"own")) as (url, bodies):
            assert _post(url).content == b"own"
    assert (len(bodies), through) == (1, [])


def test_an_unreachable_collector_is_a_connection_error() -> None:
    with serving(_with_body(b"")) as (url, _):
        pass
    with pytest.raises(requests.ConnectionError):
        _post(url)
