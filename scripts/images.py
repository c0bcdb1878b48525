"""Builds the images: `python -m scripts.images`. BASE_IMAGE sets their base image."""

import sys
from collections.abc import Iterable
from pathlib import Path

from scripts import machine

TARGETS = ("runtime", "demo", "operator")
TAG = "0.1.0"


def name(target: str, tag: str = TAG) -> str:
    """Return the image's name, as in the manifests and samples."""
    return f"mcpproxy/{target}:{tag}"


def build(
    env: dict[str, str],
    targets: Iterable[str] = TARGETS,
    tree: Path = machine.ROOT,
    tag: str = TAG,
) -> list[str]:
    """Build the targets from the files in `tree`. Return the names of the images.

    Raise CommandFailed.
    """
    arguments = ["--network=host"]
    if env.get("BASE_IMAGE"):
        arguments += ["--build-arg", f"BASE_IMAGE={env['BASE_IMAGE']}"]
    built = []
    for target in targets:
        image = name(target, tag)
        command = ["docker", "build", *arguments, "--target", target, "--tag", image, str(tree)]
        machine.run(command, env, timeout=1200)
        built.append(image)
    return built


if __name__ == "__main__":
    for built_image in build(machine.environment()):
        sys.stdout.write(f"{built_image}\n")
