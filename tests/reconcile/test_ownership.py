"""Only pods of a ReplicaSet that our own Deployment controls count."""

import copy
from collections.abc import Callable

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Forbidden
from mcpproxy.cluster.resources import DEPLOYMENT, REPLICA_SET, ProxyKey, ResourceKind
from mcpproxy.reconcile.ownership import PodOwnership
from tests.reconcile.stage import KEY, Stage, controlled_by

Change = Callable[[Object], None]


def without_owner(pod: Object) -> None:
    del pod["metadata"]["ownerReferences"]


def not_its_controller(pod: Object) -> None:
    pod["metadata"]["ownerReferences"][0]["controller"] = False


def of_another(pod: Object) -> None:
    pod["metadata"]["ownerReferences"][0]["uid"] = "uid-of-another"


def of_another_kind(pod: Object) -> None:
    pod["metadata"]["ownerReferences"][0]["kind"] = "Job"


def of_another_api(pod: Object) -> None:
    pod["metadata"]["ownerReferences"][0]["apiVersion"] = "apps.example.com/v1"


def put_stranger(stage: Stage, change: Change) -> str:
    """Create a ready pod with the labels and the spec of ours; its uid."""
    pod = copy.deepcopy(stage.child("Pod", "tools-1"))
    del pod["metadata"]["uid"]
    pod["metadata"]["name"] = "stranger"
    pod["status"]["podIP"] = "10.6.6.6"
    change(pod)
    stage.cluster.put(pod)
    return stage.pod_uid("stranger")


def lists_of(stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: ResourceKind) -> list[str]:
    """Grows by one entry for each list request of a kind."""
    made: list[str] = []
    list_all = stage.cluster.list

    async def noting(
        wanted: ResourceKind, namespace: str | None, labels: object = None
    ) -> list[Object]:
        if wanted is kind:
            made.append(str(namespace))
        return await list_all(wanted, namespace, labels)  # type: ignore[arg-type]

    monkeypatch.setattr(stage.cluster, "list", noting)
    return made


STRANGERS = [without_owner, not_its_controller, of_another, of_another_kind, of_another_api]


@pytest.mark.parametrize("change", STRANGERS, ids=lambda change: change.__name__)
async def test_a_pod_with_only_the_labels_is_neither_read_nor_counted(
    stage: Stage, change: Change
) -> None:
    await stage.is_running()
    uid = put_stranger(stage, change)
    await stage.reconcile()
    assert uid not in stage.pods.opened
    assert len(stage.fleet) == 1
    assert stage.cluster.writes == []


async def test_a_pod_of_a_foreign_replica_set_is_not_read(
    stage: Stage,
) -> None:
    await stage.is_running()
    foreign = copy.deepcopy(stage.child(REPLICA_SET.name, "tools-1"))
    del foreign["metadata"]["uid"]
    foreign["metadata"]["name"] = "theirs"
    foreign["metadata"]["ownerReferences"] = []
    stage.cluster.put(foreign)
    owner = controlled_by(stage.child(REPLICA_SET.name, "theirs"))

    def claim(pod: Object) -> None:
        pod["metadata"]["ownerReferences"] = [owner]

    uid = put_stranger(stage, claim)
    await stage.reconcile()
    assert uid not in stage.pods.opened
    assert len(stage.fleet) == 1


async def test_a_pod_on_the_host_network_is_not_read(stage: Stage) -> None:
    await stage.is_running()

    def leave(pod: Object) -> None:
        pod["spec"] = {**pod["spec"], "hostNetwork": True}

    uid = put_stranger(stage, leave)
    await stage.reconcile()
    assert uid not in stage.pods.opened


def put_pod_of_new_replica_set(stage: Stage) -> None:
    """Add another ReplicaSet of the Deployment, and a pod of it."""
    newer = copy.deepcopy(stage.child(REPLICA_SET.name, "tools-1"))
    del newer["metadata"]["uid"]
    newer["metadata"]["name"] = "tools-2"
    stage.cluster.put(newer)
    owner = controlled_by(stage.child(REPLICA_SET.name, "tools-2"))

    def claim(pod: Object) -> None:
        pod["metadata"]["ownerReferences"] = [owner]

    put_stranger(stage, claim)


async def test_a_pod_of_a_new_replica_set_is_read(stage: Stage) -> None:
    await stage.is_running()
    put_pod_of_new_replica_set(stage)
    await stage.reconcile()
    assert len(stage.fleet) == 2


async def test_replica_sets_are_listed_only_for_pods_that_were_not_seen_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()
    made = lists_of(stage, monkeypatch, REPLICA_SET)
    await stage.reconcile()
    assert made == []
    put_stranger(stage, of_another)
    await stage.reconcile()
    assert made == [KEY.namespace]


async def test_pods_are_not_superseded_by_defaults_that_a_newer_api_server_adds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()
    lists = lists_of(stage, monkeypatch, REPLICA_SET)
    for kind in ("Deployment", "ReplicaSet"):
        name = "tools" if kind == "Deployment" else stage.replica_sets()[-1]["metadata"]["name"]
        live = stage.child(kind, name)
        live["spec"]["template"]["spec"]["hostUsers"] = True
        stage.cluster.put(live)
    deployment = stage.deployment()
    deployment["status"]["observedGeneration"] = deployment["metadata"]["generation"]
    stage.cluster.put(deployment)
    for _ in range(3):
        await stage.reconcile()
    assert stage.message("Available") == "1 of 1 pods ready"
    assert len(lists) == 1


async def test_the_pods_of_an_earlier_deployment_are_not_read(stage: Stage) -> None:
    await stage.is_running()
    again = stage.deployment()
    stage.cluster.remove(DEPLOYMENT, *KEY)
    del again["metadata"]["uid"]
    stage.cluster.put(again)
    await stage.reconcile()
    assert len(stage.fleet) == 0


async def test_pods_that_were_known_stay_while_replica_sets_cannot_be_listed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()
    put_stranger(stage, of_another)
    list_all = stage.cluster.list

    async def refuse(
        kind: ResourceKind, namespace: str | None, labels: object = None
    ) -> list[Object]:
        if kind is REPLICA_SET:
            raise Forbidden('User "operator" cannot list resource "replicasets"')
        return await list_all(kind, namespace, labels)  # type: ignore[arg-type]

    monkeypatch.setattr(stage.cluster, "list", refuse)
    with pytest.raises(Forbidden):
        await stage.reconcile()
    assert len(stage.fleet) == 1
    assert "replicasets" in stage.message("Ready")


async def test_the_first_pass_lists_no_replica_sets_that_were_read_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.is_running()
    restarted = Stage(stage)
    await restarted.read_ahead(KEY)
    made = lists_of(restarted, monkeypatch, REPLICA_SET)
    restarted.cluster.writes.clear()
    await restarted.reconcile()
    assert len(restarted.fleet) == 1
    assert made == restarted.cluster.writes == []


async def test_a_pod_of_a_replica_set_that_was_made_since_is_read(stage: Stage) -> None:
    await stage.is_running()
    restarted = Stage(stage)
    await restarted.read_ahead(KEY)
    put_pod_of_new_replica_set(restarted)
    await restarted.reconcile()
    assert len(restarted.fleet) == 2


async def test_replica_sets_that_were_read_before_count_only_for_their_deployment(
    stage: Stage,
) -> None:
    await stage.is_running()
    restarted = Stage(stage)
    await restarted.read_ahead(KEY)
    again = stage.deployment()
    stage.cluster.remove(DEPLOYMENT, *KEY)
    del again["metadata"]["uid"]
    stage.cluster.put(again)
    await restarted.reconcile()
    assert len(restarted.fleet) == 0


async def test_few_replica_sets_of_known_mcpproxies_are_kept(stage: Stage) -> None:
    """Anybody who may create ReplicaSets may give them these labels."""
    await stage.is_running()
    for number in range(2, 200):
        many = copy.deepcopy(stage.child(REPLICA_SET.name, "tools-1"))
        del many["metadata"]["uid"]
        many["metadata"]["name"] = f"many-{number}"
        stage.cluster.put(many)
    ownership = PodOwnership(stage.cluster)
    await ownership.read_ahead((), constants.LABEL_INSTANCE, {ProxyKey("team", "other")})
    assert ownership._read_ahead == {}
    await ownership.read_ahead((), constants.LABEL_INSTANCE, {KEY})
    assert [len(kept) for kept in ownership._read_ahead.values()] == [16]


async def test_an_operator_that_read_ahead_lists_again_before_it_deletes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ReplicaSet that was made after the first list may mount one of them."""
    await stage.is_running()
    stage.user_applies(allowedHosts=["other.example.com"])
    await stage.reconcile()
    stage.roll_out("b")
    await stage.reconcile()
    restarted = Stage(stage)
    await restarted.read_ahead(KEY)
    made = lists_of(restarted, monkeypatch, REPLICA_SET)
    await restarted.reconcile()
    assert made == [KEY.namespace]
    assert len(restarted.config_maps()) == 2
