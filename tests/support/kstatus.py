"""Status that generic tools compute: sigs.k8s.io/cli-utils/pkg/kstatus for custom resources."""

from typing import Any, Literal

Status = Literal["Current", "InProgress", "Failed", "Terminating"]


def kstatus(result: dict[str, Any]) -> Status:
    """The status that kstatus computes."""
    metadata, status = result["metadata"], result.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    seen = status.get("observedGeneration")
    if seen is not None and seen != metadata.get("generation"):
        return "InProgress"
    conditions = {
        condition["type"]: condition["status"] for condition in status.get("conditions") or []
    }
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"] == "True" else "InProgress"
    return "Current"
