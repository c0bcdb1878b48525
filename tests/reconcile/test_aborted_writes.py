"""Wherever a pass is cut off, at any write of any child: it ends in the same state.

The lives of MCPProxies here contain every write of the operator, which a test verifies.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import pytest

from mcpproxy.api import constants
from mcpproxy.cluster.errors import ClusterError, Unavailable
from mcpproxy.cluster.resources import (
    ALWAYS,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    MCP_PROXY,
    ON_DEMAND,
    POD,
    SECRET,
    SERVICE,
)
from mcpproxy.cluster.token_keys import KEY_SET, METADATA
from tests.reconcile.stage import KEY, Stage
from tests.reconcile.test_ways_back import orphan
from tests.support.on_demand import ASKED, ASKING, PUBLIC

Step = Callable[[Stage], Awaitable[None]]
WAYS: Final = ("fail before", "fail after", "crash before", "crash after")


class Crash(BaseException):
    """The operator's process ends."""


class Life:
    """Steps in the life of an MCPProxy, of whose writes one goes wrong.

    After a `crash` a new operator takes over; otherwise the same one tries again.
    """

    def __init__(self, failing: int | None = None, how: str = "fail before") -> None:
        self.stage = Stage()
        self.stage.cluster.documents = {
            METADATA: {"issuer": "https://kubernetes"},
            KEY_SET: {"keys": [{"kid": "1", "kty": "RSA"}]},
        }
        self._left, self._how = failing, how
        if how.endswith("before"):
            self.stage.cluster.before_write = self._go_wrong
        else:
            self.stage.cluster.after_write = self._go_wrong

    def _go_wrong(self, _: str) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            raise Crash if self._how.startswith("crash") else Unavailable("no")

    async def _persist(self) -> None:
        for _ in range(4):
            try:
                await self.stage.reconcile()
            except ClusterError:
                continue
            except Crash:
                await self.stage.close()
                self.stage = Stage(self.stage)
                continue
            return
        raise AssertionError("four passes were not enough")

    async def play(self, steps: Sequence[Step]) -> Stage:
        """Live it, and return what is left."""
        for step in steps:
            await step(self.stage)
            await self._persist()
        pods = [name for kind, _, name in self.stage.cluster.objects if kind == POD.name]
        while not all(self.stage.fleet.view(self.stage.pod_uid(pod)).settled for pod in pods):
            await asyncio.wait_for(self.stage.changes.get(), 5)
            await self._persist()
        await self.stage.close()
        return self.stage


def applies(**spec: Any) -> Step:
    """Return the step in which the user applies a spec."""

    async def step(stage: Stage) -> None:
        stage.user_applies(**spec)

    return step


def rolls_out(pod: str) -> Step:
    """Return the step in which the Deployment gets a pod in place of all others."""

    async def step(stage: Stage) -> None:
        stage.roll_out(pod)
        stage.forget_history()

    return step


def reports(pod: str) -> Step:
    """Return the step in which a pod reports its backend."""

    async def step(stage: Stage) -> None:
        await stage.pod_says(pod, weather="Healthy")

    return step


async def is_orphaned(stage: Stage) -> None:
    """Delete the MCPProxy, and leave its children behind."""
    orphan(stage)


async def has_another_config_map(stage: Stage) -> None:
    """Put an immutable ConfigMap with other content in place of that of the pods."""
    (name,) = stage.config_maps()
    other = stage.child(CONFIG_MAP.name, name)
    stage.cluster.remove(CONFIG_MAP, KEY.namespace, name)
    stage.cluster.put({**other, "data": {constants.CONFIG_FILE: "{}"}})


EVERYTHING: Final[dict[str, Any]] = {
    **ASKING,
    "limits": {"rules": [{"name": "team", "calls": 10, "window": "60s"}]},
    "authentication": {"serviceAccounts": {"audience": "tools.mcpproxy.dev"}},
}
"""A spec that requests all children that one MCPProxy may have."""
FIRST: Final = (rolls_out("tools-1"), reports("tools-1"))
SECOND: Final = (rolls_out("tools-2"), reports("tools-2"))
CHANGED: Final = {"cache": {"ttl": "7s"}, "service": {"port": 8080}}
SHORT: Final = "a changed configuration"
"""The life that the tests without the marker `slow` repeat for each of its writes."""
LIVES: Final[dict[str, tuple[Step, ...]]] = {
    SHORT: (applies(), *FIRST, applies(**CHANGED), *SECOND),
    "every child, and then the fewest": (applies(**EVERYTHING), *FIRST, applies(), *SECOND),
    "an HTTPRoute, an Ingress, neither": (
        applies(**EVERYTHING),
        applies(replicas=3, **ASKED[ON_DEMAND[-1]]),
        applies(**PUBLIC),
        *FIRST,
    ),
    "orphans": (applies(), *FIRST, is_orphaned, applies(), *SECOND),
    "another ConfigMap of the same name": (
        applies(),
        *FIRST,
        has_another_config_map,
        applies(**CHANGED),
        *SECOND,
    ),
}
PLACES: Final = (
    {f"apply {kind.name}" for kind in (*ALWAYS, *ON_DEMAND, EVENT)}
    | {f"delete {kind.name}" for kind in (*ON_DEMAND, CONFIG_MAP)}
    | {f"create {SECRET.name}", f"hand over {DEPLOYMENT.name}", f"status {MCP_PROXY.name}"}
)
"""Every write of a pass."""


def end_state(stage: Stage) -> dict[Any, Any]:
    """All objects but for what differs from run to run."""
    result: dict[Any, Any] = {}
    uid = stage.child(MCP_PROXY.name)["metadata"]["uid"]
    for (kind, namespace, name), live in stage.cluster.objects.items():
        if kind == EVENT.name:
            continue
        kept = copy.deepcopy(live)
        owners = kept["metadata"].pop("ownerReferences", [])
        kept["owners"] = [{**owner, "uid": owner["uid"] == uid} for owner in owners]
        for field in ("uid", "resourceVersion", "generation"):
            kept["metadata"].pop(field, None)
        if kind == SECRET.name:
            kept["data"] = sorted(kept["data"])
            kept["metadata"]["name"] = name = name.replace(uid, "UID")
        for condition in kept.get("status", {}).get("conditions", []):
            condition.pop("lastTransitionTime", None)
        result[kind, namespace, name] = _without(uid, kept)
    return result


def _without(uid: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(uid, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(uid, item) for item in value]
    return value.replace(uid, "UID") if isinstance(value, str) else value


async def undisturbed(name: str) -> tuple[Stage, list[str]]:
    """Return the end of a life in which nothing goes wrong, and all writes in it."""
    stage = await Life().play(LIVES[name])
    return stage, stage.cluster.writes


async def test_the_lives_contain_every_write_of_the_operator() -> None:
    writes: set[str] = set()
    for name in LIVES:
        writes |= set((await undisturbed(name))[1])
    assert writes == PLACES


async def test_one_life_has_the_children_whose_kinds_others_have_as_well() -> None:
    stage = await Life().play((applies(**EVERYTHING),))
    kinds = {kind for kind, _, _ in stage.cluster.objects}
    assert {kind.name for kind in (*ALWAYS, *ON_DEMAND[:-1])} <= kinds
    for kind, name in (
        (SERVICE, constants.instances_service_name(KEY.name)),
        (CONFIG_MAP, constants.cluster_keys_name(KEY.name)),
    ):
        assert (kind.name, KEY.namespace, name) in stage.cluster.objects


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "name",
    [SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LIVES if name != SHORT)],
)
async def test_a_pass_that_is_aborted_at_any_write_converges_to_the_same_state(
    name: str, how: str
) -> None:
    stage, writes = await undisturbed(name)
    expected = end_state(stage)
    assert (DEPLOYMENT.name, *KEY) in expected
    assert len(writes) >= 10
    for failing in range(1, len(writes) + 1):
        state = end_state(await Life(failing, how).play(LIVES[name]))
        assert state == expected, f"{how} write {failing}: {writes[failing - 1]}"
