"""The way from one operator to the API server, on which a test can hold requests up."""

import asyncio
import itertools
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from scripts.yaml_files import parse_yaml
from tests.apiserver.server import ApiServer

_PAUSE = 0.02
_VERSION = re.compile(rb'"resourceVersion":"([0-9]+)"')
_LONGEST = 64
_HOP = frozenset({"transfer-encoding", "connection", "content-length", "host"})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the API server, as tests see it."""

    method: str
    path: str
    agent: str
    watches: bool = False

    @property
    def writes(self) -> bool:
        """True if the request may change an object other than the Lease."""
        return self.method != "GET" and "/leases" not in self.path


class Wire:
    """A reverse proxy: what `holds` chooses waits, both requests and answers under way."""

    def __init__(self, apiserver: ApiServer, directory: Path) -> None:
        self.holds: Callable[[Request], bool] = lambda request: False
        self.fault: Callable[[Request], int | str | None] = lambda request: None
        """Gives the HTTP status of a refusal, "hang", "cut", or None for requests that pass."""
        self.answered: Callable[[Request, int], None] = lambda request, status: None
        """Called with the HTTP status of the API server, before the operator gets the response."""
        self.replays: Callable[[Request], bool] = lambda request: False
        """Chooses reads that get the answer of the time before."""
        self.events: Callable[[Request, bytes], Iterable[bytes | None]] | None = None
        """Gives the lines that a watch brings in place of one line; None cuts it."""
        self.requests: list[Request] = []
        self._answers: dict[tuple[str, str], web.Response] = {}
        self._told: dict[str, int] = {}
        self._streams: set[asyncio.Transport] = set()
        self.kubeconfig = directory / "kubeconfig"
        self._target = apiserver.url
        self._context = ssl.create_default_context(cafile=str(apiserver.authority))
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(started, apiserver),))
        self._thread.start()
        assert started.wait(10)

    def writes(self) -> list[str]:
        """The writes that came so far, but for those to the Lease."""
        return [f"{request.method} {request.path}" for request in self.requests if request.writes]

    def told(self, path: str) -> int:
        """The newest resource version that a watch at this path has told the operator of."""
        return self._told.get(path, 0)

    def sever(self) -> None:
        """Cut all watches that are under way."""
        for transport in list(self._streams):
            self._loop.call_soon_threadsafe(transport.abort)

    def stop(self) -> None:
        """Close it."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def _run(self, started: threading.Event, apiserver: ApiServer) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:

            async def handle(request: web.BaseRequest) -> web.StreamResponse:
                return await self._pass(session, request)

            # An operator that gives up must not be answered later.
            server = web.Server(handle, handler_cancellation=True)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port, *_ = runner.addresses[0]
            document = parse_yaml(apiserver.kubeconfig.read_text())
            document["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
            self.kubeconfig.write_text(yaml.safe_dump(document))
            started.set()
            await self._stopped.wait()
            await runner.cleanup()
        # TLS connections take some turns of the loop to close.
        await asyncio.sleep(0.2)

    async def _pass(
        self, session: aiohttp.ClientSession, request: web.BaseRequest
    ) -> web.StreamResponse:
        agent, watches = request.headers.get("User-Agent", ""), "watch" in request.query
        result = Request(request.method, request.path, agent, watches)
        self.requests.append(result)
        body = await request.read()
        await self._wait(result)
        fault = self.fault(result)
        if fault == "cut" and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if isinstance(fault, int):
            return web.json_response(refusal(fault), status=fault)
        read = (request.path_qs, request.headers.get("Accept", ""))
        if read in self._answers and self.replays(result):
            old = self._answers[read]
            return web.Response(status=old.status, body=old.body, headers=old.headers.copy())
        headers = {key: item for key, item in request.headers.items() if key.lower() not in _HOP}
        url = f"{self._target}{request.path_qs}"
        async with session.request(
            request.method, url, headers=headers, data=body or None
        ) as answer:
            kept = {key: entry for key, entry in answer.headers.items() if key.lower() not in _HOP}
            if not result.watches:
                return await self._whole(answer, kept, result, read)
            response = web.StreamResponse(status=answer.status, headers=kept)
            await self._wait(result)
            await response.prepare(request)
            transport = request.transport
            if result.watches and transport is not None:
                self._streams.add(transport)
            try:
                await self._copy(answer, response, result)
            finally:
                self._streams.discard(transport)
            return response

    async def _whole(
        self,
        answer: aiohttp.ClientResponse,
        headers: dict[str, str],
        request: Request,
        read: tuple[str, str],
    ) -> web.Response:
        response = web.Response(status=answer.status, headers=headers, body=await answer.read())
        self.answered(request, answer.status)
        await self._wait(request)
        if request.method == "GET":
            self._answers[read] = response
        return web.Response(status=answer.status, headers=headers, body=response.body)

    async def _copy(
        self, answer: aiohttp.ClientResponse, response: web.StreamResponse, request: Request
    ) -> None:
        tail = rest = b""
        async for chunk in answer.content.iter_any():
            await self._wait(request)
            if self.events is None:
                await response.write(rest + chunk)
                rest = b""
            else:
                *lines, rest = (rest + chunk).split(b"\n")
                events = (self.events(request, line) for line in lines)
                for event in itertools.chain.from_iterable(events):
                    if event is None:
                        return
                    await response.write(event + b"\n")
            self._note(request.path, tail + chunk)
            tail = chunk[-_LONGEST:]

    def _note(self, path: str, chunk: bytes) -> None:
        versions = [int(version) for version in _VERSION.findall(chunk)]
        self._told[path] = max([self.told(path), *versions])

    async def _wait(self, request: Request) -> None:
        while self.holds(request) or self.fault(request) == "hang":  # noqa: ASYNC110  a test sets it from another thread
            await asyncio.sleep(_PAUSE)


def refusal(code: int) -> dict[str, object]:
    """A metav1.Status as the API server sends it for this code."""
    reasons = {403: "Forbidden", 409: "Conflict", 410: "Expired", 422: "Invalid"}
    reasons |= {404: "NotFound", 405: "MethodNotAllowed"}
    reasons |= {401: "Unauthorized", 429: "TooManyRequests", 500: "InternalError"}
    text = f"injected: {reasons[code]}"
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text}
    return {**status, "reason": reasons[code], "code": code}


@contextmanager
def wired(apiserver: ApiServer, directory: Path) -> Iterator[Wire]:
    """A way to the API server, whose kubeconfig lies in `directory`."""
    directory.mkdir(exist_ok=True)
    wire = Wire(apiserver, directory)
    try:
        yield wire
    finally:
        wire.holds = lambda request: False
        wire.stop()
