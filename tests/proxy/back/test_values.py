"""Values from mounted files: picked up when they change, named when they are missing."""

from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import EnvVar, Header
from mcpproxy.proxy.back.values import FRESH, Values, environment, headers
from mcpproxy.proxy.core.errors import ValueMissing


class Clock:
    """Stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _ref(kind: str = "secretKeyRef", **more: Any) -> dict[str, Any]:
    return {
        "name": "Authorization",
        "valueFrom": {kind: {"name": "token", "key": "header"}},
        **more,
    }


def _write(directory: Path, text: str, kind: str = "secret") -> None:
    path = directory / kind / "token" / "header"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _header(kind: str = "secretKeyRef") -> Header:
    return Header.model_validate(_ref(kind))


@pytest.mark.parametrize(
    ("kind", "folder"), [("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")]
)
def test_a_value_is_read_from_where_the_kubelet_mounts_it(
    tmp_path: Path, kind: str, folder: str
) -> None:
    _write(tmp_path, "Bearer x\n", folder)
    found = headers(Values(tmp_path, Clock()), [_header(kind)])
    assert found == ((b"authorization", b"Bearer x"),)


def test_a_changed_value_is_picked_up_without_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    values = Values(tmp_path, clock)
    _write(tmp_path, "one")
    assert values.of(_header()) == "one"
    _write(tmp_path, "two")
    clock.now += FRESH
    assert values.of(_header()) == "one"
    clock.now += 0.01
    assert values.of(_header()) == "two"


def test_a_missing_value_is_named_and_heals(tmp_path: Path) -> None:
    values = Values(tmp_path, Clock())
    with pytest.raises(ValueMissing, match="Secret token has no readable key header"):
        values.of(_header())
    _write(tmp_path, "there")
    assert values.of(_header()) == "there"


def test_a_value_that_is_no_text_is_missing(tmp_path: Path) -> None:
    _write(tmp_path, "")
    (tmp_path / "secret" / "token" / "header").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueMissing):
        Values(tmp_path, Clock()).of(_header())


@pytest.mark.parametrize("text", ["a\nb", "a\r\nX-Evil: 1", "a\0b"])
def test_s6_a_header_of_more_than_one_line_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret" / "token").mkdir(parents=True)
    (tmp_path / "secret" / "token" / "header").write_bytes(text.encode())
    with pytest.raises(ValueMissing, match="more than one line"):
        headers(Values(tmp_path, Clock()), [_header()])


def test_s23_a_server_gets_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    _write(tmp_path, "from a secret")
    given = [
        EnvVar.model_validate({"name": "PLAIN", "value": "a"}),
        EnvVar.model_validate({**_ref(), "name": "TOKEN"}),
        EnvVar.model_validate({"name": "HOME", "value": "/elsewhere"}),
    ]
    found = environment(Values(tmp_path, Clock()), given)
    assert found["PATH"] == "/bin"
    assert found["HOME"] == "/elsewhere"
    assert (found["PLAIN"], found["TOKEN"]) == ("a", "from a secret")
    assert "AWS_SECRET_ACCESS_KEY" not in found
