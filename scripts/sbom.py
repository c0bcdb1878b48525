"""The Python packages of an image as a software bill of materials (CycloneDX 1.6, JSON).

python -m scripts.sbom runtime|controller|node|uv

The bill is made from the locked requirements, so it is the same for every build of a commit. It
does not include the content of the base image.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from scripts import images

ROOT: Final = Path(__file__).parent.parent
PLACES: Final = ("runtime", "controller", "node", "uv")
_ENTRY: Final = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^\s;\\]+)", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def requirements(place: str) -> str:
    """Return the locked requirements of one of PLACES."""
    return (ROOT / "requirements" / f"{place}.txt").read_text(encoding="utf-8")


def bill(texts: Iterable[str], *, name: str, version: str) -> dict[str, Any]:
    """Return the bill of an image with these locked requirements."""
    components = {
        component["bom-ref"]: component for text in texts for component in _components(text)
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": f"{name}:{version}",
                "name": name,
                "version": version,
            }
        },
        "components": list(components.values()),
        "dependencies": [{"ref": f"{name}:{version}", "dependsOn": sorted(components)}],
    }


def _components(text: str) -> Iterator[dict[str, Any]]:
    entries = list(_ENTRY.finditer(text))
    ends = [entry.start() for entry in entries[1:]] + [len(text)]
    for entry, end in zip(entries, ends, strict=True):
        name, version = entry.groups()
        package = f"pkg:pypi/{name}@{version}"
        files = _HASH.findall(text[entry.start() : end])
        yield {
            "type": "library",
            "bom-ref": package,
            "name": name,
            "version": version,
            "purl": package,
            # One for each file of the release, because any of them may have been installed.
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": package,
                    "hashes": [{"alg": "SHA-256", "content": digest} for digest in files],
                }
            ],
        }


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PLACES:
        sys.exit(f"usage: python -m scripts.sbom {'|'.join(PLACES)}")
    place = sys.argv[1]
    printed = bill([requirements(place)], name=f"{images.PREFIX}/{place}", version=images.TAG)
    json.dump(printed, sys.stdout, indent=2)
    sys.stdout.write("\n")
