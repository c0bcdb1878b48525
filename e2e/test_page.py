"""The pages in a cluster: reached through a forwarded port, and by no other pod."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e import pods
from e2e.world import SYSTEM, World

COMMAND = Path(sys.executable).with_name("mcpproxy")
PORT = 8081
"""Port of the page, of a proxy as of the operator."""
VISIT = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=10).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)\n"
)


@pytest.fixture
def stranger(demo: World) -> Iterator[str]:
    """A pod in the namespace of the proxy."""
    pods.idler(demo, "stranger")
    yield "pod/stranger"
    demo.kubectl("delete", "pod", "stranger", "--wait=false")


@contextmanager
def _opened(world: World, *target: str) -> Iterator[str]:
    """The URL that `mcpproxy open` prints, while it forwards a port."""
    config = str(world.cluster.kubeconfig)
    environment = {**os.environ, **world.cluster.env, "KUBECONFIG": config}
    command = [str(COMMAND), "open", *target, "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def test_the_page_of_a_pod_and_of_the_operator_are_opened_through_kubectl(demo: World) -> None:
    with _opened(demo, "mcpproxy/demo", "-n", demo.namespace) as url:
        page = _read(url)
    for fact in (f"{demo.namespace}/demo", "Ready: True", "weather_get_forecast", "Service "):
        assert fact in page
    with _opened(demo, "operator") as url:
        page = _read(url)
    assert re.search(rf"{demo.namespace}/demo</bdi></span><span[^>]*>Ready: True", page)


def test_other_pods_cannot_open_the_pages(demo: World, stranger: str) -> None:
    template = "{range .items[*]}{.status.podIP} {end}"
    get_operators = ("-n", SYSTEM, "get", "pods", "-o", f"jsonpath={template}")
    addresses = demo.cluster.kubectl(*get_operators).split()
    addresses += [pod["status"]["podIP"] for pod in pods.pods_of(demo, "demo")]
    assert len(addresses) >= 2
    for address in addresses:
        visited = {
            path: demo.kubectl(
                "exec", stranger, "--", "python", "-c", VISIT, f"http://{address}:{PORT}/{path}"
            ).strip()
            for path in ("", "page/overview", "page/page.js", "livez")
        }
        assert visited == {"": "403", "page/overview": "403", "page/page.js": "403", "livez": "200"}
