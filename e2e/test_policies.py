"""A NetworkPolicy that is enforced: clients, the operator and the backends, and nothing else."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e import pods, sessions
from e2e.pods import PORT, pods_of, reaches
from e2e.world import PROXIES, World, eventually, steadily

NAME = "guarded"
PROXY = f"deployment/{NAME}"
OTHER_PORT = 9090
API_SERVER = ("kubernetes.default.svc", 443)
SECONDS = 10
AGENT = {"role": "agent"}

Attempt = tuple[World, str, str, int]
"""From where, such as pod/agent, to which address and port."""


@pytest.fixture(scope="module")
def guarded(new_world: Callable[[str], World]) -> Iterator[World]:
    """A proxy of two pods and two backends that only pods of role agent may call."""
    world = new_world("policies")
    pods.add_on(world, "network-policies")
    pods.tellers(world, "backend", "neighbour")
    sessions.counter(world)
    pods.idler(world, "agent", **AGENT)
    pods.idler(world, "stranger", role="other")
    _open_another_port(world, "backend")
    agents = {"podSelector": {"matchLabels": AGENT}}
    more = {"networkPolicy": {"clients": [agents]}, "health": {"interval": "5s"}}
    world.apply(sessions.proxy(NAME, "backend", replicas=2, **more))
    world.wait_ready(NAME)
    eventually("both pods are Ready", lambda: pods.ready_pods(world, NAME) == 2)
    yield world
    world.remove()


@pytest.fixture
def elsewhere(guarded: World, new_world: Callable[[str], World]) -> Iterator[World]:
    """A pod in another namespace that looks like a client."""
    world = new_world("elsewhere")
    pods.idler(world, "agent", **AGENT)
    yield world
    world.remove()


def test_the_endpoint_admits_only_clients(guarded: World, elsewhere: World) -> None:
    host = f"{NAME}.{guarded.namespace}.svc"
    assert reaches(guarded, "pod/agent", host, 80)
    _never((guarded, "pod/stranger", host, 80), (elsewhere, "pod/agent", host, 80))


def test_the_admin_port_lets_neither_clients_nor_others_in(
    guarded: World, elsewhere: World
) -> None:
    address, port = _admin(guarded)
    _never(
        (guarded, "pod/agent", address, port),
        (guarded, "pod/stranger", address, port),
        (elsewhere, "pod/agent", address, port),
    )


def test_the_proxy_reaches_its_backends_and_nothing_else(guarded: World) -> None:
    backend, neighbour = _address(guarded, "backend"), _address(guarded, "neighbour")
    for host, port in (("backend", PORT), (backend, PORT), ("counter", PORT)):
        assert reaches(guarded, PROXY, host, port)
    forbidden = (
        ("neighbour", PORT),
        (neighbour, PORT),
        (backend, OTHER_PORT),
        (_address(guarded, "agent", "role"), PORT),
        API_SERVER,
    )
    _never(*((guarded, PROXY, *target) for target in forbidden))
    # It is the policy that stands between them, not what is behind it.
    for host, port in (("neighbour", PORT), (backend, OTHER_PORT), API_SERVER):
        assert reaches(guarded, "pod/stranger", host, port)


def test_pods_hand_requests_over_to_one_another(guarded: World) -> None:
    with sessions.counting(guarded, NAME, labels=AGENT) as clients:
        clients.wait_calls(200)
        clients.check()
        # Every other call comes to any pod, and the session lives in one.
        assert clients.tally()["ended"] == 0


def test_the_reports_of_pods_reach_the_operator(guarded: World) -> None:
    assert guarded.backend(NAME, "backend")["components"]["tools"] == 1
    guarded.kubectl("scale", "deployment/backend", "--replicas=0")
    eventually("it is Unhealthy", lambda: _state(guarded) == "Unhealthy")
    guarded.kubectl("scale", "deployment/backend", "--replicas=1")
    eventually("it is Healthy again", lambda: _state(guarded) == "Healthy")


def test_egress_is_allowed_only_to_the_listed_addresses_of_a_backend_with_a_url(
    guarded: World,
) -> None:
    name, proxy = "addressed", "deployment/addressed"
    host = _outside(guarded)
    block = {"cidr": f"{_address(guarded, 'outside')}/32"}
    result = pods.proxy(name, networkPolicy={"urlAddresses": [block]}, replicas=1)
    result["spec"]["backends"] = [{"name": "outside", "url": f"http://{host}:{PORT}/mcp"}]
    guarded.apply(result)
    guarded.wait_ready(name)
    assert guarded.backend(name, "outside")["components"]["tools"] == 1
    assert reaches(guarded, proxy, host, PORT)
    _never((guarded, proxy, _address(guarded, "neighbour"), PORT), (guarded, proxy, *API_SERVER))
    _remove_policy_field(guarded, name, "/urlAddresses")
    eventually("any address is", lambda: reaches(guarded, proxy, "neighbour", PORT))
    _never((guarded, proxy, *API_SERVER))


def test_without_the_policy_the_same_connections_come_about(guarded: World) -> None:
    address, port = _admin(guarded)
    _remove_policy_field(guarded, NAME, "")
    for source, host, target in (
        ("pod/stranger", NAME, 80),
        ("pod/stranger", address, port),
        (PROXY, "neighbour", PORT),
        (PROXY, _address(guarded, "backend"), OTHER_PORT),
        (PROXY, *API_SERVER),
    ):
        eventually(f"{source} to {host}", lambda: reaches(guarded, source, host, target))  # noqa: B023


def _never(*attempts: Attempt) -> None:
    """A policy takes a moment to know a new pod; from then on nothing passes."""

    def cut_off(attempt: Attempt) -> None:
        _, source, host, port = attempt
        what = f"{source} is cut off from {host}:{port}"
        eventually(what, lambda: not reaches(*attempt))
        steadily(what, lambda: not reaches(*attempt), SECONDS)

    with ThreadPoolExecutor(len(attempts)) as pool:
        for done in [pool.submit(cut_off, attempt) for attempt in attempts]:
            done.result()


def _open_another_port(world: World, name: str) -> None:
    """Let the pods of a Deployment listen on a port that is no backend's."""
    command = ["python", "-m", "http.server", str(OTHER_PORT)]
    containers = [{"name": "other", "image": pods.IMAGE, "command": command}]
    change = json.dumps({"spec": {"template": {"spec": {"containers": containers}}}})
    world.kubectl("patch", "deployment", name, "-p", change)
    world.kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s")


def _outside(world: World) -> str:
    """A server that has a name in DNS, and no Service that a policy could know it by."""
    pods.tellers(world, "outside")
    change = {"hostname": "server", "subdomain": "outside-names"}
    template = json.dumps({"spec": {"template": {"spec": change}}})
    world.kubectl("patch", "deployment", "outside", "-p", template)
    world.kubectl("rollout", "status", "deployment/outside", "--timeout=90s")
    names = {"clusterIP": "None", "selector": {"app": "outside"}}
    world.apply(pods.manifest("v1", "Service", "outside-names", names))
    return f"server.outside-names.{world.namespace}.svc.cluster.local"


def _remove_policy_field(world: World, name: str, field: str) -> None:
    change = json.dumps([{"op": "remove", "path": f"/spec/networkPolicy{field}"}])
    world.kubectl("patch", PROXIES, name, "--type=json", "-p", change)


def _address(world: World, name: str, label: str = "app") -> str:
    """The address of the one pod that has a label of this value, and is there to stay."""
    document = json.loads(world.kubectl("get", "pods", "-l", f"{label}={name}", "-o", "json"))
    staying = [item for item in document["items"] if "deletionTimestamp" not in item["metadata"]]
    addresses = [entry["status"]["podIP"] for entry in staying if "podIP" in entry["status"]]
    [address] = addresses
    return str(address)


def _admin(world: World) -> tuple[str, int]:
    pod = pods_of(world, NAME)[0]
    ports = {port["name"]: port for port in pod["spec"]["containers"][0]["ports"]}
    return pod["status"]["podIP"], ports["admin"]["containerPort"]


def _state(world: World) -> str | None:
    state: str | None = world.backend(NAME, "backend").get("state")
    return state
