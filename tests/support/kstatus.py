"""What generic tools make of an object: sigs.k8s.io/cli-utils/pkg/kstatus for custom resources."""

from typing import Any, Literal

Status = Literal["Current", "InProgress", "Failed", "Terminating"]


def kstatus(found: dict[str, Any]) -> Status:
    """The status that kstatus computes."""
    metadata, status = found["metadata"], found.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    seen = status.get("observedGeneration")
    if seen is not None and seen != metadata.get("generation"):
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"] == "True" else "InProgress"
    return "Current"
