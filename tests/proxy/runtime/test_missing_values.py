"""Values that are not there, through a whole proxy: the status names them, and they heal."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.proxy.upstream import backend as module
from mcpproxy.proxy.upstream.monitor import check_schedule
from mcpproxy.proxy.upstream.mounted import values
from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.program import PROGRAM
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.test_tls_rotation import TOOL, World
from tests.proxy.runtime.waiting import eventually
from tests.support.kubelet import Volume

pytestmark = LIVE
KINDS = [("secretKeyRef", "secret", "Secret"), ("configMapKeyRef", "configmap", "ConfigMap")]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are looked for more often than in production."""
    monkeypatch.setattr(module, "REAP_EVERY", 0.05)
    monkeypatch.setattr(values, "FRESH", 0.05)
    monkeypatch.setattr(check_schedule, "APART", 0.05)


def _source(kind: str) -> dict[str, Any]:
    return {"valueFrom": {kind: {"name": "token", "key": "value"}}}


async def _status(running: Proxy) -> BackendStatus:
    (backend,) = (await running.report()).backends
    return backend


async def _called(client: Client, tool: str) -> dict[str, Any]:
    """The answer to a call."""
    params = {"name": f"t_{tool}", "arguments": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    *_, last = await client.exchange(json.dumps(message).encode())
    document: dict[str, Any] = json.loads(last)
    return document


@asynccontextmanager
async def _client(running: Proxy) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(timeout=30) as http:
        client = Client(http, running.url, "legacy")
        await client.initialize()
        yield client


async def _named_and_healed(
    running: Proxy,
    volume: Volume,
    files: Mapping[str, str],
    missing: Mapping[str, str],
    tool: str = "t",
) -> None:
    """One after the other of the missing, by its path, is named as it says, and heals.

    Twice: it is not there when the proxy starts, and is taken away while it serves.
    """
    for path, name in [*missing.items()] * 2:
        async with _client(running) as client:

            async def named(name: str = name) -> bool:
                actual = await _status(running)
                return actual.reason == "ValueMissing" and name in (actual.message or "")

            volume.write({key: value for key, value in files.items() if key != path})
            await eventually(named, f"{name} to be named")
            result = await _status(running)
            assert (result.state, result.components) == ("Unhealthy", None)
            assert name in (await _called(client, tool))["error"]["message"]
            volume.write(files)
            await running.until("t", "Healthy")
            assert "result" in await _called(client, tool)
            assert (await _status(running)).message is None


@pytest.mark.parametrize(("kind", "folder", "named"), KINDS)
async def test_a_header_without_its_value_is_named_and_heals(
    tmp_path: Path, kind: str, folder: str, named: str
) -> None:
    async def answer(call: Call) -> None:
        assert call.received.headers["x-token"] == "there"
        await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": {}}))

    backend, volume = Backend("modern", answer, {"tools": [TOOL]}), Volume(tmp_path / "values")
    async with serving(backend) as base:
        headers = [{"name": "X-Token", **_source(kind)}]
        spec = {"name": "t", "url": f"{base}/mcp", "headers": headers}
        async with proxied(spec, options={"values": volume.directory}) as running:
            path = f"{folder}/token/value"
            told = f"{named} token has no readable key value"
            await _named_and_healed(running, volume, {path: "there"}, {path: told})


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_tls_without_its_files_is_named_and_heals(tmp_path: Path, era: str) -> None:
    world = World(tmp_path, era)
    world.identity.be(world.old, world.old)
    missing = {
        "configmap/ca/ca.crt": "ConfigMap ca has no readable key ca.crt",
        "secret/client/tls.crt": "Secret client has no readable key tls.crt",
        "secret/client/tls.key": "Secret client has no readable key tls.key",
    }
    async with world.proxied(tmp_path) as running:
        files = world.files(world.old, world.old)
        await _named_and_healed(running, world.volume, files, missing)


@pytest.mark.parametrize(("kind", "folder", "named"), KINDS)
@pytest.mark.parametrize("mode", ["Isolated", "PerClient", "Reused"])
@pytest.mark.slow
async def test_a_program_without_its_variable_is_named_and_heals(
    tmp_path: Path, kind: str, folder: str, named: str, mode: str
) -> None:
    program, volume = tmp_path / "program.py", Volume(tmp_path / "values")
    program.write_text(PROGRAM)
    arguments = ["-ISu", str(program), str(tmp_path / "starts")]
    env = [{"name": "TOKEN", **_source(kind)}]
    stdio = {"command": sys.executable, "args": arguments, "env": env}
    session = {"mode": mode, **({"stateless": True} if mode == "Reused" else {})}
    spec = {"name": "t", "stdio": stdio, "session": session}
    async with proxied(spec, options={"values": volume.directory}) as running:
        path = f"{folder}/token/value"
        told = f"{named} token has no readable key value"
        await _named_and_healed(running, volume, {path: "there"}, {path: told}, "tell")
