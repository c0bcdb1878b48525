"""Values that a manifest references, in files that the kubelet mounts and updates."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from mcpproxy.api import constants
from mcpproxy.proxy.core.errors import MissingReference

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import EnvVar, Header, ValueFrom

FRESH: Final = 1.0
"""Seconds for which values are used before their files are checked again."""
GENERATION: Final = "..data"
"""Symbolic link that the kubelet points to another directory when any value in the volume
changes."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class MountedToken:
    """A token of the pods' ServiceAccount for one backend, in a file that the kubelet renews."""

    backend: str
    file: str


@dataclass(frozen=True, slots=True)
class MountedConfigKey:
    """A key of a ConfigMap that the operator writes."""

    name: str
    key: str


Source: TypeAlias = "ValueFrom | MountedToken | MountedConfigKey"

Texts = tuple[str | None, ...]


class MountedValues:
    """Reader of the values below one directory."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._directory = directory

    def read(self, sources: Sequence[Source]) -> tuple[str, Texts]:
        """Return the generation and the text of each file, all of the same generation.

        The text is None if the file is not readable.
        """
        before = self._read_once(sources)
        for _ in range(_TRIES):
            again = self._read_once(sources)
            if again == before:
                break
            before = again
        return before

    def _read_once(self, sources: Sequence[Source]) -> tuple[str, Texts]:
        return self.generation(), tuple(map(self._text, sources))

    def generation(self) -> str:
        """Return the name of the current state of all values.

        The kubelet gives each state another name and never changes a state. The name is empty if no
        kubelet mounts the directory; its files may then change one by one.
        """
        try:
            return os.readlink(self._directory / GENERATION)
        except OSError:
            return ""

    def _text(self, source: Source) -> str | None:
        kind, ref = _reference(source)
        path = self._directory / constants.value_path(kind.lower(), ref[0], ref[1])
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            return None


class ValueGroup:
    """Values that are used together, and therefore always read from the same generation."""

    def __init__(self, values: MountedValues, sources: "Iterable[Source | None]") -> None:
        self._values = values
        self._sources = tuple(source for source in sources if source is not None)
        self._read_at = float("-inf")
        self._texts: tuple[str, ...] = ()
        self._generation = ""
        self._in_use: set[tuple[str, ...]] = set()

    def cached(self) -> tuple[str, ...]:
        """Return the values, read at most one second ago.

        Returns the same tuple while the values stay the same. Raises MissingReference that names
        the missing key.
        """
        if self._sources and self._values.clock() - self._read_at > FRESH:
            self._refresh()
        return self._texts

    def current(self) -> tuple[str, ...]:
        """Return the current values. Raises MissingReference."""
        self._refresh()
        return self._texts

    def changed(self) -> bool:
        """True if values other than the current ones were returned since the last call of this
        method."""
        before, self._in_use = self._in_use, set()
        if not before:
            return False
        try:
            return before != {self.current()}
        except MissingReference:
            return True

    def _refresh(self) -> None:
        self._read_at = float("-inf")
        if not self._generation or self._generation != self._values.generation():
            self._read()
        self._in_use.add(self._texts)
        self._read_at = self._values.clock()

    def _read(self) -> None:
        self._generation = ""
        generation, texts = self._values.read(self._sources)
        for source, text in zip(self._sources, texts, strict=True):
            if text is None:
                raise MissingReference(_missing(source))
        if texts != self._texts:
            self._texts = tuple(text for text in texts if text is not None)
        self._generation = generation


def _reference(source: Source) -> tuple[str, tuple[str, str]]:
    if isinstance(source, MountedToken):
        return "ServiceAccount", (source.backend, source.file)
    if isinstance(source, MountedConfigKey):
        return "ConfigMap", (source.name, source.key)
    if source.secret_key_ref is not None:
        return "Secret", (source.secret_key_ref.name, source.secret_key_ref.key)
    assert source.config_map_key_ref is not None
    return "ConfigMap", (source.config_map_key_ref.name, source.config_map_key_ref.key)


def _missing(source: Source) -> str:
    kind, (name, key) = _reference(source)
    if isinstance(source, MountedToken):
        path = constants.mounted_token_path(name, key)
        return f"the values directory has no readable token of the ServiceAccount at {path}"
    return f"{kind} {name} has no readable key {key}"


def describe_reference(source: "ValueFrom") -> str:
    """Format a key for messages: `key KEY of KIND NAME`."""
    kind, (name, key) = _reference(source)
    return f"key {key} of {kind} {name}"


def _fill_in(
    entries: "Sequence[Header | EnvVar]", texts: Iterable[str]
) -> Iterable[tuple[str, str]]:
    """Yield names and values; `texts` are the values of the entries that have a reference."""
    left = iter(texts)
    for entry in entries:
        yield entry.name, next(left) if entry.value is None else entry.value


class HeaderSource:
    """Configured headers, encoded for HTTP."""

    def __init__(self, values: MountedValues, headers: "Iterable[Header]") -> None:
        self._entries = tuple(headers)
        self._values = ValueGroup(values, (header.value_from for header in self._entries))
        self.changed = self._values.changed
        """True if outdated values were returned; as `ValueGroup.changed`."""
        self._made_of: tuple[str, ...] | None = None
        self._fields: tuple[tuple[bytes, bytes], ...] = ()

    def __call__(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header fields; the same tuple while the values stay the same.

        Raises MissingReference.
        """
        texts = self._values.cached()
        if texts is not self._made_of:
            self._fields = tuple(
                _header_field(*header) for header in _fill_in(self._entries, texts)
            )
            self._made_of = texts
        return self._fields


def _header_field(name: str, text: str) -> tuple[bytes, bytes]:
    if any(c in text for c in "\r\n\0"):
        raise MissingReference(f"the value of header {name} has more than one line")
    return name.lower().encode("ascii"), text.encode("utf-8")


KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SYSTEMROOT")


class EnvironmentSource:
    """Environment of stdio servers: a few variables of the proxy and the configured ones."""

    def __init__(self, values: MountedValues, variables: "Iterable[EnvVar]") -> None:
        self._entries = tuple(variables)
        self._values = ValueGroup(values, (variable.value_from for variable in self._entries))
        self.changed = self._values.changed
        """True if outdated values were returned; as `ValueGroup.changed`."""

    def __call__(self) -> dict[str, str]:
        """Return the environment for a process that starts now. Raises MissingReference."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return kept | dict(_fill_in(self._entries, self._values.current()))
