"""A volume that changes as the kubelet changes one: all of it at once, by replacing a link."""

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

DATA = "..data"


class Volume:
    """Secrets and ConfigMaps of a pod (pkg/volume/util/atomic_writer.go of Kubernetes)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count(1)

    def write(self, content: Mapping[str, str | bytes]) -> None:
        """From now on these are all its files, by their paths such as `secret/token/key`."""
        data, new = self.directory / DATA, self.directory / f"..generation_{next(self._numbers)}"
        for path, value in content.items():
            file = new / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value.encode() if isinstance(value, str) else value)
        new.mkdir(exist_ok=True)
        before = self.directory / os.readlink(data) if data.is_symlink() else None
        link = self.directory / "..data_tmp"
        link.symlink_to(new.name)
        link.rename(data)
        self._shown({path.partition("/")[0] for path in content})
        if before is not None:
            shutil.rmtree(before)

    def _shown(self, names: set[str]) -> None:
        for name in names:
            shown = self.directory / name
            if not shown.is_symlink():
                shown.symlink_to(f"{DATA}/{name}")
        for shown in self.directory.iterdir():
            if not shown.name.startswith("..") and shown.name not in names:
                shown.unlink()
