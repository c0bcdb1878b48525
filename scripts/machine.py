"""Tools of this machine: Docker, kind and the binaries of an API server."""

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KIND_UP = ROOT.parent / "shared" / "kind" / "up"
INOTIFY_INSTANCES = 1024
"""Number of inotify instances that the clusters of all stories need together, with room."""


@functools.cache
def environment() -> dict[str, str]:
    """Return the environment for tools: that of this process, and exports of ../shared/kind/up.

    If that script exists, it starts Docker and builds missing images, so the first call may take
    minutes.
    """
    if not KIND_UP.exists():
        return dict(os.environ)
    script = f'exported=$({KIND_UP}) && eval "$exported" && env -0'
    shell = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE)
    pairs = (entry.split("=", 1) for entry in shell.stdout.decode().split("\0") if "=" in entry)
    exported = dict(pairs)
    exported.setdefault("BASE_IMAGE", exported.get("PYTHON_BASE_IMAGE", ""))
    return exported


def docker_runs(env: dict[str, str]) -> bool:
    """True if a Docker daemon responds."""
    try:
        info = subprocess.run(["docker", "info"], env=env, capture_output=True, check=False)
    except OSError:
        return False
    return info.returncode == 0


def raise_inotify_limit() -> None:
    """Let several kind clusters run at a time, as root: else kubelets run out of watches.

    See https://kind.sigs.k8s.io/docs/user/known-issues/. Prints what it changes.
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if limit.exists() and os.access(limit, os.W_OK) and int(limit.read_text()) < INOTIFY_INSTANCES:
        sys.stderr.write(f"sysctl fs.inotify.max_user_instances={INOTIFY_INSTANCES}\n")
        limit.write_text(f"{INOTIFY_INSTANCES}\n")


def run(
    command: list[str],
    env: dict[str, str],
    *,
    stdin: str | None = None,
    timeout: float = 600,
) -> str:
    """Return the standard output of a command.

    Raise CommandFailed with all output if the exit code is not 0.
    """
    done = subprocess.run(
        command,
        env=env,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


class CommandFailed(Exception):
    """A command exited with a code other than 0."""

    def __init__(self, command: list[str], code: int, output: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{output.strip()}")
        self.code = code
        self.output = output
