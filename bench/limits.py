"""Three instances of a proxy under three times the calls that a rule allows.

python -m bench.limits [--seconds 600] [--window 60] [--calls 600] [--burst N] [--valkey] [--kill]
                       [--flood]

The instances are processes on loopback, with one sealing key. Prints the admitted calls, the most
within one window, and the messages about leases. Fails beyond 2 % of the rule; with --kill, the
owner is killed halfway, and at most one lease more may be admitted. With --flood, the calls of one
window are used up as fast as possible, so that a busy machine has no effect.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from mcpproxy.api.v1alpha1 import LimitRule
from mcpproxy.proxy.call_limits.rules import CompiledRule
from mcpproxy.proxy.call_limits.store import SubjectKey
from mcpproxy.proxy.call_limits.window import Rate, lease_size
from mcpproxy.proxy.instances.members import InstanceUnreachable, Members
from scripts.ports import ports_in_a_row

INSTANCES: Final = 3
TIMES: Final = 3
"""Number of times that the rule is offered."""
FLOODS: Final = 5
"""Most floods until the calls of a window are used up."""
HEADERS: Final = {"accept": "application/json, text/event-stream"}
ROOT: Final = Path(__file__).parents[1]


@asynccontextmanager
async def _process(*command: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _rule(args: argparse.Namespace) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": "each", "calls": args.calls, "window": f"{args.window}s"}
    if args.burst:
        rule["burst"] = args.burst
    return rule


def _owner(args: argparse.Namespace, urls: list[str]) -> int:
    """Return the number of the instance that counts the calls of anonymous callers."""
    addresses = [url.split("/")[2] for url in urls]
    members = Members(addresses[0], (), _unreachable, time.monotonic)
    for address in addresses[1:]:
        members.hear(address)
    rule = CompiledRule(LimitRule.model_validate(_rule(args)))
    return addresses.index(members.owner(SubjectKey(rule.id, "")))


async def _unreachable(address: str) -> Collection[str]:
    raise InstanceUnreachable(address)


def _manifest(args: argparse.Namespace, backend: int, store: int) -> dict[str, Any]:
    limits: dict[str, Any] = {"rules": [_rule(args)]}
    if args.valkey:
        limits["shared"] = {"valkey": {"address": f"127.0.0.1:{store}"}}
    return {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "limited"},
        "spec": {
            "backends": [{"name": "weather", "url": f"http://127.0.0.1:{backend}/mcp"}],
            "limits": limits,
        },
    }


async def _until_ready(http: httpx2.AsyncClient, admin: int) -> None:
    for _ in range(300):
        with contextlib.suppress(httpx2.TransportError):
            if (await http.get(f"http://127.0.0.1:{admin}/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("an instance is not ready")


async def _until_listening(port: int) -> None:
    """Wait for a backend, which may start more slowly than the instances."""
    for _ in range(300):
        with contextlib.suppress(ConnectionError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the backend does not listen")


async def _session(http: httpx2.AsyncClient, url: str) -> dict[str, str]:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    request = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await http.post(url, json=request, headers=HEADERS)
    return {**HEADERS, "mcp-session-id": answer.headers["mcp-session-id"]}


class Load:
    """Calls at a steady pace, at all instances in turn."""

    def __init__(self, urls: list[str], window: float) -> None:
        self.urls, self._window = urls, window
        self.admitted: list[float] = []
        self.offered = 0
        self.failed: Counter[str] = Counter()
        """Failures of connections, by their kind."""

    async def call(
        self, http: httpx2.AsyncClient, url: str, headers: dict[str, str], number: int
    ) -> None:
        params = {"name": "weather_get_forecast", "arguments": {"city": "Oslo"}}
        request = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        self.offered += 1
        try:
            answer = await http.post(url, json=request, headers=headers)
        except httpx2.TransportError as error:
            self.failed[type(error).__name__] += 1
            return
        if '"result"' in answer.text:
            self.admitted.append(time.monotonic())

    async def run(self, http: httpx2.AsyncClient, pace: float, seconds: float) -> None:
        """Call `pace` times per second."""
        sessions = {url: await _session(http, url) for url in self.urls}
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() - began < seconds:
                while number < (time.monotonic() - began) * pace:
                    url = self.urls[number % len(self.urls)]
                    tasks.create_task(self.call(http, url, sessions[url], number))
                    number += 1
                await asyncio.sleep(0.01)

    async def flood(self, http: httpx2.AsyncClient, count: int, urls: list[str]) -> None:
        """Call as fast as possible, eight calls at a time."""
        sessions = {url: await _session(http, url) for url in urls}
        room = asyncio.Semaphore(8)

        async def call(number: int) -> None:
            url = urls[number % len(urls)]
            async with room:
                await self.call(http, url, sessions[url], number)

        await asyncio.gather(*map(call, range(count)))

    def most(self) -> int:
        """The most calls that were admitted within one window."""
        times, first, most = sorted(self.admitted), 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - self._window:
                first += 1
            most = max(most, last - first + 1)
        return most


async def _messages(http: httpx2.AsyncClient, admins: list[int]) -> int:
    count = 0
    for admin in admins:
        with contextlib.suppress(httpx2.TransportError):
            for line in (await http.get(f"http://127.0.0.1:{admin}/metrics")).text.splitlines():
                if line.startswith("mcpproxy_limit_messages_total"):
                    count += round(float(line.split()[-1]))
    return count


async def main(args: argparse.Namespace) -> int:
    """Run, print and judge."""
    program = shutil.which("valkey-server") or shutil.which("redis-server") or ""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first = ports_in_a_row(2 * INSTANCES + 2)
        ports, admins = list(range(first, first + INSTANCES)), []
        backend, store = first + 2 * INSTANCES, first + 2 * INSTANCES + 1
        if args.valkey:
            command = (program, "--port", str(store), "--bind", "127.0.0.1", "--save", "")
            await stack.enter_async_context(_process(*command, log=directory / "store.log"))
        server = (sys.executable, "samples/servers/weather.py", "--port", str(backend))
        await stack.enter_async_context(_process(*server, log=directory / "backend.log"))
        await _until_listening(backend)
        keys = directory / "keys"
        keys.mkdir()
        (keys / "current").write_bytes(os.urandom(32))
        manifest = directory / "mcpproxy.json"
        manifest.write_text(json.dumps(_manifest(args, backend, store)), encoding="utf-8")
        others = [word for port in ports for word in ("--instances", f"127.0.0.1:{port}")]
        processes = []
        for number, port in enumerate(ports):
            admins.append(port + INSTANCES)
            instance = (
                *(sys.executable, "-m", "mcpproxy", "run", "-f", str(manifest), *others),
                *("--transport", "http", "--port", str(port), "--admin-port", str(admins[-1])),
                *("--sealing-keys", str(keys)),
            )
            log = directory / f"{number}.log"
            processes.append(await stack.enter_async_context(_process(*instance, log=log)))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        # A machine that is busy with something else delays calls and must not lose them.
        client = httpx2.AsyncClient(timeout=httpx2.Timeout(120), limits=limits)
        http = await stack.enter_async_context(client)
        for admin in admins:
            await _until_ready(http, admin)
        load = Load([f"http://127.0.0.1:{port}/mcp" for port in ports], args.window)
        if args.flood:
            return await _flood(args, http, load, processes)
        if args.kill:
            owner = processes[_owner(args, load.urls)]
            asyncio.get_running_loop().call_later(args.seconds / 2, owner.kill)
        await load.run(http, TIMES * args.calls / args.window, args.seconds)
        return _judge(args, load, await _messages(http, admins))


async def _flood(
    args: argparse.Namespace,
    http: httpx2.AsyncClient,
    load: Load,
    processes: list[asyncio.subprocess.Process],
) -> int:
    """Use the calls of one window up, whatever time that takes; with --kill, try again after it."""
    lease = lease_size(Rate(args.calls, args.window, args.burst))
    # Instances may hold calls of their leases when their share of a flood has ended.
    for _ in range(FLOODS):
        if len(load.admitted) < args.calls:
            await load.flood(http, TIMES * args.calls, load.urls)
    first = len(load.admitted)
    print(f"admitted {first} of {args.calls}; failed connections: {dict(load.failed)}")
    # On a busy machine, answers about leases come late, and their calls are given back only later.
    if not 0.5 <= first / args.calls <= 1.02 or load.failed:
        return 1
    if not args.kill:
        return 0
    number = _owner(args, load.urls)
    processes[number].kill()
    await processes[number].wait()
    del load.urls[number]
    await load.flood(http, args.calls, load.urls)
    more = len(load.admitted) - first
    print(f"admitted {more} after the owner was killed; a lease has {lease}")
    return int(first + more > args.calls + lease)


def _judge(args: argparse.Namespace, load: Load, messages: int) -> int:
    allowed = args.calls * args.seconds / args.window
    share = len(load.admitted) / allowed - 1
    lease = lease_size(Rate(args.calls, args.window, args.burst))
    # Each instance may use a lease later than it was counted.
    most = args.calls + args.burst + INSTANCES * lease
    print(f"offered {load.offered} calls; failed connections: {dict(load.failed)}")
    print(f"admitted {len(load.admitted)} of {allowed:.0f} ({share:+.2%})")
    print(f"most within a window: {load.most()} (rule {args.calls}, with leases {most})")
    print(
        f"messages about leases: {messages}, {len(load.admitted) / max(messages, 1):.1f} calls each"
    )
    exceeds = load.most() > most or len(load.admitted) > allowed * 1.02 + args.kill * lease
    return int(exceeds or (not args.kill and abs(share) > 0.02))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--burst", type=int, default=0)
    parser.add_argument("--valkey", action="store_true")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--flood", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(_parsed())))
