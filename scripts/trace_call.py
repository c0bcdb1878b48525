"""Trace one warm tools/call through the runtime: `python -m scripts.trace_call [CASE]`.

A real runtime relays the call between a client and the benchmark's stub backend, all in this
process. `sys.setprofile` records each function of the runtime that runs between the request and the
response; docs/architecture.md tells the same path. Without a case, the command prints the figures
of all cases.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import mcpproxy
from bench import client, messages, stub
from bench.cases import Grant
from bench.messages import Era, Requests
from bench.replies import Reply, message_of
from bench.targets import UNREACHED
from bench.tokens import TokenIssuer, write_secret
from mcpproxy.api import constants
from mcpproxy.api.manifest import parse
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.runtime import Runtime
from scripts.ports import ports_in_a_row

PACKAGE: Final = str(Path(mcpproxy.__file__).parent) + "/"
WARM: Final = 50
"""Calls before those that are traced."""
TRACED: Final = 3
"""Calls that are traced. The shortest trace is free of work that other events cause."""
READY_SECONDS: Final = 10.0
SETTLES_IN: Final = 0.1


@dataclass(frozen=True)
class CallPath:
    """One combination of a client, a backend and a session mode."""

    client: Era = "legacy"
    backend: stub.Eras = "legacy"
    mode: str | None = None
    """`spec.session.mode` with a backend that keeps sessions; None if it keeps none."""
    events: bool = False
    keeps_calls: bool = False
    """True if the process keeps the last calls for a page, as in pods."""
    access: bool = False
    """With tokens, rules for 50 groups, and an audit log."""
    limited: Grant | None = None
    """With limits, and a token for the backend that is obtained in this way."""


CASES: Final[dict[str, CallPath]] = {
    "json": CallPath(),
    "json-with-page": CallPath(keeps_calls=True),
    "events": CallPath(events=True),
    "modern-json": CallPath("modern", "modern"),
    "modern-events": CallPath("modern", "modern", events=True),
    "isolated-json": CallPath(mode="Isolated"),
    "isolated-events": CallPath(mode="Isolated", events=True),
    "per-client-json": CallPath(mode="PerClient"),
    "reused-json": CallPath(mode="Reused"),
    "reused-events": CallPath(mode="Reused", events=True),
    "legacy-to-modern": CallPath(backend="modern"),
    "modern-to-legacy": CallPath("modern", "legacy"),
    "access-json": CallPath(access=True),
    "access-modern-json": CallPath("modern", "modern", access=True),
    "limited-json": CallPath(limited="clientCredentials"),
    "limited-exchanged-json": CallPath(limited="tokenExchange"),
}


@dataclass
class CallTrace:
    """The functions of the runtime that ran during one call."""

    calls: list[tuple[int, str, str]] = field(default_factory=list)
    """Depth, file and qualified name of each function, in the order of the calls."""
    others: int = 0
    """Calls of Python functions of other packages, such as the standard library."""
    _depth: int = 0

    def observe(self, frame: FrameType, event: str, argument: object) -> None:
        """Record an event of `sys.setprofile`."""
        if event not in ("call", "return"):
            return
        code: CodeType = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            here = (__file__, client.__file__, stub.__file__, messages.__file__)
            self.others += event == "call" and code.co_filename not in here
            return
        if event == "return":
            self._depth = max(self._depth - 1, 0)
            return
        self._depth += 1
        self.calls.append((self._depth, code.co_filename[len(PACKAGE) :], code.co_qualname))

    @property
    def files(self) -> list[str]:
        """The files of the functions, in the order of their first call."""
        return list(dict.fromkeys(file for _, file, _ in self.calls))

    @property
    def depth(self) -> int:
        """Number of functions of the runtime that are on the stack at most."""
        return max(depth for depth, _, _ in self.calls)


async def trace_call(case: CallPath) -> CallTrace:
    """Return the shortest trace of a few warm tools/calls."""
    issuer = TokenIssuer() if case.access or case.limited else None
    with tempfile.TemporaryDirectory() as values:
        return await _traced_calls(case, issuer, Path(values))


async def _traced_calls(case: CallPath, issuer: TokenIssuer | None, values: Path) -> CallTrace:
    async with _running_proxy(case, issuer, values) as url:
        connection = await client.connect(url)
        requests = client.requests(url, case.client, issuer.token() if issuer else "")
        try:
            if case.client == "legacy":
                await client.begin(connection, requests)
            for number in range(1, WARM):
                await _call(connection, requests, number)
            # Until then, sessions are opened and closed because of earlier calls.
            await asyncio.sleep(SETTLES_IN)
            with _collector_disabled():
                traces = [await _traced(connection, requests, WARM + n) for n in range(TRACED)]
            return min(traces, key=lambda trace: len(trace.calls))
        finally:
            await client.close(connection)


@contextlib.contextmanager
def _collector_disabled() -> Iterator[None]:
    # What earlier calls have left must not be finalized within a traced one. The traced calls
    # follow each other immediately, so that a timer that one call starts for several is pending.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _call(connection: client.Connection, requests: Requests, number: int) -> Reply:
    reply = await connection.exchange(requests.operation("echo", number, "echo"))
    if message_of(reply, number) is None:
        raise SystemExit(f"the call failed: HTTP {reply.status}: {reply.body!r}")
    return reply


async def _traced(connection: client.Connection, requests: Requests, number: int) -> CallTrace:
    trace = CallTrace()
    request = requests.operation("echo", number, "echo")
    replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def on_reply(reply: Reply) -> None:
        sys.setprofile(None)
        replied.set_result(reply)

    connection.send(request, on_reply)
    sys.setprofile(trace.observe)
    reply = await replied
    if message_of(reply, number) is None:
        raise SystemExit(f"the call failed: HTTP {reply.status}: {reply.body!r}")
    return trace


@contextlib.asynccontextmanager
async def _running_proxy(
    case: CallPath, issuer: TokenIssuer | None, values: Path
) -> AsyncIterator[str]:
    """Run a proxy in front of a stub backend, and provide its URL.

    `values` is the directory for mounted values.
    """
    write_secret(values)
    behaviour = stub.Behaviour(case.backend, sessions=case.mode is not None, events=case.events)
    server = await stub.serve(behaviour)
    port = ports_in_a_row(1)
    backend = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    if issuer is not None:
        await issuer.start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    options = RuntimeOptions(
        port=port, audit_descriptor=nowhere, keeps_calls=case.keeps_calls, values=values
    )
    runtime = Runtime(_configuration(backend, case, issuer), options)
    serving = asyncio.Event()
    running = asyncio.create_task(runtime.serve_http(serving.set))
    try:
        async with asyncio.timeout(READY_SECONDS):
            await serving.wait()
            for monitored in runtime.gateway.backends.values():
                await monitored.watch.settled.wait()
        yield f"http://127.0.0.1:{port}{constants.MCP_PATH}"
    finally:
        runtime.stop()
        await running
        server.close()
        os.close(nowhere)
        if issuer is not None:
            issuer.close()


def _configuration(url: str, case: CallPath, issuer: TokenIssuer | None) -> ProxyConfig:
    backend: dict[str, Any] = {"name": "stub", "prefix": "", "url": url}
    spec: dict[str, Any] = {"backends": [backend]}
    if issuer is not None and case.limited != "clientCredentials":
        spec |= issuer.access() if case.access else issuer.sign_in()
    if case.limited is not None and issuer is not None:
        spec["limits"] = {"rules": [*UNREACHED]}
        backend["auth"] = {case.limited: issuer.client()}
    if case.mode is not None:
        spec["session"] = {"mode": case.mode}
    if case.mode == "Reused":
        backend["session"] = {"stateless": True}
    metadata = {"name": "trace"}
    manifest = {"apiVersion": constants.API_VERSION, "kind": constants.KIND, "metadata": metadata}
    return ProxyConfig(parse({**manifest, "spec": spec}), "", Path.cwd())


def figures(trace: CallTrace) -> str:
    """Return the figures of a trace on one line."""
    own = len(trace.calls)
    return f"{own} calls, {len(trace.files)} files, depth {trace.depth}, {trace.others} of others"


def main() -> None:
    """Print the story of one case, or the figures of all."""
    parser = argparse.ArgumentParser(description="trace one warm tools/call through the runtime")
    parser.add_argument("case", nargs="?", choices=tuple(CASES))
    case = parser.parse_args().case
    if case is None:
        for name, path in CASES.items():
            print(f"{name:18} {figures(asyncio.run(trace_call(path)))}")
        return
    trace = asyncio.run(trace_call(CASES[case]))
    for depth, file, name in trace.calls:
        print(f"{'  ' * (depth - 1)}{name}  ({file})")
    print(figures(trace))


if __name__ == "__main__":
    main()
