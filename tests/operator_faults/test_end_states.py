"""Whatever disturbs the operator, the end state equals that of an undisturbed run.

A sample by default, everything with STRESS=1, a third of it with STRESS=3.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import INGRESS, ON_DEMAND
from tests.apiserver.operator_process import StatusServer
from tests.apiserver.server import ApiServer
from tests.apiserver.wire import Request, Wire, wired
from tests.operator_faults import disturbances
from tests.operator_faults.disturbances import Disturbance
from tests.operator_faults.end_state import differences
from tests.operator_faults.story import NAME, Story, Supervisor, supervised
from tests.stress.size import some
from tests.support.seeds import SEED

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(600)]

CHAPTERS: Final = ("create", "update", "delete")
States = dict[str, dict[str, Object]]


class Run:
    """One run of the story, with an operator and a wire of its own."""

    def __init__(self, wire: Wire, story: Story, supervisor: Supervisor) -> None:
        self.wire, self.story, self.supervisor = wire, story, supervisor
        self.writes: dict[str, int] = {}
        """Number of writes at the end of each chapter."""

    def tell(self, reference: States | None = None) -> States:
        """Run all chapters and return the state after each.

        With a `reference`, each chapter ends when its state is that of the reference.
        """
        return {name: self.chapter(name, (reference or {}).get(name)) for name in CHAPTERS}

    def chapter(
        self,
        name: str,
        want: dict[str, Object] | None,
        end: Callable[[], None] = lambda: None,
    ) -> dict[str, Object]:
        """Run one chapter and return the state at its end, which `want` is waited for.

        `end` is called when user, controllers and kubelet have done their part.
        """
        getattr(self.story, name)()
        end()
        if want is not None:
            self._converge(name, want)
        state = self._rest()
        self.writes[name] = len(self.wire.writes())
        return state

    def _converge(self, chapter: str, want: dict[str, Object]) -> None:
        state: dict[str, Object] = {}

        def is_equal() -> bool:
            state.clear()
            state.update(self.story.state())
            return state == want

        try:
            self.supervisor.until(is_equal, chapter)
        except AssertionError:
            assert differences(want, state) == [], chapter
            raise

    def _rest(self) -> dict[str, Object]:
        """Wait until the operator writes no more; return the state then."""
        writes, quiet = -1, 0
        while quiet < 3:
            self.supervisor.until(self._has_looked(), "the operator looks again")
            quiet = quiet + 1 if len(self.wire.writes()) == writes else 0
            writes = len(self.wire.writes())
        return self.story.state()

    def _has_looked(self) -> Callable[[], bool]:
        """Return a function that returns True once the operator has listed everything again."""
        count = len(self.wire.requests)
        return lambda: any(
            entry.path.endswith("/ingresses") and not entry.watches
            for entry in self.wire.requests[count:]
        )


@contextmanager
def running(apiserver: ApiServer, namespace: str, directory: Path) -> Iterator[Run]:
    """An operator that is ready, and everything around it."""
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, directory / "wire"))
        client = stack.enter_context(apiserver.client())
        pod = StatusServer()
        stack.callback(pod.stop)
        supervisor = stack.enter_context(supervised(wire, namespace, directory / "log"))
        yield Run(wire, Story(client, namespace, supervisor, pod), supervisor)


@pytest.fixture(scope="module")
def undisturbed(
    apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[States, dict[str, int]]:
    """The states of a run that nothing disturbs, and the number of its writes."""
    with apiserver.client() as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": "undisturbed"}})
    with running(apiserver, "undisturbed", tmp_path_factory.mktemp("undisturbed")) as run:
        states = run.tell()
        return states, run.writes


def test_an_undisturbed_run_makes_every_child_and_leaves_no_old_one(
    undisturbed: tuple[States, dict[str, int]],
) -> None:
    states, writes = undisturbed
    kinds = {name: sorted({entry.split("/")[0] for entry in states[name]}) for name in CHAPTERS}
    for kind in ON_DEMAND:
        assert (kind.name in kinds["create"]) == (kind != INGRESS)
        assert (kind.name in kinds["update"]) == (kind == INGRESS)
    assert f"Service/{constants.instances_service_name(NAME)}" in states["create"]
    for chapter, config_maps in (("create", 2), ("update", 1)):
        names = [entry for entry in states[chapter] if entry.startswith("ConfigMap/")]
        assert len(names) == config_maps, names
        conditions = states[chapter]["MCPProxy/tools"]["status"]["conditions"]
        ready = [entry["status"] for entry in conditions if entry["type"] == "Ready"]
        assert ready == ["True"], conditions
    assert 0 < writes["create"] < writes["update"] <= writes["delete"]


@pytest.mark.parametrize("share", some((1.0, 0.2, 0.4), (0.2,)))
def test_an_operator_that_is_killed_after_a_write_continues_where_it_was(
    apiserver: ApiServer,
    namespace: str,
    tmp_path: Path,
    undisturbed: tuple[States, dict[str, int]],
    share: float,
) -> None:
    """After each write with a share of 1: the API server has the write, the operator no answer."""
    disturbance = Disturbance(f"{SEED}-{share}", share)
    with running(apiserver, namespace, tmp_path) as run:

        def answered(request: Request, status: int) -> None:
            # Only the Secret, which the operator can't read, is written again after a restart.
            if request.writes and status < 300 and disturbance.chance():
                run.supervisor.kill()

        run.wire.answered = answered
        assert run.tell(undisturbed[0]) == undisturbed[0]
        assert run.supervisor.restarts >= 1


WAYS: Final = {
    "lost events": (disturbances.lose, 0.3),
    "doubled events": (disturbances.double, 0.5),
    "reordered events": (disturbances.reorder, 0.3),
    "old events again": (disturbances.replay, 0.3),
    "compacted": (disturbances.expire, 0.2),
    "watches cut": (disturbances.cut, 0.3),
    "old answers": (disturbances.answer_late, 0.3),
    "conflicts": (disturbances.refuse(409), 0.1),
    "too many requests": (disturbances.refuse(429), 0.1),
    "server errors": (disturbances.refuse(500, "cut"), 0.1),
    "no answer": (disturbances.refuse("hang"), 0.05),
    "expired tokens": (disturbances.refuse(401), 0.1),
}
SAMPLE: Final = tuple(random.Random(str(SEED)).sample(sorted(WAYS), 3))


@pytest.mark.parametrize("way", some(sorted(WAYS), SAMPLE))
def test_a_disturbed_operator_reaches_the_end_state_of_an_undisturbed_one(
    apiserver: ApiServer,
    namespace: str,
    tmp_path: Path,
    undisturbed: tuple[States, dict[str, int]],
    way: str,
) -> None:
    install, share = WAYS[way]
    disturbance = Disturbance(f"{SEED}-{way}", share)
    with running(apiserver, namespace, tmp_path) as run:
        install(run.wire, disturbance)

        def calm() -> None:
            run.supervisor.until(lambda: disturbance.count > 0, "the operator is disturbed")
            disturbance.active = False

        def disturb() -> None:
            disturbance.active = True

        states: States = {}
        for chapter in CHAPTERS:
            disturb()
            states[chapter] = run.chapter(chapter, undisturbed[0][chapter], calm)
        assert states == undisturbed[0]
        assert disturbance.count > 0
