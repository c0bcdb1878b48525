"""The panels of the Grafana dashboard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "manifests" / "monitoring" / "dashboard.json"


def load() -> dict[str, Any]:
    """The dashboard."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return document


def panels() -> Iterator[dict[str, Any]]:
    """All panels that show something, those in closed rows as well."""
    for panel in load()["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or ()
        else:
            yield panel


def queries() -> list[str]:
    """The expressions of all panels."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]
