"""Modules of a process that has served clients, the kubelet, Prometheus and the operator."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client

from tests.proxy.runtime.serving import LIVE, free_port
from tests.proxy.runtime.waiting import eventually
from tests.support.builders import a_manifest

pytestmark = LIVE
PROGRAM = """
import atexit, sys
from mcpproxy.cli import main

UNUSED = {"pydantic", "pydantic_core", "yaml", "mcp", "httpx2", "opentelemetry", "rich", "jwt"}
PARTS = ("authorization", "authentication", "audit", "call_limits", "issuers", "admin.page")

def imported():
    yield from UNUSED & set(sys.modules)
    yield from {part for part in PARTS if f"mcpproxy.proxy.{part}" in sys.modules}

atexit.register(lambda: print(sorted(imported())))
sys.exit(main())
"""


@pytest.mark.slow
async def test_a_proxy_that_serves_has_imported_nothing_that_it_does_not_use(
    peer: Any, tmp_path: Path
) -> None:
    _, url = await peer("p")
    manifest = tmp_path / "mcpproxy.json"
    manifest.write_text(json.dumps(a_manifest(backends=[{"name": "p", "url": url}])))
    port, admin = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "run", "-f", str(manifest)),
        *("--port", str(port), "--admin-port", str(admin)),
        stdout=subprocess.PIPE,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{admin}") as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready, "the proxy to be ready")
            async with Client(f"http://127.0.0.1:{port}/mcp", mode="auto") as client:
                await client.call_tool("p_echo", {"text": "hi"})
            report = (await http.get("/status")).json()
            assert report["backends"][0]["state"] == "Healthy"
            assert "mcpproxy_components" in (await http.get("/metrics")).text
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            output, _ = await process.communicate()
    assert output.decode().strip() == "[]"
