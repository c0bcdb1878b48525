"""Values that a manifest refers to: files that the kubelet mounts and replaces when they change."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from mcpproxy.api.constants import value_path
from mcpproxy.api.v1alpha1 import EnvVar, Header, ValueFrom
from mcpproxy.proxy.core.errors import MissingReference

FRESH: Final = 1.0
"""Seconds that values are used without looking at their files again."""
GENERATION: Final = "..data"
"""The link that the kubelet points to another directory when any value below has changed."""
_TRIES: Final = 5

Texts = tuple[str | None, ...]


class MountedValues:
    """Reads values below one directory."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._directory = directory

    def read(self, sources: Sequence[ValueFrom]) -> tuple[str, Texts]:
        """What the files hold, all of one generation; None for what is not readable."""
        before = self._once(sources)
        for _ in range(_TRIES):
            again = self._once(sources)
            if again == before:
                break
            before = again
        return before

    def _once(self, sources: Sequence[ValueFrom]) -> tuple[str, Texts]:
        return self.generation(), tuple(map(self._text, sources))

    def generation(self) -> str:
        """Which state of all values is there: each has another name, and none is ever changed.

        Empty where no kubelet mounts them: files may change one by one there.
        """
        try:
            return os.readlink(self._directory / GENERATION)
        except OSError:
            return ""

    def _text(self, source: ValueFrom) -> str | None:
        kind, ref = _reference(source)
        path = self._directory / value_path(kind.lower(), ref[0], ref[1])
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            return None


class ValueGroup:
    """Values that are used together: never one from before a change and one from after it."""

    def __init__(self, values: MountedValues, sources: Iterable[ValueFrom | None]) -> None:
        self._values = values
        self._sources = tuple(one for one in sources if one is not None)
        self._read_at = float("-inf")
        self._texts: tuple[str, ...] = ()
        self._generation = ""
        self._in_use: set[tuple[str, ...]] = set()

    def fresh(self) -> tuple[str, ...]:
        """The values, read within the last second; the same tuple while they stay the same.

        Raises ValueMissing that names what is not there.
        """
        if self._sources and self._values.clock() - self._read_at > FRESH:
            self._look()
        return self._texts

    def now(self) -> tuple[str, ...]:
        """The values as they are now. Raises ValueMissing."""
        self._look()
        return self._texts

    def changed(self) -> bool:
        """Whether others than those of now were given out since this was asked last."""
        before, self._in_use = self._in_use, set()
        if not before:
            return False
        try:
            return before != {self.now()}
        except MissingReference:
            return True

    def _look(self) -> None:
        self._read_at = float("-inf")
        if not self._generation or self._generation != self._values.generation():
            self._read()
        self._in_use.add(self._texts)
        self._read_at = self._values.clock()

    def _read(self) -> None:
        self._generation = ""
        generation, found = self._values.read(self._sources)
        for source, text in zip(self._sources, found, strict=True):
            if text is None:
                kind, ref = _reference(source)
                raise MissingReference(f"{kind} {ref[0]} has no readable key {ref[1]}")
        if found != self._texts:
            self._texts = tuple(text for text in found if text is not None)
        self._generation = generation


def _reference(source: ValueFrom) -> tuple[str, tuple[str, str]]:
    if source.secret_key_ref is not None:
        return "Secret", (source.secret_key_ref.name, source.secret_key_ref.key)
    assert source.config_map_key_ref is not None
    return "ConfigMap", (source.config_map_key_ref.name, source.config_map_key_ref.key)


def describe_reference(source: ValueFrom) -> str:
    """A key as messages name it: `key KEY of KIND NAME`."""
    kind, (name, key) = _reference(source)
    return f"key {key} of {kind} {name}"


def _filled(given: Sequence[Header | EnvVar], texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Names and values; `texts` are those of them that are referred to."""
    left = iter(texts)
    for one in given:
        yield one.name, next(left) if one.value is None else one.value


class HeaderSource:
    """Configured headers, ready to send."""

    def __init__(self, values: MountedValues, given: Iterable[Header]) -> None:
        self._given = tuple(given)
        self._values = ValueGroup(values, (one.value_from for one in self._given))
        self.changed = self._values.changed
        """See Together."""
        self._made_of: tuple[str, ...] | None = None
        self._lines: tuple[tuple[bytes, bytes], ...] = ()

    def __call__(self) -> tuple[tuple[bytes, bytes], ...]:
        """The same tuple while the values stay the same. Raises ValueMissing."""
        texts = self._values.fresh()
        if texts is not self._made_of:
            self._lines = tuple(_line(*one) for one in _filled(self._given, texts))
            self._made_of = texts
        return self._lines


def _line(name: str, text: str) -> tuple[bytes, bytes]:
    if any(c in text for c in "\r\n\0"):
        raise MissingReference(f"the value of header {name} is more than one line")
    return name.lower().encode("ascii"), text.encode("utf-8")


KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SYSTEMROOT")


class EnvironmentSource:
    """The environment of stdio servers: a few of our own variables and the configured ones."""

    def __init__(self, values: MountedValues, given: Iterable[EnvVar]) -> None:
        self._given = tuple(given)
        self._values = ValueGroup(values, (one.value_from for one in self._given))
        self.changed = self._values.changed
        """See Together."""

    def __call__(self) -> dict[str, str]:
        """What a process that starts now gets. Raises ValueMissing."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return kept | dict(_filled(self._given, self._values.now()))
