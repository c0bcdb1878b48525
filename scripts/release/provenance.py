"""The provenance of a release: an in-toto statement with SLSA's predicate, not signed.

It contains no time and no name of a machine, so that two builds of a commit give the same bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.release.archives import sha256

BUILD_TYPE: Final = "docs/releasing.md#what-a-release-is-built-from"


@dataclass(frozen=True, slots=True)
class Origin:
    """Sources of a release."""

    source: str
    """Address of the repository; empty if it is not set."""
    ref: str
    commit: str
    image: str
    """First part of the names of images."""
    base_image: str
    """Base of the images; empty if none were built."""


def statement(origin: Origin, subjects: Iterable[Path], inputs: Iterable[Path]) -> str:
    """Return the statement about the files of a release, as JSON.

    `inputs` are locked requirements and other files that name dependencies.
    """
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "source": origin.source,
                "ref": origin.ref,
                "image": origin.image,
            },
            "resolvedDependencies": _dependencies(origin, inputs),
        },
        "runDetails": {"builder": {"id": "scripts/release"}},
    }
    content = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_digested(path) for path in sorted(subjects)],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": predicate,
    }
    return json.dumps(content, indent=2) + "\n"


def _dependencies(origin: Origin, inputs: Iterable[Path]) -> list[dict[str, Any]]:
    commit = {"uri": f"git+{origin.source}", "digest": {"gitCommit": origin.commit}}
    results = [commit, *(_digested(path) for path in sorted(inputs))]
    if origin.base_image:
        name, _, digest = origin.base_image.partition("@sha256:")
        base: dict[str, Any] = {"uri": f"docker://{name}"}
        results.append(base | {"digest": {"sha256": digest}} if digest else base)
    return results


def _digested(path: Path) -> dict[str, Any]:
    return {"name": path.name, "digest": {"sha256": sha256(path)}}
