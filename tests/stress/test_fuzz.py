"""Whatever comes in at the front: no 500, no traceback, nothing left open, no memory lost."""

import asyncio
import json
import random
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.differential.backend import LEGACY, Backend, Call
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.stress.instances import instances
from tests.stress.malformed import malformed
from tests.stress.size import WHOLE, size

_ACCEPT = "application/json, text/event-stream"


def _post(method: str, **params: Any) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: {_ACCEPT}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _delete(session: str) -> bytes:
    head = f"DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\n\r\n"
    return head.encode()


pytestmark = [*LIVE, pytest.mark.timeout(600), pytest.mark.slow]
REQUESTS = size(1000, 100_000)
PATIENCE = 0.5
RESERVED = {-32020: 400, -32021: 400, -32022: 400}
"""Codes of the specification's own range that have a meaning, and the HTTP status of each."""
INITIALIZE = _post("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo={"name": "f"})
_SESSION = re.compile(rb"mcp-session-id: *([!-~]+)", re.IGNORECASE)
_CHUNKED = b"transfer-encoding: chunked"
_LAST_CHUNK = b"0\r\n\r\n"
_DATA = re.compile(rb"data: ?([^\r\n]+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def _echo(call: Call) -> None:
    result = {"content": [], "contents": [], "messages": [], "resultType": "complete"}
    await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}))


class Attacker:
    """Sends one request after the other on connections that are kept while they can be."""

    def __init__(self, port: int, seed: int) -> None:
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._port = port
        self._session = ""
        self._random = random.Random(seed)
        self._sock: socket.socket | None = None

    def run(self, count: int) -> None:
        """Blocking: for a thread."""
        for _ in range(count):
            if not self._session:
                self._session = self._begun()
            request = malformed(self._random, self._session)
            raw = request.raw()
            head, body = self._exchange(raw, request.method)
            status = head[9:12].decode("latin-1")
            self.statuses[status or "none"] += 1
            whys = [_wrong(status, message) for message in _messages(body)] or [
                _wrong(status, None)
            ]
            self.wrong += [
                f"{why}: {raw[:600]!r} -> {head!r} {body[:300]!r}" for why in whys if why
            ]
            if (request.method, status) == ("DELETE", "204"):
                self._session = ""
        if self._session:
            head, _ = self._exchange(_delete(self._session), "DELETE")
            assert head[9:12] == b"204", head
        self._close()

    def _begun(self) -> str:
        """The id of a new session: without one that is there little of the proxy is reached."""
        head, _ = self._exchange(INITIALIZE, "POST")
        match = _SESSION.search(head)
        assert match is not None, head
        return match[1].decode()

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _exchange(self, raw: bytes, method: str) -> tuple[bytes, bytes]:
        """Head and body of the answer; what never ends is left after a while."""
        if self._sock is None:
            self._sock = socket.create_connection(("127.0.0.1", self._port))
            self._sock.settimeout(PATIENCE)
        try:
            self._sock.sendall(raw)
            head, body, whole = _answer(self._sock, method)
        except OSError:
            self._close()
            return b"", b""
        if not whole or b"connection: close" in head.lower() or head[9:12] >= b"400":
            self._close()
        return head, body


def _answer(sock: socket.socket, method: str) -> tuple[bytes, bytes, bool]:
    """Head, body, and whether the connection can be used again."""
    result = b""
    while b"\r\n\r\n" not in result:
        part = sock.recv(65536)
        if not part:
            return result, b"", False
        result += part
    head, _, body = result.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length is None and (method == "GET" or _CHUNKED not in head.lower()):
        return head, body, False
    wanted = 0 if method == "HEAD" else int(length[1]) if length else None
    while len(body) < wanted if wanted is not None else not body.endswith(_LAST_CHUNK):
        part = sock.recv(65536)
        if not part:
            return head, body, False
        body += part
    return head, body, wanted is None or len(body) == wanted


def _messages(body: bytes) -> list[Any]:
    """The JSON in an answer, which is a message or a stream of events."""
    results = []
    for part in (body, *_DATA.findall(body)):
        try:
            results.append(json.loads(part))
        except ValueError:
            continue
    return results


def _wrong(status: str, message: Any) -> str | None:
    if status >= "500":
        return f"HTTP {status}"
    error = message.get("error") if isinstance(message, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code == -32603:
        return "an internal error"
    if isinstance(code, int) and -32099 <= code <= -32020:
        if RESERVED.get(code) != int(status):
            return f"code {code} with HTTP {status}"
        if code == -32022 and "supported" not in (error or {}).get("data", {}):
            return "an unsupported version without those that are"
        if code == -32020 and "header" not in (error or {})["message"]:
            return "a header mismatch that names no header"
    return None


async def test_malformed_requests_leave_nothing_behind(tmp_path: Path) -> None:
    backend = Backend("legacy", _echo)
    async with serving(backend) as base:
        # Warm sessions go once they have idled for so long.
        spec = [{"name": "p", "url": f"{base}/mcp", "timeouts": {"idle": "1s"}}]
        async with instances(tmp_path, 1, spec) as (proxy,):
            opened, files = await proxy.open_now(), proxy.descriptors()
            sessions = set(backend.sessions)
            await asyncio.to_thread(Attacker(proxy.port, 0).run, size(200, 5000))
            memory = proxy.resident()
            attackers = [Attacker(proxy.port, seed) for seed in (1, 2)]
            work = (asyncio.to_thread(attacker.run, REQUESTS // 2) for attacker in attackers)
            await asyncio.gather(*work)

            async def as_before() -> bool:
                return await proxy.open_now() == opened

            await eventually(as_before, "sessions, streams and calls to end")
            await soon(lambda: not backend.open_calls, "calls to end at the backend")
            await soon(lambda: backend.sessions == sessions, "sessions to end at the backend")
            await soon(lambda: proxy.descriptors() <= files + 8, "connections to be closed")
            wrong = [text for item in attackers for text in item.wrong]
            statuses = attackers[0].statuses + attackers[1].statuses
            assert not wrong, "\n".join(wrong[:5])
            assert statuses["200"] > REQUESTS // 6
            assert statuses["400"] > REQUESTS // 20
            assert "Traceback" not in proxy.log.read_text()
            assert '"exception"' not in proxy.log.read_text()
            if WHOLE:
                assert proxy.resident() <= memory * 1.1
