"""Plan of one pass: the children to apply and to delete, or the reason to wait. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.managed_fields import applied_fields
from mcpproxy.cluster.resources import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, ON_DEMAND
from mcpproxy.desired import CHILD_KINDS
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

WAIT: Final = 15.0
"""Seconds until objects that no watch covers are read again."""

_ORDER: Final = tuple(child.kind for child in CHILD_KINDS)
_ON_DEMAND: Final = frozenset(kind.name for kind in ON_DEMAND)


@dataclass(frozen=True, slots=True)
class ApplyStep:
    """Application of `manifest` to the object with this uid; without a uid, as a new object."""

    manifest: Object
    uid: str | None
    hand_over: Object | None = None
    """Fields to release: the operator set them before and they must keep their values."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes of one pass. A plan with `blocked` has none."""

    replace: tuple[Object, ...] = ()
    """Live objects to delete first, because they are immutable and differ."""
    prune: tuple[Object, ...] = ()
    """Live children that the spec no longer requests."""
    apply: tuple[ApplyStep, ...] = ()
    adopt: tuple[Object, ...] = ()
    """Live objects to apply that an earlier MCPProxy of this name left behind."""
    blocked: ConditionReason | None = None
    requeue_after: float | None = None

    @property
    def changes(self) -> tuple[str, ...]:
        """Kinds and names of the children that the plan changes, creates or deletes."""
        applied = [kind_and_name(step.manifest) for step in self.apply]
        children = {*applied, *map(kind_and_name, self.replace), *map(kind_and_name, self.prune)}
        return tuple(f"{kind} {name}" for kind, name in sorted(children))


def make_plan(
    desired: Iterable[Object],
    live: Iterable[Object],
    owner: Object,
    in_sync: Callable[[Object, Object], bool],
) -> Plan:
    """Return the plan. `in_sync(manifest, live)` returns True if an object needs no change."""
    by_name = {kind_and_name(child): child for child in live}
    wanted = sorted(desired, key=_order)
    pairs = [(manifest, by_name.get(kind_and_name(manifest))) for manifest in wanted]
    blocked = _blocked([child for _, child in pairs if child is not None], owner)
    if blocked is not None:
        return Plan(blocked=blocked, requeue_after=WAIT)
    apply, replace = [], []
    for manifest, child in pairs:
        if child is not None and in_sync(manifest, child):
            continue
        frozen = child is not None and child.get("immutable") is True
        if child is not None and frozen and child.get("data") != manifest.get("data"):
            replace.append(child)
            child = None
        if child is None:
            apply.append(ApplyStep(manifest, None))
        else:
            handed = _hand_over(manifest, child, _fewest(wanted))
            apply.append(ApplyStep(manifest, child["metadata"]["uid"], handed))
    asked = {kind_and_name(manifest) for manifest in wanted}
    prune = [child for key, child in by_name.items() if key not in asked and _leaves(child, owner)]
    adopt = [child for _, child in pairs if child is not None and is_orphan(child, owner)]
    return Plan(tuple(replace), tuple(prune), tuple(apply), tuple(adopt))


def _order(manifest: Object) -> tuple[int, str]:
    kind, name = kind_and_name(manifest)
    return _ORDER.index(kind), name


def _leaves(live: Object, owner: Object) -> bool:
    on_demand = live["kind"] in _ON_DEMAND and _is_ours(live, owner)
    return on_demand and "deletionTimestamp" not in live["metadata"]


def _fewest(desired: Iterable[Object]) -> int:
    """Return the minimum of pods for an autoscaler, which never scales up from zero."""
    minimums = [
        manifest["spec"]["minReplicas"]
        for manifest in desired
        if manifest["kind"] == AUTOSCALER.name
    ]
    return max(minimums, default=0)


def _hand_over(manifest: Object, live: Object, fewest: int) -> Object | None:
    """Return the replicas to release if the spec no longer sets them, so that they keep their
    value.

    A field that its only owner stops applying would return to its default: one pod.
    """
    ours = applied_fields(live, constants.FIELD_MANAGER).get("spec", {})
    if live["kind"] != DEPLOYMENT.name or "replicas" in manifest["spec"]:
        return None
    if "replicas" not in ours:
        return None
    replicas = live["spec"]["replicas"]
    metadata = {key: live["metadata"][key] for key in ("namespace", "name")}
    typed = {key: live[key] for key in ("apiVersion", "kind")}
    return {**typed, "metadata": metadata, "spec": {"replicas": max(replicas, fewest)}}


def prunable(live: Iterable[Object], keep: Iterable[str], owner: Object) -> list[Object]:
    """Return the ConfigMaps of earlier configurations, except those named in `keep`."""
    kept = set(keep)
    return [
        child
        for child in live
        if child["kind"] == CONFIG_MAP.name
        and child["metadata"]["name"] not in kept
        and "deletionTimestamp" not in child["metadata"]
        and _is_ours(child, owner)
    ]


def kind_and_name(manifest: Object) -> tuple[str, str]:
    """Return the kind and name of an object."""
    return manifest["kind"], manifest["metadata"]["name"]


def is_owned(live: Object, owner: Object) -> bool:
    """Return True if `owner` is the controller of a live object."""
    controller = controller_of(live)
    return controller is not None and controller.get("uid") == owner["metadata"]["uid"]


def is_orphan(live: Object, owner: Object) -> bool:
    """Return True if an earlier MCPProxy with the name of `owner` left a live object behind.

    `kubectl delete --cascade=orphan` does so. All of these must hold: the object has no controller,
    it has the labels of a child, and the operator's field manager has applied it.
    """
    labels = constants.child_labels(owner["metadata"]["name"])
    return (
        controller_of(live) is None
        and "deletionTimestamp" not in live["metadata"]
        and labels.items() <= (live["metadata"].get("labels") or {}).items()
        and bool(applied_fields(live, constants.FIELD_MANAGER))
    )


def _is_ours(live: Object, owner: Object) -> bool:
    return is_owned(live, owner) or is_orphan(live, owner)


def controller_of(live: Object) -> Object | None:
    """Return the owner reference of an object's controller; None if it has none."""
    references: Sequence[Object] = live["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def _blocked(children: Sequence[Object], owner: Object) -> ConditionReason | None:
    foreign, leaving = [], []
    for child in children:
        controller = controller_of(child)
        if is_owned(child, owner):
            if "deletionTimestamp" in child["metadata"]:
                leaving.append(child)
        elif controller is not None and (controller["kind"], controller["name"]) == (
            owner["kind"],
            owner["metadata"]["name"],
        ):
            # The garbage collector has not deleted the children of an earlier MCPProxy yet.
            leaving.append(child)
        elif not is_orphan(child, owner):
            foreign.append(child)
    if foreign:
        single = len(foreign) == 1
        exist = "already exists and is" if single else "already exist and are"
        remedy = f"or delete {'it' if single else 'them'} if unused"
        message = (
            f"{list_of(foreign)} {exist} not controlled by this MCPProxy; rename the MCPProxy,"
            f" {remedy}"
        )
        return ConditionReason(reasons.NOT_OWNED, message)
    if leaving:
        return ConditionReason(reasons.WAITING_FOR_DELETION, f"{list_of(leaving)} is being deleted")
    return None


def list_of(objects: Sequence[Object]) -> str:
    """Return kinds and names of objects, sorted, as messages list them."""
    return ", ".join(f"{kind} {name}" for kind, name in sorted(map(kind_and_name, objects)))
