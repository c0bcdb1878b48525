"""`mcpproxy run --workers N`: processes that share a port, and what each of them holds."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.workers.supervisor import Supervisor as Parent
from mcpproxy.proxy.workers.supervisor import worker_configs
from scripts.ports import ports_in_a_row
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.crews import Crew, crews, started
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import INTERVAL, LIVE, bound, configuration, free_port, serving
from tests.proxy.runtime.waiting import eventually, soon
from tests.support.commands import run_command

pytestmark = [*LIVE, pytest.mark.slow, pytest.mark.timeout(120)]
OFTEN = {"health": {"interval": INTERVAL, "timeout": "2s", "unhealthyAfter": 1}}


@asynccontextmanager
async def _pair(directory: Path) -> AsyncIterator[tuple[Peer, Counter, Crew]]:
    peer, counter = Peer("p"), Counter()
    async with AsyncExitStack() as stack:
        specs = []
        for name, gate, mode in (("p", peer.gate, "Isolated"), ("c", counter.gate, "PerClient")):
            base = await stack.enter_async_context(serving(gate))
            specs.append({"name": name, "url": f"{base}/mcp", "session": {"mode": mode}})
        yield peer, counter, await stack.enter_async_context(crews(directory, 2, specs, **OFTEN))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Peer, Counter, Crew]]:
    """Two workers for tests that leave them as they are."""
    async with _pair(tmp_path_factory.mktemp("pair")) as result:
        yield result
    assert '"exception"' not in result[2].log.read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def doomed(tmp_path: Path) -> AsyncIterator[tuple[Peer, Counter, Crew]]:
    """Two workers to break."""
    async with _pair(tmp_path) as result:
        yield result


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A client that keeps no connection."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=30, limits=limits) as client:
        yield client


async def _at(crew: Crew, http: httpx2.AsyncClient) -> tuple[Raw, Raw]:
    """One session, begun at worker 0, as it is seen at either worker."""
    first, second = (Raw(crew.url_of(worker), http) for worker in (0, 1))
    await first.initialize()
    second.session = first.session
    return first, second


async def _called(client: Raw, tool: str, **arguments: Any) -> Any:
    answer = await client.post(rpc("tools/call", {"name": tool, "arguments": arguments}))
    return last(answer)["result"]["content"][0]["text"]


async def test_any_worker_serves_a_session_and_finds_state_of_the_others(
    pair: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    _, counter, crew = pair
    clients = await _at(crew, http)
    before = len(counter.counts)
    for number in range(4):
        client = clients[number % 2]
        assert json.loads(await _called(client, "p_echo", n=number)) == {"n": number}
        # Both ask the same session of the backend, which one worker holds.
        assert await _called(client, "c_increment") == str(number + 1)
    assert len(counter.counts) == before + 1


async def test_connections_to_the_shared_port_reach_all_workers(
    pair: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    crew = pair[2]
    client = Raw(crew.url, http)
    await client.initialize()
    async with AsyncExitStack() as stack:
        for _ in range(24):
            get = http.stream(
                "GET",
                crew.url,
                headers={"accept": "text/event-stream", "mcp-session-id": str(client.session)},
            )
            assert (await stack.enter_async_context(get)).status_code == 200
        shares = [_connections(crew.pid(worker), crew.port) for worker in (0, 1)]
    assert sum(shares) >= 24
    assert min(shares) >= 2


def _connections(pid: int, port: int) -> int:
    """Return the number of connections of a process to a port (Linux)."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[9] in inodes and row[1].endswith(f":{port:04X}") for row in rows)


async def test_counters_of_all_workers_are_added_up(
    pair: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    crew = pair[2]
    counted = "mcp_client_operation_duration_seconds_count"
    labels = {"mcpproxy_backend": "p", "error_type": "", "gen_ai_tool_name": "p_echo"}
    before = await crew.total(counted, **labels)
    for client, calls in zip(await _at(crew, http), (3, 2), strict=True):
        for _ in range(calls):
            await _called(client, "p_echo")
    assert await crew.total(counted, **labels) == before + 5
    served = counted.replace("client", "server")
    assert await crew.total(served, gen_ai_tool_name="p_echo") >= before + 5
    assert await crew.total("mcpproxy_backend_state", backend="p") == 1
    assert await crew.total("mcpproxy_workers") == 2


async def test_the_status_covers_all_workers_and_changes_are_reported_once(
    pair: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    peer, _, crew = pair
    async with http.stream("GET", f"http://127.0.0.1:{crew.admin}/status?watch") as answer:
        lines = (line async for line in answer.aiter_lines() if line)

        async def tools() -> Any:
            document = json.loads(await anext(lines))
            (backend,) = (item for item in document["backends"] if item["name"] == "p")
            assert "catalogHash" in document
            return backend["components"]["tools"]

        async with asyncio.timeout(20):
            before = await tools()
            await peer.grow("grown")
            assert await tools() == before + 1


async def test_the_health_checks_of_one_worker_count_for_all(tmp_path: Path) -> None:
    peer = Peer("p", "modern")
    async with serving(peer.gate) as base:
        spec = {"name": "p", "url": f"{base}/mcp"}
        # An interval that leaves a busy machine the time to tell the others.
        async with crews(tmp_path, 4, [spec], health={"interval": "1s"}):
            loop = asyncio.get_running_loop()
            before, begun = peer.gate.count("server/discover"), loop.time()
            await soon(lambda: peer.gate.count("server/discover") >= before + 5, "checks")
            # Each for itself they would take 1.25 s.
            assert loop.time() - begun > 2.5


async def test_all_workers_see_soon_that_a_backend_fails_and_that_it_is_back(
    doomed: tuple[Peer, Counter, Crew],
) -> None:
    peer, _, crew = doomed

    async def state() -> tuple[str, str | None]:
        result = next(backend for backend in (await crew.report()).backends if backend.name == "p")
        return result.state, result.reason

    assert (await state())[0] == "Healthy"
    peer.gate.status = 401
    await eventually(lambda: _is(state, "Unauthorized"), "all to see the failure")
    peer.gate.status = None
    await eventually(lambda: _is(state, "Healthy"), "all to see the recovery")


async def _is(state: Callable[[], Any], wanted: str) -> bool:
    return bool((await state())[0] == wanted)


async def test_a_worker_that_dies_is_replaced_and_its_sessions_over_http_go_on(
    doomed: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    _, _, crew = doomed
    counted = "mcp_client_operation_duration_seconds_count"
    first, second = await _at(crew, http)
    assert await _called(second, "c_increment") == "1"
    await _called(second, "p_echo")
    before = await crew.total(counted, error_type="")
    dead = crew.pid(0)
    os.kill(dead, signal.SIGKILL)
    await _called(second, "p_echo")
    await crew.until_another(0, dead)
    assert json.loads(await _called(first, "p_echo", at="the new one")) == {"at": "the new one"}
    # The session with the stateful backend outlives the worker that opened it.
    for number, client in enumerate((second, first)):
        assert await _called(client, "c_increment") == str(2 + number)
    assert await crew.total(counted, error_type="") >= before
    assert await crew.total("mcpproxy_worker_ends_total") == 1
    said = [json.loads(line) for line in crew.log.read_text().splitlines()]
    assert any(f"(process {dead}) exited with status -9" in line["message"] for line in said)


async def test_a_worker_that_hangs_is_ended_and_replaced(tmp_path: Path) -> None:
    peer = Peer("p")
    async with serving(peer.gate) as base:
        value = configuration({"name": "p", "url": f"{base}/mcp"})
        port = free_port()
        options = RuntimeOptions(port=port)
        result = worker_configs(value, options, [free_port()], "warning")
        parent = Parent(result, silence=8.0)
        running = asyncio.create_task(parent.run())
        (member,) = parent.members
        await soon(lambda: member.serves, "the worker to serve")
        process = member._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        await soon(lambda: member.starts == 2 and member.serves, "another one")
        assert process.returncode == -signal.SIGKILL
        parent.stop()
        await running


async def test_sigterm_lets_calls_in_flight_finish_in_every_worker(
    doomed: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    peer, _, crew = doomed
    slow = [asyncio.create_task(_called(client, "p_slow")) for client in await _at(crew, http)]

    await soon(lambda: _slow_calls(peer) == 2, "both calls to reach the backend")
    crew.process.send_signal(signal.SIGTERM)

    async def draining() -> bool:
        return (await crew.get("/readyz")).status_code == 503

    await eventually(draining, "readyz to be 503")
    assert not any(task.done() for task in slow)
    peer.release.set()
    assert await asyncio.gather(*slow) == ["slow", "slow"]
    assert await asyncio.wait_for(crew.process.wait(), 15) == 0


def _slow_calls(peer: Peer) -> int:
    return sum(request.rpc == "tools/call" for request in peer.gate.seen)


async def test_workers_end_with_their_parent(
    doomed: tuple[Peer, Counter, Crew],
) -> None:
    crew = doomed[2]
    workers = [crew.pid(worker) for worker in (0, 1)]
    # One of them hangs: it can't see that the parent has ended.
    os.kill(workers[0], signal.SIGSTOP)
    crew.process.kill()
    await soon(lambda: not any(_lives(pid) for pid in workers), "the workers to end")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    first = ports_in_a_row(2)
    with bound(first + 1):
        backends = [{"name": "p", "url": "http://127.0.0.1:9/mcp"}]
        crew = await started(tmp_path, 2, backends, first=first)
        try:
            assert await asyncio.wait_for(crew.process.wait(), 20) == 1
        finally:
            await crew.kill()
    assert "is in use" in crew.log.read_text()
    assert "cannot start worker 1" in crew.log.read_text()


async def _refused(*arguments: object) -> str:
    refused = await run_command("run", "http://127.0.0.1:9/mcp", *map(str, arguments))
    assert refused.code == 2
    return refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", 2), "--workers requires HTTP; add --transport http"),
        (("--workers", 0), "'0' is not an integer from 1 to 64"),
        (
            ("--transport=http", "--workers", 2, "--port", 8000, "--worker-ports", 7999),
            "the 2 ports from 7999 include 8000, which is --port; choose other ports",
        ),
        (
            ("--transport=http", "--workers", 2, "--port", 8000, "--admin-port", 8101),
            "the 2 ports from 8100 include 8101, which is --admin-port; choose other ports",
        ),
        (
            ("--transport=http", "--workers", 2, "--worker-ports", 65535),
            "--worker-ports: the 2 ports from 65535 exceed 65535; choose a lower port",
        ),
    ],
)
async def test_options_that_do_not_go_together_are_refused(
    arguments: tuple[object, ...], said: str
) -> None:
    assert said in await _refused(*arguments)


async def test_a_port_that_another_process_has_is_not_shared_with_it(
    pair: tuple[Peer, Counter, Crew],
) -> None:
    value = ("--transport", "http", "--workers", 2, "--port", pair[2].port)
    said = await _refused(*value, "--worker-ports", ports_in_a_row(2))
    assert f"port {pair[2].port} is in use" in said


async def test_a_workers_own_port_serves_no_more_hosts_than_the_shared_one(
    pair: tuple[Peer, Counter, Crew], http: httpx2.AsyncClient
) -> None:
    client = Raw(pair[2].url_of(1), http)
    answer = await client.initialize(host="elsewhere.example", mcpproxy_principal="forged")
    assert answer.status_code == 421


async def test_the_page_is_about_all_workers(pair: tuple[Peer, Counter, Crew]) -> None:
    _, _, crew = pair
    async with httpx2.AsyncClient() as http:
        for worker in range(2):
            raw = Raw(crew.url_of(worker), http)
            await raw.initialize()
            await raw.call("tools/call", name="p_echo", arguments={"a": "hunter2"})
        page = (await http.get(f"http://127.0.0.1:{crew.admin}/")).text
    assert "worker processes of" in page
    assert page.count("<bdi>p_echo</bdi>") >= 3
    assert "hunter2" not in page
    shown = await crew.get("/page/definition?kind=tools&backend=p&name=p_echo")
    assert "inputSchema" in shown.text
