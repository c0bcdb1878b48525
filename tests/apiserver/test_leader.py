"""Two operators, one Lease: leaders that are killed, stopped or cut off."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mcpproxy.controller.kopf_settings import STOP_SECONDS
from mcpproxy.controller.leader_election import LeaderElectionConfig
from tests.apiserver.operator_process import OperatorProcess, StatusServer, starting
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import CHILDREN, Stage
from tests.apiserver.wire import Wire, wired

pytestmark = pytest.mark.apiserver


class Replica:
    """One operator and its way to the API server."""

    def __init__(self, operator: OperatorProcess, wire: Wire, log: Path) -> None:
        self.operator, self.wire, self.log = operator, wire, log


@contextmanager
def replica(stage: Stage, directory: Path, *args: str) -> Iterator[Replica]:
    """An operator for the stage's namespace that stands for election."""
    served = ("--namespace", stage.namespace, "--lease-namespace", stage.namespace)
    with ExitStack() as stack:
        wire = stack.enter_context(wired(stage.apiserver, directory))
        log = directory / "log"
        operator = stack.enter_context(
            starting(wire.kubeconfig, *served, "--leader-elect", *args, log=log)
        )
        operator.until(lambda: operator.get("/readyz")[0] == 200, "it is ready")
        yield Replica(operator, wire, log)


@pytest.fixture
def stage(apiserver: ApiServer, namespace: str) -> Stage:
    """A namespace that the operators serve."""
    return Stage(apiserver, namespace)


@pytest.fixture
def pod(stage: Stage) -> Iterator[StatusServer]:
    """The admin port of a pod."""
    with stage.pod() as result:
        yield result


def settled(stage: Stage, pod: StatusServer, leader: OperatorProcess) -> dict[str, str]:
    """Bring `tools` to Ready; the resourceVersions and uids of all objects then."""
    leader.until(lambda: leader.leads, "it leads")
    stage.become_ready(pod)
    stage.passes_settle(leader)
    return identities(stage)


def identities(stage: Stage) -> dict[str, str]:
    """uid and resourceVersion of every object."""
    return {
        f"{result['kind']}/{result['metadata']['name']}": "{uid} {resourceVersion}".format(
            **result["metadata"]
        )
        for result in stage.list(f"{CHILDREN},mcpproxies,secrets,events")
    }


def holder(stage: Stage) -> str | None:
    """Return the holder of the Lease."""
    result: str | None = stage.get("lease/mcpproxy-operator")["spec"].get("holderIdentity")
    return result


def repairs(stage: Stage, operator: OperatorProcess) -> None:
    """Delete the Service, and wait until this operator has made it anew."""
    passes = operator.passes
    stage.kubectl("delete", "service/tools")
    operator.until(lambda: bool(stage.find("service/tools")), "the Service is back")
    operator.until(lambda: operator.passes > passes, "it was this operator")


def test_a_follower_is_ready_and_does_nothing(
    stage: Stage, pod: StatusServer, tmp_path: Path
) -> None:
    with replica(stage, tmp_path / "1") as first:
        settled(stage, pod, first.operator)
        with replica(stage, tmp_path / "2") as second:
            stage.apply(cache={"ttl": "7s"})
            stage.wait_for("Reconciling", "RollingOut")
            assert not second.operator.leads
            assert second.operator.passes == 0
            assert second.operator.followed == 0
            assert second.wire.writes() == []


def test_a_killed_leader_is_replaced_within_20_seconds_and_writes_are_not_repeated(
    stage: Stage, pod: StatusServer, tmp_path: Path
) -> None:
    with replica(stage, tmp_path / "1") as first, replica(stage, tmp_path / "2") as second:
        before = settled(stage, pod, first.operator)
        first.operator.process.kill()
        killed = time.monotonic()
        second.operator.until(lambda: second.operator.followed == 1, "the other follows the pod")
        assert time.monotonic() - killed < 20
        stage.passes_settle(second.operator)
        after = identities(stage)
        # The label by which passes are made to settle changes the user's object.
        assert after.pop("MCPProxy/tools") != before.pop("MCPProxy/tools")
        assert after == before
        assert second.wire.writes() == []
        repairs(stage, second.operator)
        assert len(second.wire.writes()) == 1


def test_a_leader_that_is_stopped_hands_over_at_once(
    stage: Stage, pod: StatusServer, tmp_path: Path
) -> None:
    patience = ("--lease-duration", "60s")
    with replica(stage, tmp_path / "1", *patience) as first:
        before = settled(stage, pod, first.operator)
        first.operator.process.terminate()
        assert first.operator.process.wait(5) == 0
        assert holder(stage) is None
        assert "released Lease" in first.log.read_text()
        with replica(stage, tmp_path / "2", *patience) as second:
            second.operator.until(lambda: second.operator.followed == 1, "the other leads")
            stage.passes_settle(second.operator)
            after = identities(stage)
            assert after.pop("MCPProxy/tools") != before.pop("MCPProxy/tools")
            assert after == before


def test_a_stopped_leader_is_replaced_long_before_its_lease_ends(
    stage: Stage, pod: StatusServer, tmp_path: Path
) -> None:
    with replica(stage, tmp_path / "1") as first:
        before = settled(stage, pod, first.operator)
        with replica(stage, tmp_path / "2") as second:
            first.operator.process.terminate()
            told = time.monotonic()
            second.operator.until(lambda: second.operator.followed == 1, "the other leads")
            assert (
                time.monotonic() - told
                < LeaderElectionConfig().duration - LeaderElectionConfig().retry
            )
            assert first.operator.process.wait(STOP_SECONDS) == 0
            stage.passes_settle(second.operator)
            after = identities(stage)
            assert after.pop("MCPProxy/tools") != before.pop("MCPProxy/tools")
            assert after == before
            assert second.wire.writes() == []


def test_a_leader_without_responses_stops_in_time(
    stage: Stage, pod: StatusServer, tmp_path: Path
) -> None:
    with replica(stage, tmp_path / "1") as first:
        settled(stage, pod, first.operator)
        first.wire.holds = lambda request: True
        stage.apply(cache={"ttl": "7s"})
        first.operator.process.terminate()
        assert first.operator.process.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize("lost", ["the Lease", "everything"])
def test_a_leader_that_is_cut_off_writes_nothing_more_and_comes_back_as_a_follower(
    stage: Stage, pod: StatusServer, tmp_path: Path, lost: str
) -> None:
    patience = ("--lease-duration", "3s")
    with (
        replica(stage, tmp_path / "1", *patience) as first,
        replica(stage, tmp_path / "2", *patience) as second,
    ):
        settled(stage, pod, first.operator)
        before = first.wire.writes()
        first.wire.holds = lambda request: lost == "everything" or "/leases" in request.path
        second.operator.until(lambda: second.operator.leads, "the other leads")
        assert not first.operator.leads
        repairs(stage, second.operator)
        first.wire.holds = lambda request: False
        stage.passes_settle(second.operator)
        assert first.wire.writes() == before
        assert not first.operator.leads
        assert holder(stage) is not None
        second.operator.process.terminate()
        assert second.operator.process.wait(5) == 0
        first.operator.until(lambda: first.operator.leads, "it leads again")
        repairs(stage, first.operator)
