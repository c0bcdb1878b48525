"""Pods of IPv6 and dual-stack clusters, played by network namespaces that have such addresses.

kind's own network here has IPv4 alone. Each namespace has one interface on a bridge, as a pod has,
and the runtime in it is started with the arguments that the operator gives to pods.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest
import yaml
from kubernetes.aio.client.configuration import Configuration

from e2e.world import eventually
from mcpproxy.api.constants import PORT_ADMIN, PORT_HTTP
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAddress
from mcpproxy.desired import OwnerRef, deployment
from tests.peers import slow
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.support.builders import OPTIONS, a_manifest, an_mcpproxy

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]
BRIDGE = "mcpproxy-pods"
HOST = ("fd77:6d63::1/64", "10.77.109.1/24")
PODS = {"a": ("fd77:6d63::2", "10.77.109.2"), "b": ("fd77:6d63::3", "10.77.109.3")}
COUNT = rpc("tools/call", {"name": "counter_count", "arguments": {}})


@dataclass(frozen=True)
class Pod:
    """A running pod: its addresses, the one of `POD_IP` first."""

    addresses: tuple[str, ...]

    def url(self, address: str, port: int, path: str) -> str:
        """A URL of the pod at one of its addresses."""
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{port}{path}"

    @property
    def endpoint(self) -> str:
        """The URL of the MCP endpoint at `POD_IP`."""
        return self.url(self.addresses[0], PORT_HTTP, "/mcp")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _namespace(name: str, addresses: tuple[str, ...], stack: ExitStack) -> str:
    """Create a network namespace with an interface on the bridge."""
    namespace, inside, outside = f"mcpproxy-{name}", f"mcpp-{name}-i", f"mcpp-{name}-o"
    _ip("netns", "add", namespace)
    stack.callback(_ip, "netns", "del", namespace)
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
    _ip("link", "set", outside, "master", BRIDGE, "up")
    for address in addresses:
        length, no_dad = ("64", ("nodad",)) if ":" in address else ("24", ())
        _ip("-n", namespace, "addr", "add", f"{address}/{length}", "dev", inside, *no_dad)
    _ip("-n", namespace, "link", "set", inside, "up")
    _ip("-n", namespace, "link", "set", "lo", "up")
    return namespace


def _arguments(directory: Path) -> list[str]:
    """The arguments that pods get, with their directories below another one."""
    rendered = deployment.build(an_mcpproxy(), OPTIONS, OwnerRef("tools", "u"))
    arguments = rendered["spec"]["template"]["spec"]["containers"][0]["args"]
    return [
        text.replace("/etc/", f"{directory}/").replace("/var/run/", f"{directory}/")
        for text in arguments
    ]


def _start(namespace: str, address: str, directory: Path, stack: ExitStack) -> None:
    command = [str(Path(sys.executable).with_name("mcpproxy")), *_arguments(directory)]
    environment = {**os.environ, "POD_IP": address}
    process = subprocess.Popen(["ip", "netns", "exec", namespace, *command], env=environment)
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)


def _write(directory: Path) -> None:
    """Write what the operator and the kubelet mount into pods."""
    stdio = {"command": sys.executable, "args": [slow.__file__, "0"]}
    manifest = a_manifest("tools", backends=[{"name": "counter", "stdio": stdio}])
    for name in ("mcpproxy/values", "mcpproxy/sealing"):
        (directory / name).mkdir(parents=True)
    (directory / "mcpproxy" / "mcpproxy.yaml").write_text(yaml.safe_dump(manifest))
    (directory / "mcpproxy" / "sealing" / "current").write_bytes(b"k" * 32)


def _let_through(stack: ExitStack) -> None:
    """Docker drops IPv4 packets between the ports of bridges that are not its own."""
    if shutil.which("iptables") is not None:
        rule = ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")
        subprocess.run(["iptables", "-I", *rule], check=True, capture_output=True)
        stack.callback(subprocess.run, ["iptables", "-D", *rule], check=True)


@pytest.fixture(params=["IPv6", "dual stack, IPv4 first", "dual stack, IPv6 first"])
def pods(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Pod, Pod]]:
    """Two Ready pods of one MCPProxy."""
    _write(tmp_path)
    with ExitStack() as stack:
        _ip("link", "add", BRIDGE, "type", "bridge")
        stack.callback(_ip, "link", "del", BRIDGE)
        _ip("addr", "add", HOST[0], "dev", BRIDGE, "nodad")
        _ip("addr", "add", HOST[1], "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        _let_through(stack)
        results = []
        for name, (ipv6, ipv4) in PODS.items():
            addresses = {"IPv6": (ipv6,), "dual stack, IPv4 first": (ipv4, ipv6)}.get(
                request.param, (ipv6, ipv4)
            )
            namespace = _namespace(name, addresses, stack)
            _start(namespace, addresses[0], tmp_path, stack)
            results.append(Pod(addresses))
        for pod in results:
            url = pod.url(pod.addresses[0], PORT_ADMIN, "/readyz")
            eventually("the pod is Ready", partial(_is_ready, url))
        yield results[0], results[1]


def _is_ready(url: str) -> bool:
    return _status(url) == 200


def _status(url: str) -> int:
    try:
        return httpx2.get(url, timeout=5).status_code
    except httpx2.TransportError:
        return 0


def test_the_kubelet_probes_pods_at_each_of_their_addresses(pods: tuple[Pod, Pod]) -> None:
    for pod in pods:
        for address in pod.addresses:
            for path in ("/livez", "/readyz"):
                assert _status(pod.url(address, PORT_ADMIN, path)) == 200


async def test_a_session_of_one_pod_continues_at_another(pods: tuple[Pod, Pod]) -> None:
    host = {"host": "tools.team.svc"}
    async with httpx2.AsyncClient(timeout=30, headers=host) as http:
        begun, elsewhere = (Raw(pod.endpoint, http) for pod in pods)
        await begun.initialize()
        elsewhere.session = begun.session
        counts = [last(await client.post(COUNT)) for client in (begun, elsewhere, begun)]
        assert all("result" in answer for answer in counts), repr(counts)
        texts = [answer["result"]["content"][0]["text"] for answer in counts]
        assert texts == ["1", "2", "3"]


async def test_the_operator_reads_the_reports_of_pods(pods: tuple[Pod, Pod]) -> None:
    reader = HttpPodStatusReader(Configuration(), "direct")
    try:
        for pod in pods:
            lines = reader.lines(PodAddress("team", "p", "u", pod.addresses[0], PORT_ADMIN))
            report = PodReport.model_validate_json(await anext(lines))
            await lines.aclose()
            assert [backend.name for backend in report.backends] == ["counter"]
    finally:
        await reader.close()
