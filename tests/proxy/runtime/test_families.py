"""Instances as the operator starts them, in IPv4, IPv6 and dual-stack clusters."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAddress
from mcpproxy.desired import OwnerRef, deployment
from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.support.builders import OPTIONS, an_mcpproxy

pytestmark = LIVE

ADDRESSES = pytest.mark.parametrize("address", ["::1", "127.0.0.1"])


def at(url: str, address: str) -> str:
    """The same URL at another address of this machine."""
    return url.replace("127.0.0.1", f"[{address}]" if ":" in address else address)


def argument(name: str) -> str:
    """The value of an argument with which the operator starts pods."""
    rendered = deployment.build(an_mcpproxy(), OPTIONS, OwnerRef("tools", "u"))
    arguments = rendered["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(arguments[arguments.index(name) + 1])


@asynccontextmanager
async def instances(address: str, count: int = 2) -> AsyncIterator[list[Proxy]]:
    """Instances that bind as pods do, with POD_IP, in front of a backend that counts."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(Counter().gate))
        spec = {"name": "c", "url": f"{base}/mcp", "session": {"mode": "PerClient"}}
        hosts = {"host": argument("--host"), "admin_host": argument("--admin-host")}
        options = {**hosts, "keys": (KEY,), "reachable": address}
        yield [
            await stack.enter_async_context(proxied(spec, options=options)) for _ in range(count)
        ]


async def counted(client: Raw) -> Any:
    """Return the reply of a tool that counts the calls of its session."""
    request = rpc("tools/call", {"name": "c_increment", "arguments": {}})
    return last(await client.post(request))["result"]["content"][0]["text"]


@ADDRESSES
async def test_a_session_is_handed_over_between_instances_at_addresses_of_either_family(
    address: str,
) -> None:
    async with instances(address) as (first, second), httpx2.AsyncClient(timeout=30) as http:
        begun = Raw(at(first.url, address), http)
        await begun.initialize()
        item = await counted(begun)
        elsewhere = Raw(at(second.url, address), http)
        elsewhere.session = begun.session
        two = await counted(elsewhere)
        # Each answer goes on where the session's own count was.
        assert [item, two] == ["1", "2"]


@ADDRESSES
async def test_the_operator_reads_the_report_of_a_pod_at_an_address_of_either_family(
    address: str,
) -> None:
    async with instances(address, 1) as (instance,):
        port = int(instance.admin.rpartition(":")[2])
        reader = HttpPodStatusReader(Configuration(), "direct")
        try:
            lines = reader.lines(PodAddress("team", "tools-1", "u", address, port))
            report = PodReport.model_validate_json(await anext(lines))
            await lines.aclose()
        finally:
            await reader.close()
        assert [backend.name for backend in report.backends] == ["c"]


@ADDRESSES
async def test_probes_of_the_kubelet_are_answered_at_addresses_of_either_family(
    address: str,
) -> None:
    async with instances(address, 1) as (instance,), httpx2.AsyncClient(timeout=30) as http:
        for path in ("/livez", "/readyz"):
            assert (await http.get(at(f"{instance.admin}{path}", address))).status_code == 200
