"""Stdio servers from npm in pods of restricted Pod Security, with a variant of the runtime."""

from collections.abc import Callable

import pytest

from e2e.world import Object, World, eventually
from scripts import images, machine
from scripts.cluster import Cluster

IMAGE = "mcpproxy/stdio:0.1.0"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    """An image with a server of npm, built as docs/stdio.md says."""
    (runtime,) = images.build(cluster.env, ("runtime-node",))
    arguments = ["--network=host", "--build-arg", f"RUNTIME={runtime}", "--tag", IMAGE]
    machine.run(["docker", "build", *arguments, "e2e/stdio"], cluster.env)
    cluster.load([IMAGE])
    return IMAGE


def proxy(image: str) -> Object:
    """An MCPProxy with the same server, by npx and by its own command."""
    return {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "stdio"},
        "spec": {
            "image": image,
            "backends": [
                {"name": "npx", "stdio": {"command": "npx", "args": ["mcp-server-everything"]}},
                {"name": "direct", "stdio": {"command": "mcp-server-everything"}},
            ],
        },
    }


def test_servers_of_npm_run_in_restricted_pods_with_a_read_only_file_system(
    new_world: Callable[[str], World], image: str
) -> None:
    world = new_world("stdio")
    world.kubectl("label", "namespace", world.namespace, RESTRICTED)
    world.apply(proxy(image))
    world.wait_ready("stdio")
    for name in ("npx", "direct"):
        result = eventually("its tools are listed", lambda: world.backend("stdio", name))  # noqa: B023
        assert result["state"] == "Healthy"
        assert result["components"]["tools"] > 5
    (pod,) = [item for item in world.all("pods") if item["status"]["phase"] == "Running"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == image
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_command_that_the_image_lacks_is_named_with_the_remedy(
    new_world: Callable[[str], World],
) -> None:
    world = new_world("no-node")
    world.apply(proxy(images.name("runtime")))
    failed = "ProcessFailed"
    eventually(
        "the backend has failed", lambda: world.backend("stdio", "npx").get("reason") == failed
    )
    result = world.backend("stdio", "npx")
    assert "npx" in result["message"]
    assert "spec.image" in result["message"]
