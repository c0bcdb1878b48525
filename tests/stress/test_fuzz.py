"""Whatever comes in at the front: no 500, no traceback, nothing left open, no memory lost."""

import asyncio
import json
import random
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.stress.instances import instances
from tests.stress.malformed import malformed
from tests.stress.size import FULL, size

pytestmark = [*LIVE, pytest.mark.timeout(240)]
REQUESTS = size(1000, 100_000)
PATIENCE = 0.5
RESERVED = {-32020: 400, -32021: 400, -32022: 400}
"""Codes of the specification's own range that have a meaning, and the HTTP status of each."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def _echo(call: Call) -> None:
    result = {"content": [], "contents": [], "messages": [], "resultType": "complete"}
    await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}))


class Attacker:
    """Sends one request after the other on connections that are kept while they can be."""

    def __init__(self, port: int, session: str, seed: int) -> None:
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._port = port
        self._session = session
        self._random = random.Random(seed)
        self._sock: socket.socket | None = None

    def run(self, count: int) -> None:
        """Blocking: for a thread."""
        for _ in range(count):
            request = malformed(self._random, self._session)
            raw = request.raw()
            head, body = self._exchange(raw, request.method)
            status = head[9:12].decode("latin-1")
            self.statuses[status or "none"] += 1
            why = _wrong(status, body)
            if why:
                self.wrong.append(f"{why}: {raw[:600]!r} -> {head!r} {body[:300]!r}")
        self._close()

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
    found = b""
    while b"\r\n\r\n" not in found:
        part = sock.recv(65536)
        if not part:
            return found, b"", False
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length is None:
        return head, body, False
    wanted = 0 if method == "HEAD" else int(length[1])
    while len(body) < wanted:
        part = sock.recv(65536)
        if not part:
            return head, body, False
        body += part
    return head, body, len(body) == wanted


def _wrong(status: str, body: bytes) -> str | None:
    if status >= "500":
        return f"HTTP {status}"
    try:
        message: Any = json.loads(body)
    except ValueError:
        return None
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
        spec = [{"name": "p", "url": f"{base}/mcp"}]
        async with (
            instances(tmp_path, 1, spec) as (proxy,),
            httpx2.AsyncClient(timeout=10) as http,
        ):
            client = Client(http, proxy.url, "legacy")
            await client.initialize()
            assert client.session is not None
            await asyncio.to_thread(Attacker(proxy.port, client.session, 0).run, size(200, 5000))
            before, files = proxy.resident(), proxy.descriptors()
            attackers = [Attacker(proxy.port, client.session, seed) for seed in (1, 2)]
            work = (asyncio.to_thread(one.run, REQUESTS // 2) for one in attackers)
            await asyncio.gather(*work)

            async def no_streams() -> bool:
                return await proxy.streams() == 0

            await eventually(no_streams, "streams to end")
            await soon(lambda: not backend.open_calls, "calls to end")
            # A few more sessions with the backend may be kept warm than before.
            await soon(lambda: proxy.descriptors() <= files + 40, "connections to be closed")
            wrong = [text for one in attackers for text in one.wrong]
            statuses = attackers[0].statuses + attackers[1].statuses
            assert not wrong, "\n".join(wrong[:5])
            assert statuses["200"] > REQUESTS // 20
            assert statuses["400"] > REQUESTS // 20
            assert "Traceback" not in proxy.log.read_text()
            assert '"exception"' not in proxy.log.read_text()
            if FULL:
                assert proxy.resident() <= before * 1.1
