"""Builds the images: `python -m scripts.images [TARGET ...]`.

BASE_IMAGE sets their base image, IMAGE the part of their names before the target (mcpproxy).
"""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from scripts import machine

TARGETS: Final = ("runtime", "demo", "operator")
VARIANTS: Final = ("runtime-node", "runtime-uv", "runtime-node-uv")
"""The runtime with programs that start servers from npm and PyPI."""
TAG: Final = "0.1.0"
BASE: Final = "python:3.11-slim-bookworm"
"""Base image unless BASE_IMAGE is set, as in the Dockerfile."""
PREFIX: Final = "mcpproxy"
"""First part of the names in the manifests and samples."""


def name(target: str, tag: str = TAG, prefix: str = PREFIX) -> str:
    """Return the image's name; without `prefix`, as in the manifests and samples."""
    return f"{prefix}/{target}:{tag}"


def build(
    env: dict[str, str],
    targets: Iterable[str] = TARGETS,
    tree: Path = machine.ROOT,
    tag: str = TAG,
    prefix: str = PREFIX,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """Build the targets from the files in `tree`. Return the names of the images.

    `labels` are build arguments such as REVISION. Raise CommandFailed.
    """
    argument = {"VERSION": tag, **(labels or {})}
    if env.get("BASE_IMAGE"):
        argument["BASE_IMAGE"] = env["BASE_IMAGE"]
    arguments = ["--network=host"]
    for key, value in argument.items():
        arguments += ["--build-arg", f"{key}={value}"]
    built = []
    for target in targets:
        image = name(target, tag, prefix)
        command = ["docker", "build", *arguments, "--target", target, "--tag", image, str(tree)]
        machine.run(command, env, timeout=1200)
        built.append(image)
    return built


def main(arguments: list[str]) -> int:
    """Build the named targets, or TARGETS, and print the names of the images."""
    known = (*TARGETS, *VARIANTS)
    if unknown := set(arguments) - set(known):
        sys.stderr.write(f"no target {', '.join(sorted(unknown))}; targets: {', '.join(known)}\n")
        return 2
    prefix = os.environ.get("IMAGE") or PREFIX
    env = machine.environment()
    try:
        for image in build(env, arguments or TARGETS, prefix=prefix):
            sys.stdout.write(f"{image}\n")
    except machine.CommandFailed as error:
        base = env.get("BASE_IMAGE") or BASE
        sys.stderr.write(f"{error}\nThe base image is {base}; set BASE_IMAGE to use another one.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
