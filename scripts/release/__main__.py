"""Builds a release from a tag: `python -m scripts.release TAG [--output DIR] [--without-images]`.

Environment: IMAGE is the first part of the images' names, such as registry.example.com/mcpproxy.
SOURCE_URL is the address of the repository, DOCS_URL that of its documentation, and BASE_IMAGE the
base of the images.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scripts import images, machine, sbom
from scripts.release import archives, image_archive, provenance

_NAMES: Final = re.compile(rf"\b{images.PREFIX}/(operator|runtime|demo)\b")
_CREATED: Final = re.compile(r"^(?P<indent> *)containerImage: .*$", re.MULTILINE)
INSTALLED: Final = ("install.yaml", "install-namespaced.yaml")
CHARTS: Final = ("mcpproxy-operator", "mcpproxy-crds")
LOCKS: Final = ("runtime", "controller")
"""Requirements that belong to an installation with pip."""
BILLS: Final = {
    "runtime": ("runtime",),
    "operator": ("controller",),
    "runtime-node": ("runtime", "node"),
    "runtime-uv": ("runtime", "uv"),
    "runtime-node-uv": ("runtime", "node", "uv"),
}
"""Image → the requirements in it."""


class Refused(Exception):
    """A release that cannot be built, with the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release: a tree of files from git, and where its artifacts go."""

    tree: Path
    output: Path
    ref: str
    commit: str
    epoch: int
    image: str
    source: str
    docs: str = ""

    @property
    def version(self) -> str:
        """The version in the tree's pyproject.toml."""
        text = (self.tree / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])

    @property
    def created(self) -> str:
        """Time of the commit, in RFC 3339."""
        return datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def named(self, text: str) -> str:
        """Return the text with the names of images under which they are published."""
        return _NAMES.sub(rf"{self.image}/\1", text)

    def linked(self, text: str) -> str:
        """Return values.yaml with the address of the documentation, if it is set."""
        return text.replace("docsUrl: docs\n", f"docsUrl: {self.docs}\n") if self.docs else text

    def write(self, name: str, content: str | bytes) -> None:
        """Write one artifact."""
        data = content.encode() if isinstance(content, str) else content
        (self.output / name).write_bytes(data)


def git(*arguments: str) -> str:
    """Return the output of git in the repository.

    Raise Refused.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=machine.ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def check_tag(ref: str, version: str) -> None:
    """Raise Refused if the tag names another version than pyproject.toml."""
    if re.fullmatch(r"v\d.*", ref) and ref != f"v{version}":
        raise Refused(
            f"the tag {ref} does not match version {version} in pyproject.toml;"
            f" tag v{version}, or correct the version and commit it"
        )


def packages(release: Release) -> None:
    """Build the wheel and the source distribution, and copy the locked requirements."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)}
    # Modes of files are part of archives; git keeps only whether a file is executable.
    for path in release.tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(release.output)]
    done = subprocess.run(
        command, cwd=release.tree, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(f"the wheel cannot be built:\n{done.stdout}{done.stderr}")
    for place in LOCKS:
        shutil.copyfile(
            release.tree / "requirements" / f"{place}.txt",
            release.output / f"requirements-{place}.txt",
        )


def manifests(release: Release) -> None:
    """Write the install manifests, the CRD, the charts and the bundle."""
    for name in INSTALLED:
        text = (release.tree / "manifests" / name).read_text(encoding="utf-8")
        release.write(name, release.named(text))
    crd = release.tree / "crds" / "mcpproxies.mcpproxy.dev.yaml"
    release.write("crds.yaml", crd.read_bytes())
    for chart in CHARTS:
        files = archives.tree(release.tree / "charts" / chart, chart)
        for name in ("values.yaml", "README.md"):
            path = f"{chart}/{name}"
            files[path] = release.linked(release.named(files[path].decode())).encode()
        packed = archives.tar_gz(files, release.epoch)
        release.write(f"{chart}-{release.version}.tgz", packed)
    bundle = archives.tree(release.tree / "bundle", "bundle")
    for path, content in bundle.items():
        if path.endswith(".clusterserviceversion.yaml"):
            bundle[path] = _dated(release, content.decode()).encode()
    packed = archives.tar_gz(bundle, release.epoch)
    release.write(f"mcpproxy-operator-bundle-{release.version}.tgz", packed)


def _dated(release: Release, text: str) -> str:
    """Return the ClusterServiceVersion with the time of the release and the names of images."""
    named, count = _CREATED.subn(
        lambda result: f"{result[0]}\n{result['indent']}createdAt: '{release.created}'",
        release.named(text),
    )
    assert count == 1
    return named


def bills(release: Release) -> None:
    """Write a bill of materials for each image."""
    for image, places in BILLS.items():
        texts = [(release.tree / "requirements" / f"{place}.txt").read_text() for place in places]
        content = sbom.bill(texts, name=f"{release.image}/{image}", version=release.version)
        release.write(f"sbom-{image}.cdx.json", json.dumps(content, indent=2) + "\n")


def image_archives(release: Release, env: dict[str, str]) -> None:
    """Build all images and save them without the traces of their build."""
    labels = {"REVISION": release.commit, "CREATED": release.created, "SOURCE": release.source}
    targets = (*images.TARGETS, *images.VARIANTS)
    base = env.get("BASE_IMAGE") or images.BASE
    built = images.build(env, targets, release.tree, release.version, release.image, labels)
    base_layers = _layers(base, env)
    for target, image in zip(targets, built, strict=True):
        with tempfile.TemporaryDirectory() as directory:
            saved = Path(directory) / "image.tar"
            machine.run(["docker", "save", "--output", str(saved), image], env)
            archive = release.output / f"image-{target}-{release.version}.tar.gz"
            digest = image_archive.normalize(saved, archive, release.epoch, base_layers)
        sys.stderr.write(f"{image}: {digest}\n")


def _layers(image: str, env: dict[str, str]) -> int:
    """Return the number of layers of an image; 0 if Docker did not keep it, as BuildKit may not."""
    try:
        command = ["docker", "image", "inspect", "--format", "{{len .RootFS.Layers}}", image]
        return int(machine.run(command, env))
    except machine.CommandFailed:
        return 0


def finish(release: Release, base_image: str) -> None:
    """Write the provenance and the checksums of all artifacts."""
    origin = provenance.Origin(
        release.source, release.ref, release.commit, release.image, base_image
    )
    locks = sorted((release.tree / "requirements").glob("*.txt"))
    subjects = [path for path in release.output.iterdir() if path.is_file()]
    release.write("provenance.intoto.json", provenance.statement(origin, subjects, locks))
    files = [path for path in release.output.iterdir() if path.name != "SHA256SUMS"]
    release.write("SHA256SUMS", archives.sums(files))


def build(ref: str, output: Path, *, with_images: bool) -> None:
    """Build a release into an empty directory.

    Raise Refused or CommandFailed.
    """
    commit = git("rev-parse", "--verify", f"{ref}^{{commit}}")
    epoch = int(git("log", "-1", "--format=%ct", commit))
    if output.exists() and any(output.iterdir()):
        raise Refused(f"{output} is not empty; remove it, or name another with --output")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        tree.mkdir()
        exported = Path(directory) / "tree.tar"
        git("archive", f"--output={exported}", commit)
        shutil.unpack_archive(exported, tree, filter="data")
        release = Release(
            tree=tree,
            output=output.resolve(),
            ref=ref,
            commit=commit,
            epoch=epoch,
            image=(os.environ.get("IMAGE") or images.PREFIX).rstrip("/"),
            source=os.environ.get("SOURCE_URL", ""),
            docs=os.environ.get("DOCS_URL", "").rstrip("/"),
        )
        check_tag(ref, release.version)
        packages(release)
        manifests(release)
        bills(release)
        env = machine.environment() if with_images else dict(os.environ)
        if with_images:
            image_archives(release, env)
        finish(release, env.get("BASE_IMAGE", "") if with_images else "")


def main(arguments: list[str]) -> int:
    """Build a release and print its files."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release")
    parser.add_argument("ref", metavar="TAG", help="tag or commit to build, such as v0.1.0")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="directory (%(default)s)")
    parser.add_argument("--without-images", action="store_true", help="build no images")
    args = parser.parse_args(arguments)
    try:
        build(args.ref, args.output, with_images=not args.without_images)
    except (Refused, machine.CommandFailed) as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    for path in sorted(args.output.iterdir()):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
