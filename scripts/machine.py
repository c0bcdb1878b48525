"""What this machine offers: Docker, kind, an API server's binaries."""

import functools
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
KIND_UP = ROOT.parent / "shared" / "kind" / "up"


@functools.cache
def environment() -> dict[str, str]:
    """The environment for tools: our own, and what ../shared/kind/up exports if it is there.

    That script starts Docker and builds what is missing, so its first call may take minutes.
    """
    if not KIND_UP.exists():
        return dict(os.environ)
    script = f'exported=$({KIND_UP}) && eval "$exported" && env -0'
    shell = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE)
    pairs = (entry.split("=", 1) for entry in shell.stdout.decode().split("\0") if "=" in entry)
    found = dict(pairs)
    found.setdefault("BASE_IMAGE", found.get("PYTHON_BASE_IMAGE", ""))
    return found


def docker_runs(env: dict[str, str]) -> bool:
    """Whether a Docker daemon answers."""
    try:
        asked = subprocess.run(["docker", "info"], env=env, capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


def run(
    command: list[str],
    env: dict[str, str],
    *,
    given: str | None = None,
    timeout: float = 600,
) -> str:
    """Standard output of a command.

    Raises CommandFailed, which holds all that it printed, when it ends with another code than 0.
    """
    done = subprocess.run(
        command,
        env=env,
        cwd=ROOT,
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


class CommandFailed(Exception):
    """A command ended with another code than 0."""

    def __init__(self, command: list[str], code: int, output: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{output.strip()}")
        self.code = code
        self.output = output
