"""Fields of the status that the installed CRD lacks, so that the rest can be written.

Package managers such as Helm do not upgrade CRDs. The API server then rejects a server-side apply
of the whole status because of one field that the schema lacks.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

TRY_AGAIN: Final = 300.0
"""Seconds after which all fields are sent again, because the CRD may have been upgraded."""
_ROOT: Final = "status."


class UndeclaredFields:
    """Paths below `status`, without list keys, that the API server has rejected."""

    def __init__(self) -> None:
        self._paths: frozenset[str] = frozenset()
        self._since: datetime | None = None

    def __str__(self) -> str:
        return ", ".join(sorted(self._paths))

    def learn(self, fields: Iterable[str], now: datetime) -> None:
        """Add fields that were rejected at `now`."""
        self._paths |= {field for field in fields if field.startswith(_ROOT)}
        self._since = now

    def fields(self, now: datetime) -> frozenset[str]:
        """Return the fields to leave out."""
        if self._since is not None and (now - self._since).total_seconds() >= TRY_AGAIN:
            self._paths, self._since = frozenset(), None
        return self._paths

    def left_out(self, status: dict[str, Any], now: datetime) -> dict[str, Any]:
        """Return the status without these fields."""
        for path in self.fields(now):
            _remove(status, path.removeprefix(_ROOT).split("."))
        return status


def _remove(value: Any, path: list[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _remove(item, path)
    elif isinstance(value, dict) and len(path) == 1:
        value.pop(path[0], None)
    elif isinstance(value, dict) and path[0] in value:
        _remove(value[path[0]], path[1:])
