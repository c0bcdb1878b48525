"""Merged lists of classes, within their limit of bytes."""

from dataclasses import replace

import pytest

from mcpproxy.limits import access as limits
from mcpproxy.proxy.core.catalog import class_lists
from mcpproxy.proxy.core.catalog.class_lists import OVERHEAD, ClassLists


def test_a_list_is_built_once_for_each_version() -> None:
    lists, built = ClassLists(), []

    def build() -> bytes:
        built.append(1)
        return b"[]"

    for version in ((1,), (1,), (2,), (2,)):
        assert lists.get("a", version, build) == b"[]"
    assert len(built) == 2


def test_lists_of_classes_beyond_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = replace(limits.CLASS_LISTS, value=3 * (100 + OVERHEAD))
    monkeypatch.setattr(class_lists, "CLASS_LISTS", limit)
    lists = ClassLists()
    for key in "abca":
        lists.get(key, (1,), lambda: b"x" * 100)
    assert limit.reached == 0
    lists.get("d", (1,), lambda: b"x" * 100)
    assert limit.reached == 1
    assert lists.size <= limit.value
    # The least recently used one had to go.
    assert lists.get("a", (1,), lambda: b"new") == b"x" * 100
    assert lists.get("b", (1,), lambda: b"new") == b"new"
