"""The Python packages of an image as a software bill of materials (CycloneDX 1.6, JSON).

python -m scripts.sbom runtime|controller

The bill is made from the locked requirements, so it is the same for every build of a commit. It
does not include the content of the base image.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
PLACES: Final = ("runtime", "controller")
_ENTRY: Final = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^\s;\\]+)", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill(place: str) -> dict[str, Any]:
    """Return the bill of one of PLACES."""
    text = (ROOT / "requirements" / f"{place}.txt").read_text(encoding="utf-8")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": list(_components(text)),
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
    json.dump(bill(sys.argv[1]), sys.stdout, indent=2)
    sys.stdout.write("\n")
