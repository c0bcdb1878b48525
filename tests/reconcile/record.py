"""Records what a cluster says of the Deployments of failing proxies, as data for tests.

    python -m tests.reconcile.record KUBECONFIG NAMESPACE NAME...

The proxies are those of `e2e.causes`. Fields that only managers of fields need are left out.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


def main(kubeconfig: str, namespace: str, *names: str) -> None:
    """Write one file for each proxy."""
    for name in names:
        selector = f"app.kubernetes.io/instance={name}"
        command = ["kubectl", "--kubeconfig", kubeconfig, "-n", namespace, "get"]
        command += ["deployments,replicasets,pods", "-l", selector, "-o", "json"]
        listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        result: dict[str, list[Any]] = {"Deployment": [], "ReplicaSet": [], "Pod": []}
        for live in listed["items"]:
            live["metadata"].pop("managedFields", None)
            result[live["kind"]].append(live)
        lines = (json.dumps({kind: result[kind]}, sort_keys=True) for kind in sorted(result))
        (RECORDED / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
