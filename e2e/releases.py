"""Other versions of the product: their images and manifests."""

import io
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from e2e.operators import Operators
from scripts import images, machine
from scripts.cluster import Cluster

TARGETS = ("operator", "runtime")
SOURCES = ("operator", "requirements", "samples", "scripts", "manifests", "crds")
FILES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE")
_OURS = re.compile(r"\b(mcpproxy/(?:operator|runtime)):[\w.-]+")


@dataclass(frozen=True)
class Release:
    """A tree of files, and the tag that its images bear."""

    tree: Path
    tag: str

    def image(self, target: str) -> str:
        """Name of an image."""
        return images.name(target, self.tag)

    def load(self, cluster: Cluster) -> None:
        """Build the images and bring them into a cluster."""
        cluster.load(images.build(cluster.env, TARGETS, self.tree, self.tag))

    def manifests(self) -> str:
        """Manifests that install it, with its own images."""
        text = (self.tree / "manifests" / "install.yaml").read_text(encoding="utf-8")
        return _OURS.sub(rf"\1:{self.tag}", text)

    def install(self, cluster: Cluster) -> None:
        """Apply all manifests over those that are there; returns when its operators run."""
        apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        cluster.kubectl(*apply, stdin=self.manifests())
        Operators(cluster).wait()


def current() -> Release:
    """This tree, whose images are in the cluster already."""
    return Release(machine.ROOT, images.TAG)


def newer(directory: Path, version: str) -> Release:
    """A copy of this tree in `directory` that says it is of another version."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(machine.ROOT / name, directory / name, ignore=ignored)
    for name in FILES:
        shutil.copy(machine.ROOT / name, directory / name)
    project = directory / "pyproject.toml"
    text, count = re.subn(
        r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text(encoding="utf-8")
    )
    assert count == 1
    project.write_text(text, encoding="utf-8")
    return Release(directory, version)


def earlier(directory: Path, revision: str, tag: str) -> Release:
    """The files of a revision, in `directory`."""
    archive = subprocess.run(
        ["git", "archive", revision], cwd=machine.ROOT, check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as result:
        result.extractall(directory, filter="data")
    return Release(directory, tag)
