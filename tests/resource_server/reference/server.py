"""The HTTP server of the reference: metadata, challenges, streams and the endpoint."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from tests.resource_server.reference import credentials
from tests.resource_server.reference.credentials import ANONYMOUS, Request, Unauthorized
from tests.resource_server.reference.endpoint import SESSION, Answer, Endpoint, InsufficientScope
from tests.resource_server.reference.jws import InvalidToken
from tests.resource_server.reference.key_store import KeyStore, Unavailable
from tests.resource_server.reference.metadata import Metadata
from tests.resource_server.reference.rules import Rules
from tests.resource_server.reference.verifier import Caller, Verifier

MAX_BODY: Final = 4 * 1024 * 1024
_TICK: Final = 0.05


@dataclass(frozen=True)
class Configuration:
    """Settings of a reference server."""

    public_url: str
    issuers: tuple[str, ...]
    rules: Rules
    leeway: float = 60.0
    refetch_seconds: float = 1.0
    key_age_seconds: float = 2.0
    """Age of a key set at which it is fetched again."""


class ReferenceServer(ThreadingHTTPServer):
    """Serves `/mcp` behind a public URL of any path."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, configuration: Configuration) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.configuration = configuration
        self.rules = rules = configuration.rules
        self.keys = KeyStore(configuration.issuers, configuration.refetch_seconds, rules)
        public = configuration.public_url
        self.verifier = Verifier(public, self.keys, configuration.leeway, rules)
        self.metadata = Metadata(public, configuration.issuers, self.server_port, rules)
        self.endpoint = Endpoint(rules)
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""

    def refresh(self) -> None:
        """Fetch old key sets until the server is closed."""
        while not self.closing.wait(_TICK * 4):
            if self.rules.keep("keys-age") and self.rules.keep("fetch-once"):
                self.keys.refresh_old(self.configuration.key_age_seconds)


class _Handler(BaseHTTPRequestHandler):
    server: ReferenceServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    last_token = ""
    """The token of the request before, for a mutant."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Write nothing."""

    def do_POST(self) -> None:
        self._handle()

    do_GET = do_POST  # noqa: N815
    do_DELETE = do_POST  # noqa: N815
    do_HEAD = do_POST  # noqa: N815
    do_PUT = do_POST  # noqa: N815

    def do_OPTIONS(self) -> None:
        rules = self.server.rules
        body = self._read_body()
        if rules.breaks("preflight"):
            self._refuse(Unauthorized())
        elif rules.breaks("options-served") and body:
            request = Request(self.command, self.path, self.headers, body)
            self._answer(request, body, ANONYMOUS, _anonymous())
        else:
            self._send(204, None, {"Access-Control-Allow-Origin": "*"})

    def _handle(self) -> None:
        body = self._read_body()
        path = self._path()
        if self.server.metadata.serves(path):
            self._send_metadata(path)
            return
        request = Request(self.command, self.path, self.headers, body)
        if path not in ("/mcp", *(["/mcp/"] if self.server.rules.breaks("token-path") else [])):
            self._send(404, None)
            return
        token = ""
        try:
            self._inspect_early(body)
            token = self._token(request)
            caller = self._verify(request, token)
            self._answer(request, body, token, caller)
        except Unauthorized as refusal:
            self._refuse(refusal, token)
        except InvalidToken as problem:
            self._refuse(Unauthorized("invalid_token", str(problem)), token)
        except InsufficientScope:
            self._refuse(Unauthorized("insufficient_scope", "", 403))
        except Unavailable as problem:
            broken = self.server.rules.breaks("down-cold")
            trace = self.server.rules.breaks("error-trace")
            text = f"Traceback: {problem}/jwks" if trace else "keys are not available"
            self._send(500 if broken else 503, {"error": text}, {"Retry-After": "1"})
        except Exception as problem:
            self._send(500, {"error": type(problem).__name__})

    def _path(self) -> str:
        path = self.path.partition("?")[0]
        if "://" in path[:10] and self.server.rules.breaks("metadata-absolute"):
            self.headers["X-Absolute-Host"] = urlsplit(self.path).netloc
        return urlsplit(self.path).path if "://" in path[:10] else path

    def _inspect_early(self, body: bytes) -> None:
        if self.server.rules.breaks("body-first"):
            json.loads(body or b"{}")
        if self.server.rules.breaks("auth-first") and body.startswith(b"{"):
            try:
                valid = "method" in json.loads(body)
            except ValueError:
                valid = False
            if not valid:
                raise Unauthorized("invalid_request", "", 400)

    def _token(self, request: Request) -> str:
        rules = self.server.rules
        try:
            token = credentials.read_token(request, rules)
        except Unauthorized:
            if not (rules.breaks("keep-alive") and self.last_token):
                raise
            return self.last_token
        self.last_token = token
        return token

    def _verify(self, request: Request, token: str) -> Caller:
        rules = self.server.rules
        if token == ANONYMOUS:
            return _anonymous()
        try:
            return self.server.verifier.verify(token)
        except InvalidToken:
            headers = request.lower()
            modern = headers.get("mcp-protocol-version") == "2026-07-28"
            tolerant = (
                (rules.breaks("valid-legacy") and not modern and b'"ping"' in request.body)
                or (rules.breaks("valid-modern") and modern and b"prompts" in request.body)
                or (rules.breaks("valid-session") and SESSION in headers)
            )
            if not tolerant:
                raise
            session = headers.get(SESSION, "")
            owner = self.server.endpoint.sessions.get(session, ("", ""))
            return Caller((owner[0], owner[-1]), frozenset(), time.time() + 60)

    def _answer(self, request: Request, body: bytes, token: str, caller: Caller) -> None:
        headers, endpoint, rules = request.lower(), self.server.endpoint, self.server.rules
        session = headers.get(SESSION, "")
        if token == ANONYMOUS and session in endpoint.sessions:
            owner = endpoint.sessions[session]
            caller = Caller((owner[0], owner[-1]), frozenset(), caller.expires)
        if rules.breaks("token-upgrade") and "upgrade" in headers:
            self._send(101, None)
        elif request.method == "POST" or request.method == "OPTIONS":
            self._send_answer(endpoint.post(headers, body, caller, token), caller)
        elif request.method == "DELETE":
            self._send_answer(endpoint.delete(session, caller, token), caller)
        elif request.method != "GET":
            self._send(405, None)
        elif rules.breaks("session-stream") or endpoint.is_owner(session, caller, token):
            self._stream(caller, "session")
        else:
            self._send(404, None)

    def _send_answer(self, answer: Answer, caller: Caller) -> None:
        if answer.stream:
            self._stream(caller, "listen")
        else:
            session = {"Mcp-Session-Id": answer.session} if answer.session else {}
            self._send(answer.status, answer.body, session)

    def _stream(self, caller: Caller, kind: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        rules, end = self.server.rules, caller.expires + self.server.configuration.leeway
        if rules.breaks(f"stream-stays-{kind}"):
            return
        with suppress(OSError):
            while not self.server.closing.wait(_TICK * 4):
                if time.time() > end and rules.keep(f"stream-expiry-{kind}"):
                    return
                self.wfile.write(b": ping\n\n")

    def _refuse(self, refusal: Unauthorized, token: str = "") -> None:
        rules = self.server.rules
        description = refusal.description
        if rules.breaks("challenge-text") and refusal.error:
            description = 'the token "x" is not valid'
        url = self.server.metadata.url(self.headers)
        scopes = credentials.scopes_of(refusal.error)
        value = credentials.challenge(refusal.error, description, url, scopes, rules)
        headers: dict[str, str] = {"WWW-Authenticate": value}
        body = {"error": refusal.error, "error_description": description}
        if rules.breaks("error-token"):
            body["token"] = token
        if rules.breaks("error-trace"):
            body["detail"] = 'Traceback: File "verifier.py"'
        if rules.breaks("challenge-one"):
            headers["WWW-authenticate"] = 'Basic realm="mcp"'
        self._send(refusal.status, body, headers)

    def _send_metadata(self, path: str) -> None:
        status, kind, content = self.server.metadata.answer(path, self.command, self.headers)
        cors = {"Access-Control-Allow-Origin": "*"} if self.server.rules.keep("cors") else {}
        self._send(status, content, cors, kind)

    def _send(
        self, status: int, content: Any, headers: dict[str, str] | None = None, kind: str = ""
    ) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def _read_body(self) -> bytes:
        if "chunked" not in str(self.headers.get("Transfer-Encoding", "")).lower():
            length = str(self.headers.get("Content-Length") or "0")
            return self.rfile.read(min(int(length) if length.isdigit() else 0, MAX_BODY))
        body = b""
        while size := int(self.rfile.readline(1000).partition(b";")[0], 16):
            body += self.rfile.read(min(size, MAX_BODY))
            self.rfile.readline(1000)
        while line := self.rfile.readline(65536).strip():
            if self.server.rules.breaks("no-trailers"):
                name, _, value = line.decode("latin-1").partition(":")
                self.headers[name] = value.strip()
        return body


def _anonymous() -> Caller:
    return Caller(("", ""), frozenset(), time.time() + 60)


@contextmanager
def running(configuration: Configuration, port: int = 0) -> Iterator[str]:
    """Run a server in threads. Yield its address."""
    with ReferenceServer(port, configuration) as server:
        threads = [
            threading.Thread(target=server.serve_forever, args=(_TICK,), daemon=True),
            threading.Thread(target=server.refresh, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.closing.set()
            server.shutdown()
            for thread in threads:
                thread.join()
