"""Values that a manifest refers to: files that the kubelet mounts and replaces when they change."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from mcpproxy.api.names import value_path
from mcpproxy.api.v1alpha1 import EnvVar, Header, ValueFrom
from mcpproxy.proxy.core.errors import ValueMissing

FRESH: Final = 1.0
"""Seconds that a read value is used without looking at its file again."""


class Values:
    """Reads values below one directory; what is read stays fresh for a second."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._read: dict[str, tuple[float, str]] = {}

    def of(self, given: Header | EnvVar) -> str:
        """The value of a header or variable. Raises ValueMissing that names what is not there."""
        if given.value is not None:
            return given.value
        assert given.value_from is not None
        kind, ref = _reference(given.value_from)
        path = value_path(kind.lower(), ref[0], ref[1])
        now = self._clock()
        found = self._read.get(path)
        if found is None or now - found[0] > FRESH:
            found = self._read[path] = now, self.read(given.value_from)
        return found[1]

    def read(self, source: ValueFrom) -> str:
        """What the file holds now. Raises ValueMissing."""
        kind, ref = _reference(source)
        path = self._directory / value_path(kind.lower(), ref[0], ref[1])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ValueMissing(f"{kind} {ref[0]} has no readable key {ref[1]}") from None
        return text.rstrip("\r\n")


def _reference(source: ValueFrom) -> tuple[str, tuple[str, str]]:
    if source.secret_key_ref is not None:
        return "Secret", (source.secret_key_ref.name, source.secret_key_ref.key)
    assert source.config_map_key_ref is not None
    return "ConfigMap", (source.config_map_key_ref.name, source.config_map_key_ref.key)


def described(source: ValueFrom) -> str:
    """A key as messages name it: `key KEY of KIND NAME`."""
    kind, (name, key) = _reference(source)
    return f"key {key} of {kind} {name}"


def headers(values: Values, given: Iterable[Header]) -> tuple[tuple[bytes, bytes], ...]:
    """Configured headers, ready to send. Raises ValueMissing."""
    found = []
    for header in given:
        text = values.of(header)
        if any(c in text for c in "\r\n\0"):
            raise ValueMissing(f"the value of header {header.name} is more than one line")
        found.append((header.name.lower().encode("ascii"), text.encode("utf-8")))
    return tuple(found)


KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SYSTEMROOT")


def environment(values: Values, given: Iterable[EnvVar]) -> dict[str, str]:
    """The environment of a stdio server: a few of our own variables and the configured ones."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {variable.name: values.of(variable) for variable in given}
