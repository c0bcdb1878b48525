"""The real cluster keeps the contract of Cluster, on a real API server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster import client
from mcpproxy.cluster.client import KubeClient
from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.kubeconfig import ConfigNotFound, load_config
from mcpproxy.cluster.resources import CONFIG_MAP, kind_of
from tests.apiserver.server import ApiServer
from tests.cluster.contract import CONTRACT
from tests.cluster.sides import Change, Side, a_config_map

pytestmark = pytest.mark.apiserver


class KubectlHand:
    """Others, with kubectl."""

    def __init__(self, apiserver: ApiServer) -> None:
        self._apiserver = apiserver

    async def edit(self, live: Object, change: Change) -> None:
        """Change an object as `kubectl edit` does."""
        metadata = live["metadata"]
        resource = f"{kind_of(live).plural}/{metadata['name']}"
        document = json.loads(
            self._kubectl("get", resource, "-n", metadata["namespace"], "-o", "json")
        )
        change(document)
        self._kubectl("replace", "-f", "-", input=json.dumps(document))

    async def apply(self, manifest: Object, manager: str) -> None:
        """Server-side apply as another field manager, without force."""
        args = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")
        self._kubectl(*args, input=json.dumps(manifest))

    def _kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002
        answer = self._apiserver.kubectl(*args, input=input)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture
async def side(apiserver: ApiServer, namespace: str) -> AsyncIterator[Side]:
    """The real API server."""
    access = await load_config(str(apiserver.kubeconfig))
    cluster = KubeClient(access.configuration)
    yield Side(cluster, namespace, KubectlHand(apiserver))
    await cluster.close()


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda holds: holds.__name__)
async def test_the_real_cluster_keeps_the_contract(
    side: Side, holds: Callable[[Side], Awaitable[None]]
) -> None:
    await holds(side)


async def test_a_list_is_read_page_by_page(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        await side.cluster.apply(a_config_map(side, name))
    monkeypatch.setattr(client, "PAGE", 2)
    result = await side.cluster.list(CONFIG_MAP, side.namespace, {"a": "1"})
    assert sorted(thing["metadata"]["name"] for thing in result) == ["one", "three", "two"]


async def test_an_unreachable_api_server_is_unavailable(apiserver: ApiServer) -> None:
    access = await load_config(str(apiserver.kubeconfig))
    access.configuration.host = "https://127.0.0.1:1"
    cluster = KubeClient(access.configuration)
    with pytest.raises(Unavailable):
        await cluster.get(CONFIG_MAP, "default", "one")
    await cluster.close()


async def test_without_a_usable_kubeconfig_there_is_no_access(tmp_path: object) -> None:
    with pytest.raises(ConfigNotFound):
        await load_config(f"{tmp_path}/none")
