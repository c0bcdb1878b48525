"""`make demo`: samples/demo.yaml on kind if Docker runs, otherwise on this machine.

python -m scripts.demo [--local | --clean]
"""

import argparse
import shutil
import subprocess
import sys

from scripts import machine
from scripts.demo_kind import KindDemo
from scripts.demo_local import LocalDemo, NotStarted
from scripts.progress import Progress


def cluster_environment(progress: Progress) -> dict[str, str] | None:
    """Return the environment for Docker and kind, or None if one of them is missing."""
    if machine.KIND_UP.exists():
        progress.step("readying Docker and kind")
    try:
        env = machine.environment()
    except subprocess.CalledProcessError:
        return None
    if not machine.docker_runs(env) or shutil.which("kind", path=env["PATH"]) is None:
        return None
    return env


def main() -> int:
    """Run the demo. Return 0, or 1 if a step failed."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--local", action="store_true", help="no cluster, even if Docker runs")
    parser.add_argument(
        "--clean", action="store_true", help="remove everything that the demo created"
    )
    args = parser.parse_args()
    progress = Progress()
    env = None if args.local else cluster_environment(progress)
    local = LocalDemo(progress)
    demo = local if env is None else KindDemo(env, progress)
    try:
        if args.clean:
            local.clean()
            demo.clean()
        else:
            demo.run()
        progress.step("done")
    except (machine.CommandFailed, NotStarted, subprocess.TimeoutExpired, ValueError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
