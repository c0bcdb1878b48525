"""Clients with sessions that call all the time, and a server that keeps something of each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from e2e import pods
from e2e.pods import Caller
from e2e.world import Object, World, eventually

COUNTER = "counter"
COUNTING_CLIENTS = 4


def counter(world: World) -> None:
    """A server that counts in each session on its own; returns once it serves."""
    labels = {"app": COUNTER}
    pod = pods.spec("none")
    [container] = pod["containers"]
    container["command"] = ["python", "samples/servers/counter.py", "--host=0.0.0.0"]
    container["command"] += [f"--port={pods.PORT}"]
    # The server answers to names of its own Service.
    namespace = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    container["env"] = [{"name": "POD_NAMESPACE", "valueFrom": namespace}]
    container["readinessProbe"] = {"tcpSocket": {"port": pods.PORT}, "periodSeconds": 1}
    container["volumeMounts"] = pod["volumes"] = []
    deployment = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    world.apply(pods.manifest("apps/v1", "Deployment", COUNTER, deployment))
    service = {"selector": labels, "ports": [{"port": pods.PORT}]}
    world.apply(pods.manifest("v1", "Service", COUNTER, service))
    world.kubectl("rollout", "status", f"deployment/{COUNTER}", "--timeout=180s", timeout=200)


def proxy(name: str, *tellers: str, **fields: object) -> Object:
    """An MCPProxy in front of tellers and the counter, which keeps a session for each client."""
    result = pods.proxy(name, *tellers, COUNTER, **fields)
    result["spec"]["backends"][-1]["session"] = {"mode": "PerClient"}
    return result


@dataclass(frozen=True)
class Clients:
    """Clients of both eras: without sessions, with sessions, and with sessions that count."""

    modern: Caller
    legacy: Caller
    counting: Caller

    def wait_calls(self, more: int) -> None:
        """Wait until each has done so many calls more."""
        for item in (self.modern, self.legacy, self.counting):
            item.wait_calls(more)

    def check(self) -> str:
        """Return a summary; fails the test if a call failed or a session was lost.

        A counting session ends with a pod of a version that records no sessions of backends, and
        its client initializes again.
        """
        calls = [item.check() for item in (self.modern, self.legacy, self.counting)]
        legacy, counting = self.legacy.tally(), self.counting.tally()
        assert legacy["ended"] == 0, legacy
        begun = "the clients of all ended sessions have initialized again"
        eventually(begun, lambda: _all_begun(self.counting))
        return (
            f"calls: {calls[0]} without sessions, {calls[1]} in {legacy['begun']} sessions with"
            f" {legacy['streams']} streams, {calls[2]} in {counting['begun']} sessions that count,"
            f" of which {counting['ended']} ended with their pod"
        )

    @property
    def ended(self) -> int:
        """Return the number of ended counting sessions."""
        ended: int = self.counting.tally()["ended"]
        return ended


def _all_begun(counting: Caller) -> bool:
    tally = counting.tally()
    return bool(tally["begun"] - tally["ended"] == COUNTING_CLIENTS)


@contextmanager
def counting(
    world: World, name: str, pause: float = 0.05, labels: Mapping[str, str] | None = None
) -> Iterator[Caller]:
    """Clients whose sessions the counter keeps, in a pod of these labels, within."""
    arguments = (pods.url_of(world, name), f"{COUNTER}_increment", str(COUNTING_CLIENTS))
    with pods.running(
        world, "sessions", f"counting-of-{name}", *arguments, str(pause), "counting", **labels or {}
    ) as caller:
        yield caller


@contextmanager
def surviving(world: World, name: str) -> Iterator[Caller]:
    """Clients whose sessions the counter keeps, and that go on when a pod is killed, within."""
    arguments = (pods.url_of(world, name), f"{COUNTER}_increment", str(COUNTING_CLIENTS))
    with pods.running(
        world, "sessions", f"survivors-of-{name}", *arguments, "0.02", "surviving"
    ) as caller:
        yield caller


@contextmanager
def calling(world: World, name: str, teller: str, pause: float = 0.05) -> Iterator[Clients]:
    """Clients of an MCPProxy that has a teller and the counter, within."""
    url, tool = pods.url_of(world, name), f"{teller}_tell"
    legacy = (f"legacy-of-{name}", url, tool, "2", str(pause))
    with (
        pods.calling(world, name, tool, pause=pause) as modern,
        pods.running(world, "sessions", *legacy) as in_sessions,
        counting(world, name, pause) as that_count,
    ):
        yield Clients(modern, in_sessions, that_count)
