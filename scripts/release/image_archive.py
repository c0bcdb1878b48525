"""An image archive of `docker save` without the times and identifiers of its build.

Layers keep their files. In the layers of the base image, only times after `epoch` become `epoch`,
so older layers keep their digests. In all later layers, every time becomes `epoch`, because a layer
from Docker's build cache can be older than the commit. The configuration loses the name of the
container that built it.
"""

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from scripts.release.archives import CHUNK, member

_OF_THE_BUILD: Final = ("container", "container_config", "docker_version")
_PLAIN: Final = frozenset({"path", "linkpath", "size", "uname", "gname"})
"""Extended headers that describe a file; the others are times."""


def normalize(source: Path, target: Path, epoch: int, base_layers: int = 0) -> str:
    """Write the archive of one image to `target`. Return the digest of its configuration.

    The first `base_layers` layers are those of the base image.
    """
    with tarfile.open(source) as archive, tempfile.TemporaryDirectory() as directory:
        (manifest,) = json.loads(_read(archive, "manifest.json"))
        config = json.loads(_read(archive, manifest["Config"]))
        layers = [
            _layer(archive, name, Path(directory) / str(number), epoch, number < base_layers)
            for number, name in enumerate(manifest["Layers"])
        ]
        config["rootfs"]["diff_ids"] = [f"sha256:{digest}" for digest, _ in layers]
        content = _bytes(_without_build(config, epoch, base_layers))
        name = hashlib.sha256(content).hexdigest()
        listed = {
            "Config": f"{name}.json",
            "RepoTags": manifest["RepoTags"],
            "Layers": [f"{digest}.tar" for digest, _ in layers],
        }
        with _compressed(target, epoch) as packed:
            _add(packed, "manifest.json", _bytes([listed]), epoch)
            _add(packed, f"{name}.json", content, epoch)
            for digest, path in sorted(set(layers)):
                with path.open("rb") as file:
                    packed.addfile(member(f"{digest}.tar", path.stat().st_size, epoch), file)
    return f"sha256:{name}"


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _layer(
    archive: tarfile.TarFile, name: str, target: Path, epoch: int, of_base: bool
) -> tuple[str, Path]:
    """Rewrite one layer into a file. Return its digest and the file."""
    packed = archive.extractfile(name)
    assert packed is not None, name
    with (
        tarfile.open(fileobj=packed, mode="r:*") as layer,
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as rewritten,
    ):
        for info in layer:
            info.mtime = min(int(info.mtime), epoch) if of_base else epoch
            info.pax_headers = {
                key: value
                for key, value in info.pax_headers.items()
                if key.startswith("SCHILY.xattr.") or key in _PLAIN
            }
            rewritten.addfile(info, layer.extractfile(info) if info.isfile() else None)
    return _digest(target), target


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _without_build(config: dict[str, Any], epoch: int, base_layers: int) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _OF_THE_BUILD}
    kept["created"] = _time(epoch)
    layers = 0
    for entry in kept.get("history", []):
        layers += not entry.get("empty_layer", False)
        created = entry.get("created")
        if created is not None and (layers > base_layers or _seconds(created) > epoch):
            entry["created"] = _time(epoch)
    # The container in which the last step ran.
    for key in ("Hostname", "Image"):
        kept["config"].pop(key, None)
    return kept


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    # Docker writes nanoseconds; the comparison is one of seconds.
    whole = text.partition(".")[0].rstrip("Z")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp()


@contextmanager
def _compressed(target: Path, epoch: int) -> Iterator[tarfile.TarFile]:
    with (
        target.open("wb") as file,
        gzip.GzipFile(
            fileobj=file, mode="wb", filename="", mtime=epoch, compresslevel=6
        ) as compressed,
        tarfile.open(fileobj=_stream(compressed), mode="w|", format=tarfile.PAX_FORMAT) as packed,
    ):
        yield packed


def _stream(compressed: gzip.GzipFile) -> IO[bytes]:
    return compressed  # type: ignore[return-value]


def _add(archive: tarfile.TarFile, name: str, content: bytes, epoch: int) -> None:
    archive.addfile(member(name, len(content), epoch), io.BytesIO(content))
