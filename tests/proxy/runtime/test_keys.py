"""A running proxy follows its sealing keys."""

import logging
from pathlib import Path

import httpx2
import pytest

from mcpproxy.proxy import sealing_keys as module
from mcpproxy.proxy.core.tokens import key_rotation
from mcpproxy.proxy.core.tokens.key_rotation import SETTLE
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer
from mcpproxy.proxy.sealing_keys import SealingKeyWatcher
from tests.proxy.runtime.raw import Raw, rpc
from tests.proxy.runtime.serving import proxied
from tests.proxy.runtime.waiting import eventually

OLD, NEW = b"o" * 32, b"n" * 32


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _with(*keys: bytes) -> Sealer:
    return Sealer(keys, lambda size: b"r" * size)


def test_a_changed_directory_changes_first_the_opening_and_later_the_sealing_keys(
    tmp_path: Path,
) -> None:
    clock = Clock()
    (tmp_path / "current").write_bytes(OLD)
    watched = SealingKeyWatcher(tmp_path, clock)
    early = watched.sealer.seal("x", 1)
    (tmp_path / "previous").write_bytes(OLD)
    (tmp_path / "current").write_bytes(NEW)
    clock.now = 100.0
    watched.reload()
    assert watched.sealer.open("x", _with(NEW).seal("x", 2)) == 2
    assert _with(OLD).open("x", watched.sealer.seal("x", 3)) == 3
    clock.now += SETTLE
    watched.reload()
    assert _with(NEW).open("x", watched.sealer.seal("x", 4)) == 4
    assert watched.sealer.open("x", early) == 1


def test_unusable_keys_change_nothing_and_are_complained_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "current").write_bytes(OLD)
    watched = SealingKeyWatcher(tmp_path, Clock())
    token = watched.sealer.seal("x", 1)
    with caplog.at_level(logging.WARNING):
        for content in (b"short", b"short"):
            (tmp_path / "current").write_bytes(content)
            watched.reload()
        (tmp_path / "current").unlink()
        watched.reload()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "a sealing key requires at least 16 bytes",
        "the sealing key is missing",
    ]
    assert watched.sealer.open("x", token) == 1
    (tmp_path / "current").write_bytes(NEW)
    watched.reload()
    assert watched.sealer.open("x", _with(NEW).seal("x", 2)) == 2


def test_a_key_that_is_too_short_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "current").write_bytes(b"short")
    with pytest.raises(ValueError, match="at least 16 bytes"):
        SealingKeyWatcher(tmp_path, Clock())


def test_another_key_opens_nothing() -> None:
    with pytest.raises(InvalidToken):
        _with(OLD).open("x", _with(NEW).seal("x", 1))


async def test_sessions_outlive_a_change_of_keys_and_new_ones_are_sealed_with_the_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY", 0.02)
    monkeypatch.setattr(key_rotation, "SETTLE", 0.0)
    (tmp_path / "current").write_bytes(OLD)
    backend = {"name": "p", "url": "http://127.0.0.1:9/mcp"}
    options = {"sealing_keys": tmp_path}
    async with proxied(backend, options=options) as running, httpx2.AsyncClient() as http:
        before = Raw(running.url, http)
        await before.initialize()
        assert _with(OLD).open("session", before.session or "")
        (tmp_path / "previous").write_bytes(OLD)
        (tmp_path / "current").write_bytes(NEW)
        after = Raw(running.url, http)

        async def sealed_anew() -> bool:
            await after.initialize()
            return _opens(_with(NEW), after.session or "")

        await eventually(sealed_anew, "a session sealed with the new key")
        for client in (before, after):
            assert (await client.post(rpc("tools/list"))).status_code == 200


def _opens(sealer: Sealer, token: str) -> bool:
    try:
        sealer.open("session", token)
    except InvalidToken:
        return False
    return True
