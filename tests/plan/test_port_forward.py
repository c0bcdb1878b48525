"""The difference to a proxy of a cluster, with a program in the place of kubectl."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.desired import build
from mcpproxy.plan.port_forward import PORT, proxy_of
from tests.plan.planning import written
from tests.proxy.runtime.serving import LIVE
from tests.support.builders import OPTIONS, OWNER, a_manifest, an_mcpproxy
from tests.support.commands import Ended, run_command

pytestmark = LIVE


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A program that is found as kubectl."""

    directory: Path

    def does(self, script: str) -> None:
        """Set the script of the fake kubectl, which records its arguments and its end."""
        program = self.directory / "kubectl"
        read = f'case "$*" in *"get mcpproxies"*) exec cat "{self.directory}/stored";; esac'
        record = f'echo "$@" > "{self.directory}/called"'
        program.write_text(f"#!/bin/sh\n{read}\n{record}\n{script}\n")
        program.chmod(0o755)

    def forwards(self, url: str) -> None:
        """Say that it forwards to this server, and stay until it is told to end."""
        place = url.removeprefix("http://").removesuffix("/mcp")
        self.does(
            f"trap 'echo > \"{self.directory}/ended\"; exit 0' TERM\n"
            f"echo 'Forwarding from {place} -> 8080'\n"
            "while :; do sleep 0.1 & wait $!; done"
        )

    def stores(self, spec: dict[str, Any]) -> None:
        """Have the API server return this spec; until then, nothing can be read there."""
        (self.directory / "stored").write_text(json.dumps({"spec": spec}))

    @property
    def called(self) -> str:
        """The arguments that it was called with."""
        return (self.directory / "called").read_text().strip()

    async def plan(self, *args: str | Path) -> Ended:
        """Run `mcpproxy plan` where this is the only kubectl."""
        path = f"{self.directory}:/usr/bin:/bin"
        return await run_command("plan", *args, env={"PATH": path})


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    (tmp_path / "bin").mkdir()
    return Kubectl(tmp_path / "bin")


async def test_the_proxy_of_a_cluster_is_reached_and_compared_with(
    tmp_path: Path, peer: Any, proxy: Any, kubectl: Kubectl
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    kubectl.forwards(running.url)
    backend = {"name": "p", "url": url}
    same = written(tmp_path / "same.yaml", a_manifest(backends=[backend]))
    result = await kubectl.plan("-f", same, "--against", "mcpproxy/live")
    assert (result.code, result.err) == (0, "")
    assert "no differences" in result.out
    assert kubectl.called == "--namespace team port-forward service/live :http"
    assert (kubectl.directory / "ended").exists()
    other = written(tmp_path / "other.yaml", a_manifest(backends=[{**backend, "prefix": "q"}]))
    changed = await kubectl.plan("-f", other, "-o", "json", "--against", "mcpproxy/live")
    assert changed.code == 2
    tools = changed.plan["differences"]["tools"]
    assert ("q_echo" in tools["added"], "p_echo" in tools["removed"]) == (True, True)


async def test_the_limits_of_a_cluster_are_those_of_its_mcpproxy(
    tmp_path: Path, peer: Any, proxy: Any, kubectl: Kubectl
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    kubectl.forwards(running.url)
    rule = {"name": "fast", "calls": 60, "window": "1m"}
    backend, limits = {"name": "p", "url": url}, {"rules": [{**rule, "tools": ["p_echo"]}]}
    file = written(tmp_path / "f.yaml", a_manifest(backends=[backend], limits=limits))
    unknown = await kubectl.plan("-f", file, "--against", "mcpproxy/live")
    assert (unknown.code, unknown.err) == (0, "")
    assert "limits that are served now: unknown" in unknown.out
    kubectl.stores({"limits": {"rules": [{**rule, "calls": 30, "tools": ["p_slow"]}]}})
    compared = await kubectl.plan("-f", file, "-o", "json", "--against", "mcpproxy/live")
    (change,) = compared.plan["limitDifferences"]["changed"]
    assert change["amounts"] == {"calls": [30, 60]}
    assert change["tools"] == {"added": ["p_echo"], "removed": ["p_slow"]}
    kubectl.stores({"limits": {"rules": "of another version"}})
    odd = await kubectl.plan("-f", file, "-o", "json", "--against", "mcpproxy/live")
    assert odd.plan["limitDifferences"] is None


async def test_without_a_namespace_it_is_that_of_the_context(
    tmp_path: Path, peer: Any, proxy: Any, kubectl: Kubectl
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    kubectl.forwards(running.url)
    file = written(
        tmp_path / "f.yaml", a_manifest("tools", None, backends=[{"name": "p", "url": url}])
    )
    assert (await kubectl.plan("-f", file, "--against", "mcpproxy/tools")).code == 0
    assert kubectl.called == "port-forward service/tools :http"


async def test_an_error_of_kubectl_is_reported(tmp_path: Path, kubectl: Kubectl) -> None:
    kubectl.does("""echo 'Error from server (NotFound): services "tools" not found' >&2; exit 1""")
    file = written(tmp_path / "f.yaml", a_manifest())
    result = await kubectl.plan("-f", file, "--against", "mcpproxy/tools")
    assert result.code == 1
    assert result.err == (
        "mcpproxy plan: --against mcpproxy/tools: kubectl port-forward:"
        ' Error from server (NotFound): services "tools" not found\n'
    )


async def test_a_kubectl_that_forwards_nothing_is_abandoned(
    tmp_path: Path, kubectl: Kubectl
) -> None:
    kubectl.does("exec sleep 60")
    file = written(tmp_path / "f.yaml", a_manifest())
    result = await kubectl.plan("-f", file, "--against", "mcpproxy/tools", "--timeout", "0.5")
    assert result.code == 1
    assert "no port was forwarded within the 0.5 s of --timeout" in result.err


async def test_a_missing_kubectl_is_reported(tmp_path: Path) -> None:
    file = written(tmp_path / "f.yaml", a_manifest())
    env = {"PATH": str(tmp_path)}
    result = await run_command("plan", "-f", file, "--against", "mcpproxy/tools", env=env)
    assert result.code == 1
    assert "--against mcpproxy/tools: cannot run kubectl: No such file" in result.err


async def test_the_service_of_a_proxy_has_the_port_that_is_forwarded() -> None:
    children = build(an_mcpproxy(), OPTIONS, OWNER)
    (service,) = [child for child in children if child["kind"] == "Service"]
    assert [port["name"] for port in service["spec"]["ports"]] == [PORT]


def _files() -> list[tuple[str, str | None]]:
    return [
        ("mcpproxy/tools", "tools"),
        ("mcpproxy/a/plan.json", None),
        ("mcpproxy/plan.json", None),
        ("tools", None),
        ("./mcpproxy/tools", None),
    ]


async def test_files_are_distinguished_from_proxies_of_a_cluster() -> None:
    assert [(source, proxy_of(source)) for source, _ in _files()] == _files()
