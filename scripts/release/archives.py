"""Archives whose bytes depend on their content alone."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 20


def tree(root: Path, prefix: str) -> dict[str, bytes]:
    """Return the files below a directory: path with `prefix` instead of the directory → content."""
    return {
        f"{prefix}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def tar_gz(files: dict[str, bytes], epoch: int) -> bytes:
    """Return an archive of the files, sorted by path, owned by root and as old as `epoch`."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in sorted(files.items()):
            archive.addfile(member(path, len(content), epoch), io.BytesIO(content))
    return packed.getvalue()


def member(path: str, size: int, epoch: int) -> tarfile.TarInfo:
    """Return the header of a file."""
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = size, epoch, 0o644
    return info


def sha256(path: Path) -> str:
    """Return the digest of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sums(paths: Iterable[Path]) -> str:
    """Return the content of SHA256SUMS, for `sha256sum --check`."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(paths))
