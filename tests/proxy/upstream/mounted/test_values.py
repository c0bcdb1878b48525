"""Values from mounted files: updated when they change, named when they are missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import EnvVar, Header
from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.upstream.mounted.values import (
    FRESH,
    EnvironmentSource,
    HeaderSource,
    MountedValues,
    Source,
    ValueGroup,
)
from tests.support.kubelet import Volume

KINDS = [("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")]


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _source(kind: str = "secretKeyRef", name: str = "token", key: str = "header") -> Any:
    return {"valueFrom": {kind: {"name": name, "key": key}}}


def _write(directory: Path, text: str, path: str = "secret/token/header") -> None:
    file = directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _header(name: str = "Authorization", **source: str) -> Header:
    return Header.model_validate({"name": name, **_source(**source)})


def _headers(
    directory: Path, *headers: Header, clock: Callable[[], float] | None = None
) -> HeaderSource:
    return HeaderSource(MountedValues(directory, clock or Clock()), headers or [_header()])


@pytest.mark.parametrize(("kind", "folder"), KINDS)
def test_a_value_is_read_from_where_the_kubelet_mounts_it(
    tmp_path: Path, kind: str, folder: str
) -> None:
    _write(tmp_path, "Bearer x\n", f"{folder}/token/header")
    fields = _headers(tmp_path, _header(kind=kind))()
    assert fields == ((b"authorization", b"Bearer x"),)


def test_given_and_referred_values_keep_their_order(tmp_path: Path) -> None:
    _write(tmp_path, "from a secret")
    plain = [Header(name=name, value=f"is {name}") for name in ("A", "C")]
    fields = _headers(tmp_path, plain[0], _header("B"), plain[1])()
    assert fields == ((b"a", b"is A"), (b"b", b"from a secret"), (b"c", b"is C"))


def test_a_changed_value_is_picked_up_without_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    headers = _headers(tmp_path, clock=clock)
    _write(tmp_path, "one")
    assert headers() == ((b"authorization", b"one"),)
    _write(tmp_path, "two")
    clock.now += FRESH
    assert headers() == ((b"authorization", b"one"),)
    clock.now += 0.01
    assert headers() == ((b"authorization", b"two"),)


def test_headers_that_stay_the_same_are_made_once(tmp_path: Path) -> None:
    clock = Clock()
    headers = _headers(tmp_path, clock=clock)
    _write(tmp_path, "one")
    before = headers()
    clock.now += 2 * FRESH
    assert headers() is before


@pytest.mark.parametrize(("kind", "folder"), KINDS)
def test_a_missing_value_is_named_and_heals(tmp_path: Path, kind: str, folder: str) -> None:
    headers = _headers(tmp_path, _header(kind=kind))
    named = "Secret" if folder == "secret" else "ConfigMap"
    for _ in range(2):
        with pytest.raises(MissingReference, match=f"{named} token has no readable key header"):
            headers()
    _write(tmp_path, "there", f"{folder}/token/header")
    assert headers() == ((b"authorization", b"there"),)


def test_a_removed_value_is_dropped_as_soon_as_a_changed_one(tmp_path: Path) -> None:
    clock = Clock()
    headers = _headers(tmp_path, clock=clock)
    _write(tmp_path, "one")
    headers()
    (tmp_path / "secret" / "token" / "header").unlink()
    clock.now += FRESH + 0.01
    with pytest.raises(MissingReference):
        headers()


def test_a_value_that_is_not_text_is_missing(tmp_path: Path) -> None:
    _write(tmp_path, "")
    (tmp_path / "secret" / "token" / "header").write_bytes(b"\xff\xfe")
    with pytest.raises(MissingReference):
        _headers(tmp_path)()


@pytest.mark.parametrize("text", ["a\nb", "a\r\nX-Evil: 1", "a\0b"])
def test_s6_a_header_of_more_than_one_line_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret" / "token").mkdir(parents=True)
    (tmp_path / "secret" / "token" / "header").write_bytes(text.encode())
    headers = _headers(tmp_path)
    for _ in range(2):
        with pytest.raises(MissingReference, match="more than one line"):
            headers()


def test_s23_a_server_gets_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    _write(tmp_path, "from a secret")
    variables = [
        EnvVar.model_validate({"name": "PLAIN", "value": "a"}),
        EnvVar.model_validate({"name": "TOKEN", **_source()}),
        EnvVar.model_validate({"name": "HOME", "value": "/elsewhere"}),
    ]
    environment = EnvironmentSource(MountedValues(tmp_path, Clock()), variables)()
    assert environment["PATH"] == "/bin"
    assert environment["HOME"] == "/elsewhere"
    assert (environment["PLAIN"], environment["TOKEN"]) == ("a", "from a secret")
    assert "AWS_SECRET_ACCESS_KEY" not in environment


# Several values of one backend

NAMES = ("id", "key", "more")


class Swapped(MountedValues):
    """The kubelet replaces everything while the values are read."""

    def __init__(self, volume: Volume, after: int) -> None:
        """Call a function after this many files were read."""
        super().__init__(volume.directory, Clock())
        self._volume = volume
        self._left = after

    def _text(self, source: Source) -> str | None:
        if self._left == 0:
            self._volume.write(_state("two"))
        self._left -= 1
        return super()._text(source)


def _state(text: str) -> dict[str, str]:
    last = {"configmap/token/more": text}
    return {f"secret/token/{name}": text for name in NAMES[:2]} | last


def _three() -> list[Header]:
    more = _header("more", kind="configMapKeyRef", key="more")
    return [*(_header(name, key=name) for name in NAMES[:2]), more]


@pytest.mark.parametrize("after", range(6))
def test_values_of_a_backend_are_all_of_one_state_of_the_volume(tmp_path: Path, after: int) -> None:
    volume = Volume(tmp_path)
    volume.write(_state("one"))
    values = {value for _, value in HeaderSource(Swapped(volume, after), _three())()}
    assert len(values) == 1


def test_values_are_renewed_together_whenever_each_was_read(tmp_path: Path) -> None:
    volume, clock = Volume(tmp_path), Clock()
    volume.write(_state("one"))
    headers = _headers(tmp_path, *_three(), clock=clock)
    for text, other in (("two", "one"), ("one", "two")):
        headers()
        volume.write(_state(text))
        clock.now += FRESH / 2
        assert {value for _, value in headers()} == {other.encode()}
        clock.now += FRESH
        assert {value for _, value in headers()} == {text.encode()}


def test_a_file_removed_together_with_its_volume_state_is_not_missing(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.write(_state("one"))

    class Between(Swapped):
        """Reads from a directory that is being removed."""

        def _text(self, source: Source) -> str | None:
            gone = self._left == 0
            text = super()._text(source)
            return None if gone else text

    assert {value for _, value in HeaderSource(Between(volume, 1), _three())()} == {b"two"}


def test_no_file_is_read_again_while_the_state_of_the_volume_is_the_same(tmp_path: Path) -> None:
    volume, clock = Volume(tmp_path), Clock()

    class Counted(MountedValues):
        """Counts the files that it reads."""

        count = 0

        def _text(self, source: Source) -> str | None:
            self.count += 1
            return super()._text(source)

    values = Counted(tmp_path, clock)
    headers = HeaderSource(values, _three())
    for text in ("one", "two"):
        volume.write(_state(text))
        for _ in range(5):
            clock.now += 2 * FRESH
            assert {value for _, value in headers()} == {text.encode()}
        assert values.count == 2 * len(NAMES)
        values.count = 0


# Connections and processes with outdated values


def test_a_leaked_object_is_reported_once(tmp_path: Path) -> None:
    group = ValueGroup(MountedValues(tmp_path, Clock()), [_header().value_from])
    _write(tmp_path, "one")
    assert not group.changed()
    group.current()
    assert not group.changed()
    _write(tmp_path, "two")
    # New connections have the new value; the earlier ones still have the old one.
    group.current()
    assert group.changed()
    assert not group.changed()
    (tmp_path / "secret" / "token" / "header").unlink()
    assert group.changed()
    assert not group.changed()
    _write(tmp_path, "two")
    assert not group.changed()
