"""Resources that the operator needs by the number of MCPProxies, as docs/operations.md says."""

import re
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mcpproxy.api.kubernetes.quantities import parse_quantity
from scripts.yaml_files import parse_yaml
from tests.apiserver.operator_process import StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.test_idle import Crowd
from tests.stress.size import size

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).parents[2]
MEBI: Final = 1024 * 1024
PROXIES: Final = size(20, 100)
_ROW: Final = re.compile(r"^\| (\d+) MCPProxies \| (\d+) MiB \|$", re.MULTILINE)


def documented() -> dict[int, int]:
    """Memory in MiB by the number of MCPProxies, as the documentation has it."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return {int(number): int(memory) for number, memory in _ROW.findall(text)}


def measured(apiserver: ApiServer, namespace: str, directory: Path) -> tuple[float, float]:
    """Memory in MiB without an MCPProxy, and with PROXIES of them that are Ready."""
    log = directory / "log"
    with ExitStack() as stack:
        client = stack.enter_context(apiserver.client())
        operator = stack.enter_context(
            operating(apiserver.kubeconfig, "--namespace", namespace, log=log)
        )
        without = operator.number("process_resident_memory_bytes")
        crowd = Crowd(client, namespace, operator)
        names = [f"proxy-{number:02}" for number in range(PROXIES)]
        for number, name in enumerate(names):
            crowd.create(name, number)
        for name in names:
            pod = StatusServer()
            stack.callback(pod.stop)
            crowd.begin(name, pod)
        for name in names:
            operator.until(partial(crowd.is_ready, name), f"{name} is Ready")
        return without / MEBI, operator.number("process_resident_memory_bytes") / MEBI


def test_the_memory_of_the_operator_matches_the_documentation(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    without, having = measured(apiserver, namespace, tmp_path)
    sys.stdout.write(f"{without:.1f} MiB without an MCPProxy, {having:.1f} MiB with {PROXIES}\n")
    said = documented()
    assert sorted(said) == [0, 20, 100]
    for number, memory in ((0, without), (PROXIES, having)):
        assert said[number] * 0.8 < memory < said[number] * 1.2


def test_the_documented_memory_for_a_hundred_proxies_is_within_the_limit() -> None:
    text = (ROOT / "manifests" / "base" / "deployment.yaml").read_text(encoding="utf-8")
    (container,) = parse_yaml(text)["spec"]["template"]["spec"]["containers"]
    limit = int(parse_quantity(container["resources"]["limits"]["memory"])) / MEBI
    assert max(documented().values()) < limit / 2
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"Its memory limit is {limit:.0f} MiB" in page
